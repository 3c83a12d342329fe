import { z } from 'zod';
import { SEVERITIES } from '../../model/finding.ts';
import {
  SUPPRESSION_ORIGINS,
  SUPPRESSION_STATES,
  SuppressionScope,
} from '../../model/suppression.ts';
import { DISPOSITIONS, FindingStatus } from '../../model/triage.ts';
import { FindingView } from './finding_view.ts';
import { NextCursor, Time } from './primitives.ts';

/** One step in the life of a finding, and what holds since. */
export const StepView = FindingStatus.omit({ finding_id: true, rule_id: true }).meta({
  id: 'FindingStep',
});

/** A finding with what became of it. */
export const TriagedFindingView = FindingView.extend({
  /** The last step; null for the moment between detection and triage. */
  triage: StepView.nullable(),
  /** What an analyst concluded last; null where nobody has. */
  disposition: z.enum(DISPOSITIONS).nullable(),
}).meta({ id: 'TriagedFinding' });
export type TriagedFindingView = z.infer<typeof TriagedFindingView>;

export const TriagedFindingList = z
  .object({
    items: z.array(TriagedFindingView),
    /** Findings that match the filters, over all pages. */
    total: z.number().int(),
    next_cursor: NextCursor,
  })
  .meta({ id: 'FindingList' });
export type TriagedFindingList = z.infer<typeof TriagedFindingList>;

export const StepList = z.object({ items: z.array(StepView) }).meta({ id: 'FindingStepList' });

export const SuppressionView = z
  .object({
    suppression_id: z.string(),
    state: z.enum(SUPPRESSION_STATES),
    origin: z.enum(SUPPRESSION_ORIGINS),
    scope: SuppressionScope,
    severity_max: z.enum(SEVERITIES),
    owner: z.string(),
    reason: z.string(),
    created_by: z.string(),
    created_at: Time,
    expires_at: Time,
    /** '' while nobody removed it. */
    removed_at: z.string(),
    removed_by: z.string(),
    removed_reason: z.string(),
    /** Findings that it has hidden, each counted once. */
    hits: z.number().int(),
    /** '' where it never hid one. */
    last_hit_at: z.string(),
  })
  .meta({ id: 'Suppression' });

export const SuppressionList = z
  .object({ items: z.array(SuppressionView) })
  .meta({ id: 'SuppressionList' });

const Counts = z.record(z.string(), z.number().int());

export const PreviewView = z
  .object({
    days: z.number().int(),
    hidden: z.number().int(),
    broke_through: z.number().int(),
    severity_max: z.enum(SEVERITIES),
    by_severity: Counts,
    by_rule: Counts,
    entities: z.number().int(),
    top_entities: z.array(
      z.object({
        entity_type: z.string(),
        entity_ref: z.string(),
        client_id: z.string(),
        findings: z.number().int(),
      }),
    ),
  })
  .meta({ id: 'SuppressionPreview' });

export const DispositionView = z
  .object({
    disposition_id: z.string(),
    finding_id: z.string(),
    rule_id: z.string(),
    rule_version: z.number().int(),
    verdict: z.string(),
    severity: z.enum(SEVERITIES),
    disposition: z.enum(DISPOSITIONS),
    author: z.string(),
    note: z.string(),
    decided_at: Time,
  })
  .meta({ id: 'Disposition' });

export const DispositionList = z
  .object({ items: z.array(DispositionView) })
  .meta({ id: 'DispositionList' });

export const PrecisionList = z
  .object({
    items: z.array(
      z.object({
        rule_id: z.string(),
        judged: z.number().int(),
        true_positive: z.number().int(),
        benign_positive: z.number().int(),
        false_positive: z.number().int(),
        precision: z.number(),
        accuracy: z.number(),
        proposed_for_retirement: z.boolean(),
      }),
    ),
  })
  .meta({ id: 'RulePrecisionList' });
