import { z } from 'zod';
import { FINDING_STATES, SEVERITIES } from './finding.ts';

/** What becomes of a finding: `active` ones are notified, the others are kept and shown with the reason. */
export const TREATMENTS = ['active', 'suppressed', 'inhibited'] as const;
export type Treatment = (typeof TREATMENTS)[number];

/**
 * What happened to a finding, as its history tells it; one notification each, at most. A change of more than one thing at
 * once has the name that comes first here. `updated`: the verdict changed, or the severity fell.
 */
export const FINDING_CHANGES = [
  'opened',
  'reopened',
  'closed',
  'superseded',
  'suppressed',
  'inhibited',
  'released',
  'escalated',
  'updated',
] as const;
export type FindingChange = (typeof FINDING_CHANGES)[number];

/** What decided about the treatment; `treated_by` is its id. */
export const TREATED_KINDS = ['', 'suppression', 'finding', 'event', 'slo'] as const;
export type TreatedKind = (typeof TREATED_KINDS)[number];

/**
 * One step in the life of a finding, and what holds since. Columns of `grantscope.finding_changes` (every step) and
 * `grantscope.finding_status` (the last one).
 */
export const FindingStatus = z.object({
  finding_id: z.string(),
  /** 1, 2, ...: position in the finding's history. */
  change_no: z.number().int(),
  change: z.enum(FINDING_CHANGES),
  /** ISO 8601. */
  changed_at: z.string(),
  rule_id: z.string(),
  state: z.enum(FINDING_STATES),
  severity: z.enum(SEVERITIES),
  verdict: z.string(),
  treatment: z.enum(TREATMENTS),
  treated_kind: z.enum(TREATED_KINDS),
  /** Id of the suppression, finding or event, or the SLO; '' where active. */
  treated_by: z.string(),
  /** The inhibition's id; '' otherwise. */
  inhibition: z.string(),
  /** The owner of the suppression; '' otherwise. */
  treated_owner: z.string(),
  /** Why. May be set on active findings, too: what broke through which suppression. */
  treated_reason: z.string(),
  /** ISO 8601: when the suppression ends, or the event time up to which the inhibition reaches; '' where active. */
  treated_until: z.string(),
  /** How often the finding was opened again after it had closed or been withdrawn. */
  reopened: z.number().int(),
});
export type FindingStatus = z.infer<typeof FindingStatus>;

/** What an analyst concluded about a finding. */
export const DISPOSITIONS = ['true_positive', 'benign_positive', 'false_positive'] as const;
export type Disposition = (typeof DISPOSITIONS)[number];
