import { z } from 'zod';

/** Low to high. Page-worthy from `high` on. */
export const SEVERITIES = ['info', 'low', 'medium', 'high', 'critical'] as const;
export type Severity = (typeof SEVERITIES)[number];

/** What a finding is about. `entity_ref` is a reference for token, family, code, subject, session and grant. */
export const ENTITY_TYPES = [
  'token',
  'family',
  'code',
  'subject',
  'session',
  'grant',
  'client',
  'network',
  'key',
  'redirect_uri',
  'source',
] as const;
export type EntityType = (typeof ENTITY_TYPES)[number];

/** `superseded`: a late event changed the episode, and another finding took this one's place. */
export const FINDING_STATES = ['open', 'closed', 'superseded'] as const;
export type FindingState = (typeof FINDING_STATES)[number];

export const FINDING_FAMILIES = [
  'token_replay',
  'scope_escalation',
  'redirect_abuse',
  'credential_abuse',
  'protocol',
  'operations',
  'hygiene',
] as const;
export type FindingFamily = (typeof FINDING_FAMILIES)[number];

/**
 * What a detector concluded about one entity in one episode. Its id is a hash of rule, version, entity and
 * episode: the same events give the same findings, in whatever order they arrive.
 * Columns of `grantscope.findings` have the same names (store/migrations/0002).
 */
export const Finding = z.object({
  finding_id: z.string(),
  tenant: z.string(),
  rule_id: z.string(),
  rule_version: z.number().int(),
  title: z.string(),
  family: z.enum(FINDING_FAMILIES),
  severity: z.enum(SEVERITIES),
  /** 0-100: how often the verdict is right, as estimated by the rule. */
  confidence: z.number().int().min(0).max(100),
  /** confidence x impact / 100, 0-100. */
  risk: z.number().int().min(0).max(100),
  entity_type: z.enum(ENTITY_TYPES),
  entity_ref: z.string(),
  /** Names the episode within the entity; part of the id. */
  episode: z.string(),
  /** For instance `theft`, `benign_race`, `lost_response`. */
  verdict: z.string(),
  state: z.enum(FINDING_STATES),
  /** One sentence: why it fired. */
  summary: z.string(),
  /** What speaks for the verdict, most telling first. */
  reasons: z.array(z.string()),
  /** Facts by name, as the rule's docs describe them. */
  evidence: z.record(z.string(), z.unknown()),
  /** Sorted. */
  event_ids: z.array(z.string()),
  token_refs: z.array(z.string()),
  client_id: z.string(),
  subject_ref: z.string(),
  issuer: z.string(),
  networks: z.array(z.string()),
  /** Adapters whose events are behind it; sorted. */
  sources: z.array(z.string()),
  /** ISO 8601, of the first and last event of the evidence. */
  first_event_time: z.string(),
  last_event_time: z.string(),
  /** RFC sections, MITRE ATT&CK ids. */
  references: z.array(z.string()),
  runbook: z.string(),
  /** ISO 8601: when the engine first and last wrote it. Not part of what must be reproducible. */
  detected_at: z.string(),
  updated_at: z.string(),
});
export type Finding = z.infer<typeof Finding>;
