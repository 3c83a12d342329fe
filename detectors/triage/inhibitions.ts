import type { EventKind } from '../../model/kinds.ts';

/**
 * What must be known and equal on both sides for a cause to mute a consequence. `host`: all events of the consequence were
 * told by the instance that the cause is about; where one was told by an instance without a name, the sources have to do.
 */
export type InhibitionScope = 'issuer' | 'client' | 'source' | 'host';

/** What causes the consequences. */
export type InhibitionCause =
  | {
      readonly kind: 'event';
      readonly kinds: readonly EventKind[];
      /** Entries of `ext` of which the event has one: for kinds that are too wide by themselves. */
      readonly ext?: readonly { readonly name: string; readonly value: string }[];
    }
  | { readonly kind: 'finding'; readonly rule: string; readonly verdicts: readonly string[] }
  /** An SLO that burns as fast as its page tier `fast` says. */
  | { readonly kind: 'slo'; readonly slos: readonly string[] };

/**
 * A known cause mutes its known consequences for a stated time of EVENTS, so that it does not matter when either was
 * seen. A finding is muted while all its evidence lies between `beforeMs` before the cause began and `forMs` after
 * it ended; evidence beyond releases it. Critical findings are never muted.
 */
export interface Inhibition {
  readonly id: string;
  readonly cause: InhibitionCause;
  readonly mutes: readonly {
    readonly rule: string;
    /** Absent: all. */
    readonly verdicts?: readonly string[];
  }[];
  readonly beforeMs: number;
  readonly forMs: number;
  /** All of them must hold; empty only for SLOs, which are about the whole installation. */
  readonly scope: readonly InhibitionScope[];
  /** Shown with the finding. */
  readonly reason: string;
}

const MINUTE_MS = 60_000;

/** Retries after an answer that never came: honest, and made by the outage itself. */
const RETRIES = [
  { rule: 'refresh_token_reuse', verdicts: ['benign_race', 'lost_response'] },
  { rule: 'code_redeemed_twice', verdicts: ['retry'] },
  { rule: 'token_endpoint_storm', verdicts: ['storm'] },
] as const;

/** Services that cannot be reached; refusals are another thing. */
const UNREACHABLE = { rule: 'introspection_outage', verdicts: ['outage'] } as const;

/** Every inhibition there is. */
export const INHIBITIONS: readonly Inhibition[] = [
  {
    id: 'key_rotation',
    // The catalogue: a key id that is unknown within 10 minutes of a rotation is a cache that is behind.
    cause: { kind: 'event', kinds: ['key_rotated'] },
    mutes: [
      // Never what was accepted.
      { rule: 'key_or_alg_forgery', verdicts: ['rotation_race', 'refused_burst'] },
      UNREACHABLE,
    ],
    beforeMs: MINUTE_MS,
    forMs: 10 * MINUTE_MS,
    scope: ['issuer'],
    reason: 'signing keys were rotated; verifiers that cache keys refuse tokens until they reload',
  },
  {
    id: 'clock_skew',
    cause: { kind: 'finding', rule: 'clock_skew', verdicts: ['host_clock'] },
    mutes: [
      { rule: 'token_lifetime_anomaly' },
      { rule: 'token_endpoint_storm', verdicts: ['storm'] },
    ],
    beforeMs: 5 * MINUTE_MS,
    forMs: 15 * MINUTE_MS,
    // A source that names no host may read many of them: so nothing is muted here that could be theft.
    scope: ['host'],
    reason: 'a clock is wrong; times before and after each other cannot be trusted',
  },
  {
    id: 'deploy',
    // No source tells deploys by itself. A pipeline posts one: policy_changed with ext.change = deploy.
    cause: {
      kind: 'event',
      kinds: ['policy_changed'],
      ext: [{ name: 'change', value: 'deploy' }],
    },
    mutes: [...RETRIES, UNREACHABLE],
    beforeMs: MINUTE_MS,
    forMs: 10 * MINUTE_MS,
    scope: ['issuer'],
    reason: 'a deployment was under way; connections were cut and requests repeated',
  },
  {
    id: 'as_outage',
    cause: { kind: 'slo', slos: ['token_issuance_success'] },
    mutes: [...RETRIES, UNREACHABLE],
    // The long window of the fast tier: it burns because of what happened within it.
    beforeMs: 60 * MINUTE_MS,
    forMs: 15 * MINUTE_MS,
    scope: [],
    reason: 'the authorization server fails so much that the error budget burns; clients retry',
  },
  {
    id: 'introspection_outage',
    cause: { kind: 'finding', rule: 'introspection_outage', verdicts: ['outage'] },
    mutes: [...RETRIES],
    beforeMs: 5 * MINUTE_MS,
    forMs: 15 * MINUTE_MS,
    scope: ['issuer'],
    reason:
      'introspection or the key set cannot be reached; tokens are refused and requests repeated',
  },
];
