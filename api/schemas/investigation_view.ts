import { z } from 'zod';
import { FindingView } from './finding_view.ts';
import { Time } from './primitives.ts';

/** Values of one field over the events of an investigation, most frequent first. */
export const Facet = z
  .object({
    /** Distinct values in all; `values` lists the most frequent. */
    total: z.number().int(),
    values: z.array(z.object({ name: z.string(), events: z.number().int() })),
  })
  .meta({ id: 'Facet' });
export type Facet = z.infer<typeof Facet>;

export const LedgerToken = z
  .object({
    ref: z.string(),
    type: z.string(),
    ref_kind: z.string(),
    relation: z.enum(['self', 'parent', 'child', 'family', 'related']),
    family_ref: z.string(),
    parent_ref: z.string(),
    first_seen: Time,
    last_seen: Time,
    events: z.number().int(),
    expires_at: Time.nullable(),
    issued: z.number().int(),
    presented: z.number().int(),
    consumed: z.number().int(),
    revoked_at: Time.nullable(),
  })
  .meta({ id: 'LedgerToken' });
export type LedgerToken = z.infer<typeof LedgerToken>;

export const InvestigationView = z
  .object({
    type: z.string(),
    ref: z.string(),
    events: z.number().int(),
    failures: z.number().int(),
    first_seen: Time.nullable(),
    last_seen: Time.nullable(),
    kinds: Facet,
    clients: Facet,
    networks: Facet,
    user_agents: Facet,
    scopes: Facet,
    resources: Facet,
    subjects: Facet,
    sessions: Facet,
    sources: Facet,
    /** For tokens and families: the token and its relatives, oldest first. */
    tokens: z.array(LedgerToken),
    /** True where the family has more tokens than are listed. */
    tokens_truncated: z.boolean(),
    /** Newest first, at most 50. */
    findings: z.array(FindingView),
  })
  .meta({ id: 'Investigation' });
export type InvestigationView = z.infer<typeof InvestigationView>;

export const ReferenceView = z
  .object({
    ref: z.string(),
    /** Where the reference is known; most useful first. */
    known_as: z.array(
      z.object({
        type: z.enum(['finding', 'token', 'family', 'subject', 'session', 'grant', 'event']),
        /** Rows that name it. */
        count: z.number().int(),
      }),
    ),
  })
  .meta({ id: 'ReferenceView' });
export type ReferenceView = z.infer<typeof ReferenceView>;

export const HashAnswer = z
  .object({
    references: z.array(
      z.object({
        /** Key that made it; '' for a `jti` that is its own reference. */
        key_id: z.string(),
        ref: z.string(),
        ref_kind: z.enum(['jti', 'hmac']),
      }),
    ),
  })
  .meta({ id: 'HashAnswer' });
export type HashAnswer = z.infer<typeof HashAnswer>;
