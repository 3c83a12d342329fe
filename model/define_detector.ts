import type { z } from 'zod';
import type { AuthEvent } from './auth_event.ts';
import type { ClientType } from './client_metadata.ts';
import type { PartialEvent } from './complete_event.ts';
import type { EntityType, FindingFamily, Severity } from './finding.ts';
import type { Ref } from './ids.ts';
import type { EventKind } from './kinds.ts';
import type { Sql } from './sql.ts';

/**
 * A detector is one file in `detectors/rules/` with `defineDetector({...})` as its default export.
 *
 * Its logic has three steps, and the engine (detectors/engine.ts) is the same live and in a backtest:
 * 1. `candidates`: which entities could what is new concern? Cheap SQL, and **monotone**: more events
 *    never take an entity out, or a finding could not be withdrawn when a late event explains it.
 * 2. `history` (and `follow`): the events that decide about those entities, by event time.
 * 3. `evaluate`: a pure function of these events, sorted by (time, event_id) and free of duplicates.
 *    Nothing else goes into a finding, which is why findings don't depend on the order of arrival.
 */

/** What a client was registered with at a point of event time; an undefined part is unknown. */
export interface RegisteredClient {
  readonly scopes: ReadonlySet<string> | undefined;
  readonly redirectUris: readonly string[] | undefined;
  /** RFC 7591 section 2, as are the next two. */
  readonly authMethod: string | undefined;
  readonly grantTypes: ReadonlySet<string> | undefined;
  readonly responseTypes: ReadonlySet<string> | undefined;
  /** Stated, or follows from the authentication method (RFC 6749 section 2.1). */
  readonly type: ClientType | undefined;
  /** Ids of the client's own keys (`jwks`). */
  readonly keyIds: ReadonlySet<string> | undefined;
  /** A client secret is set: stated, or follows from the authentication method. */
  readonly hasSecret: boolean | undefined;
  /** When the client came to be, ns; undefined where that is not known, or lies after `time`. */
  readonly registeredAt: bigint | undefined;
}

/** What SQL needs to leave out what was registered all along; see `registryKey`. */
export interface RegistryKeys {
  /** Clients whose registration is known for at least part of the time. */
  readonly clients: readonly string[];
  /** `registryKey(client, value)` of what every known version of the registration holds. */
  readonly always: readonly string[];
}

/** Registered clients: grantscope.yaml first, then client_registered and client_updated events. */
export interface ClientLookup {
  at(clientId: string, time: bigint): RegisteredClient;
  readonly scopeKeys: RegistryKeys;
  readonly redirectKeys: RegistryKeys;
}

/** Joins a client and one of its values; SQL builds the same with `concat(client_id, '\n', value)`. */
export function registryKey(clientId: string, value: string): string {
  return `${clientId}\n${value}`;
}

/** A share of all references, by their lower 64 bits, [from, to): a stretch of the ledger's order. */
export interface RefSlice {
  readonly from: bigint;
  /** Exclusive; 2^64 means: to the end. */
  readonly to: bigint;
}

/** What is new: rows that satisfy `condition`. */
export interface CandidateScope {
  readonly tenant: string;
  /** On `inserted_at` (live) or on `time` (backtest); auth_events and token_events have both columns. */
  readonly condition: Sql;
  /** Asks for entities of this slice only; absent: for all. Only rules with `sliced` get one. */
  readonly slice?: RefSlice | undefined;
  /** Event times of the new rows lie in [timeFrom, timeTo], ns. */
  readonly timeFrom: bigint;
  readonly timeTo: bigint;
  readonly clients: ClientLookup;
}

/**
 * One UTC day of event time, ns, for rules with an episode per day; events are read from `readFrom` on,
 * so that a sliding window reaches back over midnight.
 */
export interface DayWindow {
  readonly readFrom: bigint;
  readonly from: bigint;
  /** Exclusive. */
  readonly to: bigint;
}

export interface HistorySelection {
  readonly tenant: string;
  readonly entities: readonly string[];
  /** Absent for rules whose episode is the entity's whole life. */
  readonly window: DayWindow | undefined;
  readonly clients: ClientLookup;
}

/** An aggregate over event time that a rule asks for beyond single events: a count by minute, a percentile by day. */
export interface EntityFact {
  readonly name: string;
  /** Tells facts of one name apart (a network, a client); '' where there is one series. */
  readonly key: string;
  /** Event time, ns. */
  readonly at: bigint;
  readonly value: number;
}

export interface EvaluateInput<P> {
  readonly entity: string;
  /** Sorted by (time, event_id), each event once. */
  readonly events: readonly AuthEvent[];
  /** What the rule's `facts` gave for the entity, sorted by (name, key, at). */
  readonly facts: readonly EntityFact[];
  readonly params: P;
  readonly clients: ClientLookup;
  readonly window: DayWindow | undefined;
}

/** More to read before the evaluation: events that mention these tokens, and grant_revoked events of these families and grants. */
export interface FollowRefs {
  readonly tokens?: readonly Ref[];
  readonly families?: readonly Ref[];
  readonly grants?: readonly Ref[];
}

/** New events that look alike, as the one scan that all rules share tells them. */
export interface EventFact {
  readonly kind: string;
  readonly outcome: string;
  /** Role and type of each token that these events mention: two lists of one length. */
  readonly roles: readonly string[];
  readonly types: readonly string[];
  /** Whether they name a grant or a token family. */
  readonly hasGroup: boolean;
}

/** True where an event of this fact mentions a token of one of the types in one of the roles. */
export function mentions(
  fact: EventFact,
  roles: readonly string[],
  types: readonly string[],
): boolean {
  return fact.roles.some((role, i) => roles.includes(role) && types.includes(fact.types[i] ?? ''));
}

/** Compact rows about new events: a reference and up to `FACETS_MAX` numbers each. */
export interface WatchStream {
  /** Spares the query where no new event satisfies it; every row of the stream must. */
  readonly concerns: (fact: EventFact) => boolean;
  /** A table, with ARRAY JOIN where references are in a list. The engine adds tenant and what is new. */
  readonly from: Sql;
  readonly where: Sql;
  /** UUID. */
  readonly key: Sql;
  /** UInt64 each, of which 32 bits are kept; 0 stands for unknown. */
  readonly facets: readonly Sql[];
}

/** Facets per stream. */
export const FACETS_MAX = 3;

/** What was seen of one entity, facet by facet, over all rows that the filter remembers. */
export interface SeenFacets {
  /** A known value was seen. */
  has(facet: number): boolean;
  /** Two different known values were seen. */
  varies(facet: number): boolean;
}

/**
 * A cheap first look at what is new, kept in a bounded memory (detectors/watch_memory.ts): which entities are worth a
 * look-up? It may name too many. It must name every entity that `evaluate` could conclude about differently after
 * these events, as long as the memory holds all that came before; what was forgotten is found by the sweep.
 */
export type Watch = FacetWatch | MarkWatch;

/** Names entities whose facets satisfy a condition, at every row from then on. */
export interface FacetWatch {
  readonly by: 'facets';
  readonly stream: WatchStream;
  /** Monotone: more rows never make it false. */
  readonly isHot: (seen: SeenFacets) => boolean;
  /**
   * Rows about tokens that `follow` may ask for: one whose token was followed in a finding names the finding's entity.
   */
  readonly followed?: WatchStream;
}

/**
 * Names tokens that are used after a mark (a revocation). A mark names the token itself or a group (family, grant), and
 * links say which groups a token is of.
 */
export interface MarkWatch {
  readonly by: 'marks';
  /** Key: a token. */
  readonly uses: WatchStream;
  /** Key: a token or group. Facets: event time, s; the key as a number, as in `links`; 1 for a token, 0 for a group. */
  readonly marks: WatchStream;
  /** Key: a token. Facets: two groups that it is of, each as a number; event time of its issue, s. */
  readonly links: WatchStream;
  /** A use within this time after the mark does not count, ms: so only late marks concern uses that were read before. */
  readonly allowedMs: number;
}

/**
 * Events without which a rule concludes nothing, whatever else is new: refused requests for a rule about guessing. Among
 * new events whose times begin at T, `candidates` finds nothing unless one of these is stored with a time of T - reachMs or later.
 */
export interface Trigger {
  /** On columns of auth_events. */
  readonly condition: Sql;
  /** Absent: of any age. */
  readonly reachMs?: number;
}

/** The episode of rules that conclude once per entity. */
export const LIFETIME_EPISODE = 'lifetime';

/** One conclusion about the entity. The engine makes a Finding of it. */
export interface Signal {
  /** `LIFETIME_EPISODE`, or the ISO time of the first signalling event within the day. */
  readonly episode: string;
  /** What the entity is, where the rule speaks of more than one sort of thing. Default: the rule's `entity`. */
  readonly entityType?: EntityType;
  readonly verdict: string;
  readonly severity: Severity;
  /** 0-100. */
  readonly confidence: number;
  readonly summary: string;
  /** Most telling first. */
  readonly reasons: readonly string[];
  /** JSON values; keys are documented in the rule's `evidence`. */
  readonly evidence: Readonly<Record<string, unknown>>;
  /** The events behind it, in order. */
  readonly events: readonly AuthEvent[];
  readonly tokenRefs: readonly Ref[];
  /**
   * The client that it is about, '' for none, where `events` are examples of many: such a finding is about no subject, and the
   * client of an example did nothing of its own. Default: client and subject of the first event that names one; where the
   * entity is a source or a network, those that all events share.
   */
  readonly ofClient?: string;
}

/** An event of an example: `t` is in seconds after `EXAMPLE_START_MS`; `id` names it (default: its position). */
export type ExampleEvent = Omit<PartialEvent, 'event_id' | 'time' | 'tenant'> & {
  readonly t: number;
  readonly id?: string;
};

export interface ExpectedFinding {
  readonly entity: string;
  readonly episode: string;
  readonly verdict: string;
  readonly severity: Severity;
  /** The whole evidence, exactly. */
  readonly evidence: Readonly<Record<string, unknown>>;
}

/** A timed sequence with the exact findings expected: none where the rule must stay silent. */
export interface DetectorExample {
  readonly name: string;
  readonly parameters?: Readonly<Record<string, unknown>>;
  readonly clients?: readonly {
    readonly client_id: string;
    readonly scope?: string;
    readonly redirect_uris?: string[];
    readonly grant_types?: string[];
    readonly response_types?: string[];
    readonly token_endpoint_auth_method?: string;
    readonly client_type?: ClientType;
    readonly jwks_kids?: string[];
    readonly has_secret?: boolean;
    /** Epoch seconds. */
    readonly client_id_issued_at?: number;
  }[];
  readonly events: readonly ExampleEvent[];
  readonly expect: readonly ExpectedFinding[];
}

/** 2026-01-05T12:00:00Z, a Monday noon: when examples start. */
export const EXAMPLE_START_MS = Date.UTC(2026, 0, 5, 12);

/** The episode text of an example's second `t`, for rules with an episode per day. */
export function exampleTime(t: number): string {
  return new Date(EXAMPLE_START_MS + t * 1_000).toISOString();
}

export interface DetectorDocs {
  /** Equals the file name. */
  readonly id: string;
  /** Grows when the logic changes so that old findings no longer hold; part of the finding id. */
  readonly version: number;
  readonly title: string;
  readonly family: FindingFamily;
  /** Of the gravest verdict. */
  readonly severity: Severity;
  /** Of the gravest verdict, 0-100. */
  readonly confidence: number;
  readonly description: string;
  /** RFC sections, MITRE ATT&CK ids. */
  readonly references: readonly string[];
  readonly entity: EntityType;
  /** Verdict to meaning. */
  readonly verdicts: Readonly<Record<string, string>>;
  /** Evidence key to meaning. */
  readonly evidence: Readonly<Record<string, string>>;
  /** Paths of AuthEvent fields (model/event_fields.ts) without which the rule is blind. */
  readonly needs: readonly string[];
  /** Kinds of events that it reads. */
  readonly kinds: readonly EventKind[];
  /** Whether an entity has one episode for life or episodes per UTC day of event time. */
  readonly episodes: 'lifetime' | 'daily';
  /** A finding closes when its last event is this old, ms. */
  readonly quietMs: number;
  readonly falsePositives: readonly string[];
  readonly examples: readonly DetectorExample[];
}

interface DetectorLogic<P> {
  /** A strict zod object with a default for each parameter. */
  readonly parameters: z.ZodType<P>;
  /** How far before an event its meaning is decided, ms; for daily rules. Default 0. */
  readonly lookbackMs?: (params: P) => number;
  /**
   * Whether new events like these may make an entity a candidate. A rule that none of them concerns is not run, so it
   * must be true for whatever `candidates` could react to.
   */
  readonly concerns: (fact: EventFact, clients: ClientLookup) => boolean;
  /** Whether `candidates` honours `scope.slice`. Default false: it reads little more than what is new. */
  readonly sliced?: boolean;
  /**
   * A condition on columns of auth_events that at least one new event satisfies whenever `candidates` finds something.
   * The screens of all rules are asked in the one scan of what is new. Default: always true.
   */
  readonly screen?: (params: P) => Sql;
  /** Spares the query of `candidates` while nothing happens that could make it find something. Default: none. */
  readonly trigger?: (params: P) => Trigger;
  /** For rules with one episode for life: spares the live pass the query of `candidates`. */
  readonly watch?: (params: P) => Watch;
  /** Rows (entity String, at DateTime64(9)): one per new event that concerns the entity. */
  readonly candidates: (scope: CandidateScope, params: P) => Sql;
  /** Rows (entity String, event_id UUID, at DateTime64(9)). */
  readonly history: (selection: HistorySelection, params: P) => Sql;
  /**
   * Rows (entity String, name String, key String, at DateTime64(9), value Float64): aggregates that don't depend on how often
   * an event was stored. For rules about more events than a history may hold.
   */
  readonly facts?: (selection: HistorySelection, params: P) => Sql;
  readonly follow?: (input: EvaluateInput<P>) => FollowRefs;
  readonly evaluate: (input: EvaluateInput<P>) => readonly Signal[];
}

/** A detector whose parameters are set. */
export interface BoundDetector {
  readonly docs: DetectorDocs;
  readonly params: Readonly<Record<string, unknown>>;
  readonly lookbackMs: number;
  readonly sliced: boolean;
  readonly watch: Watch | undefined;
  readonly screen: Sql | undefined;
  readonly trigger: Trigger | undefined;
  concerns(fact: EventFact, clients: ClientLookup): boolean;
  candidates(scope: CandidateScope): Sql;
  history(selection: HistorySelection): Sql;
  /** Undefined for rules without. */
  facts(selection: HistorySelection): Sql | undefined;
  follow(input: Omit<EvaluateInput<unknown>, 'params'>): FollowRefs;
  evaluate(input: Omit<EvaluateInput<unknown>, 'params'>): readonly Signal[];
}

/** A wrong parameter: where, why and what is allowed. */
export interface ParameterProblem {
  readonly path: string;
  readonly message: string;
}

export type BindResult =
  | { readonly ok: true; readonly detector: BoundDetector }
  | { readonly ok: false; readonly problems: readonly ParameterProblem[] };

export interface Detector extends DetectorDocs {
  readonly parameters: z.ZodType;
  /** Checks the overrides and sets the parameters. Throws nothing. */
  readonly bind: (overrides: Readonly<Record<string, unknown>>) => BindResult;
}

/** Declares a detector; see the head of this file. */
export function defineDetector<P extends Readonly<Record<string, unknown>>>(
  definition: DetectorDocs & DetectorLogic<P>,
): Detector {
  const { parameters, concerns, sliced, watch, candidates, history, follow, ...rest } = definition;
  const { evaluate, lookbackMs, screen, trigger, facts, ...docs } = rest;
  const bind = (overrides: Readonly<Record<string, unknown>>): BindResult => {
    const parsed = parameters.safeParse(overrides);
    if (!parsed.success) {
      const problems = parsed.error.issues.map((issue) => ({
        path: issue.path.join('.'),
        message: issue.message,
      }));
      return { ok: false, problems };
    }
    const params = parsed.data;
    const detector: BoundDetector = {
      docs,
      params,
      lookbackMs: lookbackMs?.(params) ?? 0,
      sliced: sliced ?? false,
      watch: watch?.(params),
      screen: screen?.(params),
      trigger: trigger?.(params),
      concerns,
      candidates: (scope) => candidates(scope, params),
      history: (selection) => history(selection, params),
      facts: (selection) => facts?.(selection, params),
      follow: (input) => follow?.({ ...input, params }) ?? {},
      evaluate: (input) => evaluate({ ...input, params }),
    };
    return { ok: true, detector };
  };
  return Object.freeze({ ...docs, parameters, bind });
}
