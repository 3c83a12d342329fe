import { z } from 'zod';
import type { AuthEvent } from '../../model/auth_event.ts';
import {
  defineDetector,
  LIFETIME_EPISODE,
  mentions,
  type EvaluateInput,
  type EventFact,
  type ExampleEvent,
  type Signal,
} from '../../model/define_detector.ts';
import { exampleRef } from '../../model/example_ref.ts';
import type { Severity } from '../../model/finding.ts';
import { param, sql } from '../../model/sql.ts';
import { inSlice, ledgerCondition, tokenHistory } from './_ledger.ts';
import {
  areApart,
  compareOrigins,
  isoTime,
  known,
  timeMs,
  tokensOf,
  userPlaces,
} from './_origin.ts';
import { oneRecordPerRequest } from './_requests.ts';
import { isRotation, rotationCandidates, successorsOf } from './_rotation.ts';

/** A refresh token shows who holds it even where it is refused. */
const REFRESH_KINDS = ['token_refreshed', 'token_request_failed', 'token_reuse_detected'] as const;
/** An access token counts where it was accepted: a refused one may be forged. */
const ACCEPTING_KINDS = ['token_validated', 'api_accessed', 'userinfo_accessed'] as const;
const KINDS = [...REFRESH_KINDS, ...ACCEPTING_KINDS];
const LEDGER = { kinds: ['token_refreshed'], types: ['refresh'], roles: ['consumed'] } as const;
const FOLLOWED = {
  kinds: KINDS,
  types: ['refresh', 'access'],
  roles: ['consumed', 'presented'],
} as const;
const FOLLOWED_MAX = 40;
const BRANCHES_LISTED_MAX = 10;
const NAMES_LISTED_MAX = 10;

const Parameters = z.strictObject({
  /** Successors issued within this time of each other, for the same key, are one race of a server that does not rotate atomically, ms. */
  race_ms: z.int().min(0).max(1_000).default(1),
  /** Two exchanges from one origin within this time may be two processes of one client, ms. */
  parallel_ms: z.int().min(0).max(600_000).default(30_000),
  /** Clients whose instances share a refresh token on purpose. */
  exclude_clients: z.array(z.string()).default([]),
});
type Params = z.infer<typeof Parameters>;

const VERDICTS = {
  fork: 'Two successors of one token were used by two holders: from different networks, or with different keys.',
  split_client:
    'Two successors were used, and everything says that one client did it in two processes.',
  siblings: 'The server issued several successors; no two holders are known to have used them.',
} as const;
type Verdict = keyof typeof VERDICTS;
const GRADE: Readonly<Record<Verdict, { severity: Severity; confidence: number }>> = {
  fork: { severity: 'critical', confidence: 90 },
  split_client: { severity: 'low', confidence: 60 },
  siblings: { severity: 'info', confidence: 80 },
};

/** What one exchange of the token led to. */
interface Branch {
  /** The exchanges: more than one where a server answered a race, or told one exchange twice. */
  readonly exchanges: readonly AuthEvent[];
  readonly tokens: ReadonlySet<string>;
}

/** What one branch was used for. */
interface UsedBranch extends Branch {
  readonly uses: readonly AuthEvent[];
  readonly places: readonly string[];
  readonly keys: readonly string[];
  readonly agents: readonly string[];
}

function issuedIn(event: AuthEvent, token: string): string[] {
  const issued = [...tokensOf(event, 'issued', 'refresh'), ...tokensOf(event, 'issued', 'access')];
  return issued.map((t) => t.ref).filter((r) => r !== token);
}

function isOneRace(a: AuthEvent, b: AuthEvent, raceMs: number): boolean {
  const isOneKey =
    a.binding_thumbprint === b.binding_thumbprint ||
    a.binding_thumbprint === '' ||
    b.binding_thumbprint === '';
  return isOneKey && timeMs(b) - timeMs(a) <= raceMs;
}

/** One branch per successor; successors of one race are one branch. */
function branchesOf(input: EvaluateInput<Params>): Branch[] {
  const { entity, events, params } = input;
  const branches: { exchanges: AuthEvent[]; tokens: Set<string> }[] = [];
  for (const event of events.filter((e) => isRotation(e, entity))) {
    if (params.exclude_clients.includes(event.client.id)) continue;
    const issued = issuedIn(event, entity);
    const same = branches.find(
      ({ exchanges: [first], tokens }) =>
        issued.some((r) => tokens.has(r)) ||
        (first !== undefined && isOneRace(first, event, params.race_ms)),
    );
    if (same === undefined) branches.push({ exchanges: [event], tokens: new Set(issued) });
    else {
      same.exchanges.push(event);
      for (const ref of issued) same.tokens.add(ref);
    }
  }
  return branches;
}

function isUseOf(event: AuthEvent, branch: Branch): boolean {
  const isRefresh = REFRESH_KINDS.some((k) => k === event.kind);
  if (!isRefresh && event.outcome !== 'success') return false;
  return event.tokens.some(
    (t) => (t.role === 'consumed' || t.role === 'presented') && branch.tokens.has(t.ref),
  );
}

function withUses(branch: Branch, events: readonly AuthEvent[]): UsedBranch {
  const uses = oneRecordPerRequest(events.filter((e) => isUseOf(e, branch)));
  return {
    ...branch,
    uses,
    places: userPlaces(uses),
    keys: known(uses.map((e) => e.binding_thumbprint)),
    agents: known(uses.map((e) => e.net.ua_family)),
  };
}

interface Pair {
  readonly verdict: Verdict;
  readonly differs: readonly ('key' | 'network')[];
  readonly reasons: readonly string[];
}

const overlap = (a: readonly string[], b: readonly string[]): boolean =>
  a.some((x) => b.includes(x));
const areOthers = (a: readonly string[], b: readonly string[]): boolean =>
  a.length > 0 && b.length > 0 && !overlap(a, b);

/** Two processes of one client: they asked from one origin at almost the same time, and are one program. */
function isOneClient(a: UsedBranch, b: UsedBranch, params: Params): boolean {
  const [first] = a.exchanges;
  const [second] = b.exchanges;
  if (first === undefined || second === undefined) return false;
  const { same, different } = compareOrigins(first, second);
  const isTogether = Math.abs(timeMs(second) - timeMs(first)) <= params.parallel_ms;
  return isTogether && different.length === 0 && same.length > 0 && overlap(a.agents, b.agents);
}

function judge(a: UsedBranch, b: UsedBranch, params: Params): Pair {
  if (areOthers(a.keys, b.keys))
    return {
      verdict: 'fork',
      differs: areApart(a.places, b.places) ? ['key', 'network'] : ['key'],
      reasons: ['the successors were used with different keys'],
    };
  const names = (places: readonly string[]): string => places.slice(0, 3).join(', ');
  if (areApart(a.places, b.places)) {
    const where = `one successor was used from ${names(a.places)}, another from ${names(b.places)}`;
    return isOneClient(a, b, params)
      ? {
          verdict: 'split_client',
          differs: ['network'],
          reasons: ['exchanged from one origin at almost the same time by one program', where],
        }
      : { verdict: 'fork', differs: ['network'], reasons: [where] };
  }
  if (overlap(a.places, b.places) || overlap(a.keys, b.keys))
    return {
      verdict: 'split_client',
      differs: [],
      reasons: ['two successors were used from one network or with one key'],
    };
  return {
    verdict: 'siblings',
    differs: [],
    reasons: ['two successors were used; where from is not known of both'],
  };
}

const ORDER: readonly Verdict[] = ['fork', 'split_client', 'siblings'];

/** The gravest pair of used branches; where less than two were used, there is none to compare. */
function worstPair(used: readonly UsedBranch[], params: Params): Pair {
  const pairs = used.flatMap((a, i) => used.slice(i + 1).map((b) => judge(a, b, params)));
  for (const verdict of ORDER) {
    const found = pairs.find((p) => p.verdict === verdict);
    if (found !== undefined) return found;
  }
  return {
    verdict: 'siblings',
    differs: [],
    reasons: [`${used.length === 0 ? 'none' : 'one'} of the successors was used so far`],
  };
}

function shown(branch: UsedBranch): Record<string, unknown> {
  const [exchange] = branch.exchanges;
  const [use] = branch.uses;
  return {
    exchanged_at: exchange === undefined ? null : isoTime(exchange),
    first_used_at: use === undefined ? null : isoTime(use),
    uses: branch.uses.length,
    networks: branch.places.slice(0, NAMES_LISTED_MAX),
    keys: branch.keys.slice(0, NAMES_LISTED_MAX),
    ua_families: branch.agents.slice(0, NAMES_LISTED_MAX),
  };
}

function evaluate(input: EvaluateInput<Params>): Signal[] {
  const { entity, events, params } = input;
  const branches = branchesOf(input).map((b) => withUses(b, events));
  if (branches.length < 2) return [];
  const used = branches.filter((b) => b.uses.length > 0);
  const { verdict, differs, reasons } = worstPair(used, params);
  const exchanges = branches.flatMap((b) => b.exchanges);
  const family = exchanges
    .flatMap((e) => e.tokens)
    .find((t) => t.ref === entity && t.family_ref !== '');
  return [
    {
      episode: LIFETIME_EPISODE,
      verdict,
      ...GRADE[verdict],
      summary: `One refresh token has ${branches.length} successors, ${used.length} of them used (${verdict.replaceAll('_', ' ')}).`,
      reasons,
      evidence: {
        family_ref: family?.family_ref ?? '',
        successors: branches.length,
        used: used.length,
        differs,
        branches: branches.slice(0, BRANCHES_LISTED_MAX).map(shown),
      },
      events: [...new Set([...exchanges, ...branches.flatMap((b) => b.uses.slice(0, 20))])],
      tokenRefs: [entity, ...new Set(branches.flatMap((b) => [...b.tokens]).sort())],
    },
  ];
}

const T1 = exampleRef('forked refresh');
const FAMILY = exampleRef('forked family');
const HOME = { network: '198.51.100.0/24', ua_family: 'okhttp', ip_role: 'end_user' } as const;
const AWAY = { network: '203.0.113.0/24', ua_family: 'curl', ip_role: 'end_user' } as const;
const MOBILE = { ...HOME, network: '192.0.2.0/24' } as const;
type Net = NonNullable<ExampleEvent['net']>;
const successor = (n: number): string => exampleRef(`forked refresh ${n}`);
const access = (n: number): string => exampleRef(`forked access ${n}`);

const exchange = (t: number, n: number, net: Net, key = ''): ExampleEvent => ({
  t,
  kind: 'token_refreshed',
  outcome: 'success',
  grant_type: 'refresh_token',
  client: { id: 'mobile-app' },
  binding_thumbprint: key,
  net,
  tokens: [
    { role: 'consumed', type: 'refresh', ref: T1, family_ref: FAMILY },
    { role: 'issued', type: 'refresh', ref: successor(n), parent_ref: T1, family_ref: FAMILY },
    { role: 'issued', type: 'access', ref: access(n), parent_ref: T1, family_ref: FAMILY },
  ],
});
const call = (t: number, n: number, net: Net, key = ''): ExampleEvent => ({
  t,
  kind: 'api_accessed',
  outcome: 'success',
  client: { id: 'mobile-app' },
  binding_thumbprint: key,
  net,
  tokens: [{ role: 'presented', type: 'access', ref: access(n) }],
});
const refresh = (t: number, n: number, net: Net): ExampleEvent => ({
  t,
  kind: 'token_request_failed',
  outcome: 'failure',
  grant_type: 'refresh_token',
  client: { id: 'mobile-app' },
  net,
  tokens: [{ role: 'presented', type: 'refresh', ref: successor(n) }],
});

interface ShownBranch {
  readonly at: number;
  readonly usedAt?: number;
  readonly uses?: number;
  readonly net?: { readonly network: string; readonly ua_family: string };
  readonly keys?: readonly string[];
}
const at = (t: number): string => new Date(Date.UTC(2026, 0, 5, 12) + t * 1_000).toISOString();
const finding = (
  verdict: Verdict,
  differs: readonly string[],
  branches: readonly ShownBranch[],
) => ({
  entity: T1,
  episode: LIFETIME_EPISODE,
  verdict,
  severity: GRADE[verdict].severity,
  evidence: {
    family_ref: FAMILY,
    successors: branches.length,
    used: branches.filter((b) => b.usedAt !== undefined).length,
    differs,
    branches: branches.map((b) => ({
      exchanged_at: at(b.at),
      first_used_at: b.usedAt === undefined ? null : at(b.usedAt),
      uses: b.uses ?? (b.usedAt === undefined ? 0 : 1),
      networks: b.net === undefined ? [] : [b.net.network],
      keys: b.keys ?? [],
      ua_families: b.net === undefined ? [] : [b.net.ua_family],
    })),
  },
});

const concernsFork = (fact: EventFact): boolean =>
  KINDS.some((k) => k === fact.kind) && mentions(fact, FOLLOWED.roles, FOLLOWED.types);

export default defineDetector<Params>({
  id: 'refresh_family_fork',
  version: 1,
  title: 'Two successors of one refresh token in use',
  family: 'token_replay',
  severity: 'critical',
  confidence: 90,
  description:
    'Rotation gives a refresh token one successor. Two successors that are both used, from different networks or with different keys, mean that two parties hold the grant and the server serves both. This is certain where reuse alone is a suspicion: the copy works.',
  references: ['RFC 9700 section 4.14.2', 'RFC 9449 section 5', 'ATT&CK T1528'],
  entity: 'token',
  verdicts: VERDICTS,
  evidence: {
    family_ref: 'The rotation family.',
    successors: 'Branches: successors of one race count as one.',
    used: 'Branches of which a token was used.',
    differs: 'What tells the holders apart: key, network.',
    branches:
      'Each branch: when the token was exchanged for it, its first use, number of uses, user networks, keys and user agents (at most 10).',
  },
  needs: [
    'tokens.ref',
    'tokens.role',
    'tokens.type',
    'kind',
    'outcome',
    'net.network',
    'net.ip_role',
  ],
  kinds: KINDS,
  episodes: 'lifetime',
  quietMs: 3_600_000,
  parameters: Parameters,
  concerns: concernsFork,
  sliced: true,
  watch: () => ({
    by: 'facets',
    stream: {
      concerns: (fact) =>
        fact.kind === 'token_refreshed' &&
        fact.outcome !== 'failure' &&
        mentions(fact, LEDGER.roles, LEDGER.types),
      from: sql`grantscope.token_events`,
      where: sql`${ledgerCondition(LEDGER)} AND outcome != 'failure'`,
      key: sql`token_ref`,
      facets: [sql`bitOr(cityHash64(event_id), 1)`],
    },
    isHot: (seen) => seen.varies(0),
    // Two successors are a finding at once, so what becomes of them is followed from then on.
    followed: {
      concerns: concernsFork,
      from: sql`grantscope.token_events`,
      where: ledgerCondition(FOLLOWED),
      key: sql`token_ref`,
      facets: [],
    },
  }),
  candidates: (scope) => {
    const uses = sql`tenant = ${param.string(scope.tenant)} AND ${inSlice(scope, sql`token_ref`)}
      AND ${ledgerCondition(LEDGER)} AND outcome != 'failure'`;
    const repeated = sql`SELECT token_ref FROM grantscope.token_events WHERE ${uses}
      GROUP BY token_ref HAVING min(event_id) != max(event_id)`;
    return rotationCandidates(scope, uses, repeated);
  },
  // Exchanges alone: a client that presents a dead token in a loop must not hide them.
  history: (selection) =>
    tokenHistory(selection, sql`${ledgerCondition(LEDGER)} AND outcome != 'failure'`),
  follow: (input) => ({ tokens: successorsOf(input.events, input.entity, FOLLOWED_MAX) }),
  evaluate,
  falsePositives: [
    'Two processes of one web back end that share a token and leave by different addresses, where the source cannot say that the addresses are a back end: list the client in exclude_clients.',
    'A client with a grace for retries that changes its network between both exchanges and goes on using both answers.',
    'Not reported: successors of one race (race_ms), a second exchange that the server refused, an IPv4 and an IPv6 prefix (a device has both).',
  ],
  examples: [
    {
      name: 'fork: thief and user go on with a successor each, on two networks',
      events: [exchange(0, 1, HOME), exchange(600, 2, AWAY), call(10, 1, HOME), call(610, 2, AWAY)],
      expect: [
        finding(
          'fork',
          ['network'],
          [
            { at: 0, usedAt: 10, net: HOME },
            { at: 600, usedAt: 610, net: AWAY },
          ],
        ),
      ],
    },
    {
      name: 'fork: a successor that is presented and refused shows its holder as well',
      events: [
        refresh(4_000, 2, AWAY),
        exchange(2, 2, AWAY),
        exchange(0, 1, HOME),
        refresh(3_600, 1, HOME),
      ],
      expect: [
        finding(
          'fork',
          ['network'],
          [
            { at: 0, usedAt: 3_600, net: HOME },
            { at: 2, usedAt: 4_000, net: AWAY },
          ],
        ),
      ],
    },
    {
      name: 'fork: two keys on one network, even in one millisecond',
      events: [
        exchange(0, 1, HOME, 'key-1'),
        exchange(0.001, 2, HOME, 'key-2'),
        call(10, 1, HOME, 'key-1'),
        call(20, 2, HOME, 'key-2'),
      ],
      expect: [
        finding(
          'fork',
          ['key'],
          [
            { at: 0, usedAt: 10, net: HOME, keys: ['key-1'] },
            { at: 0.001, usedAt: 20, net: HOME, keys: ['key-2'] },
          ],
        ),
      ],
    },
    {
      name: 'fork: one program, but exchanged just beyond the time of parallel processes',
      events: [
        exchange(0, 1, HOME),
        exchange(30.001, 2, HOME),
        call(40, 1, HOME),
        call(3_600, 2, MOBILE),
      ],
      expect: [
        finding(
          'fork',
          ['network'],
          [
            { at: 0, usedAt: 40, net: HOME },
            { at: 30.001, usedAt: 3_600, net: MOBILE },
          ],
        ),
      ],
    },
    {
      name: 'split client: two processes exchange together, one of them moves later',
      events: [
        exchange(0, 1, HOME),
        exchange(30, 2, HOME),
        call(40, 1, HOME),
        call(3_600, 2, MOBILE),
      ],
      expect: [
        finding(
          'split_client',
          ['network'],
          [
            { at: 0, usedAt: 40, net: HOME },
            { at: 30, usedAt: 3_600, net: MOBILE },
          ],
        ),
      ],
    },
    {
      name: 'split client: both successors are used on one network',
      events: [exchange(0, 1, HOME), exchange(0.2, 2, HOME), call(5, 1, HOME), call(6, 2, HOME)],
      expect: [
        finding(
          'split_client',
          [],
          [
            { at: 0, usedAt: 5, net: HOME },
            { at: 0.2, usedAt: 6, net: HOME },
          ],
        ),
      ],
    },
    {
      name: 'siblings: only one successor is used, wherever the client moves',
      events: [
        exchange(0, 1, HOME),
        exchange(0.2, 2, HOME),
        call(5, 2, HOME),
        call(3_600, 2, HOME),
      ],
      expect: [finding('siblings', [], [{ at: 0 }, { at: 0.2, usedAt: 5, uses: 2, net: HOME }])],
    },
    {
      name: 'siblings: refused calls with a forged access token are no use',
      events: [
        exchange(0, 1, HOME),
        exchange(0.2, 2, HOME),
        call(5, 2, HOME),
        { ...call(60, 1, AWAY), outcome: 'failure' },
      ],
      expect: [finding('siblings', [], [{ at: 0 }, { at: 0.2, usedAt: 5, net: HOME }])],
    },
    {
      name: 'siblings: a back end calls from many addresses, and an address of another kind does not compare',
      events: [
        exchange(0, 1, { ...HOME, ip_role: 'client_backend' }),
        exchange(600, 2, { ...AWAY, ip_role: 'client_backend' }),
        call(10, 1, { network: '198.51.100.0/24', ua_family: 'okhttp', ip_role: 'end_user' }),
        call(610, 2, { network: '2001:db8:1::/48', ua_family: 'okhttp', ip_role: 'end_user' }),
      ],
      expect: [
        finding(
          'siblings',
          [],
          [
            { at: 0, usedAt: 10, net: HOME },
            { at: 600, usedAt: 610, net: { network: '2001:db8:1::/48', ua_family: 'okhttp' } },
          ],
        ),
      ],
    },
    {
      name: 'silent: siblings of one millisecond are one race, wherever they are used',
      events: [
        exchange(0, 1, HOME),
        exchange(0.001, 2, HOME),
        call(10, 1, HOME),
        call(20, 2, MOBILE),
      ],
      expect: [],
    },
    {
      name: 'silent: the second exchange was refused',
      events: [
        exchange(0, 1, HOME),
        { ...exchange(600, 2, AWAY), outcome: 'failure' },
        call(10, 1, HOME),
        call(610, 2, AWAY),
      ],
      expect: [],
    },
    {
      name: 'silent: the server gives the same successor again',
      events: [exchange(0, 1, HOME), exchange(20, 1, AWAY), call(10, 1, HOME), call(30, 1, AWAY)],
      expect: [],
    },
    {
      name: 'silent: an ordinary chain that roams',
      events: [exchange(0, 1, HOME), call(10, 1, HOME), call(600, 1, MOBILE)],
      expect: [],
    },
    {
      name: 'silent for a client that shares tokens on purpose',
      parameters: { exclude_clients: ['mobile-app'] },
      events: [exchange(0, 1, HOME), exchange(600, 2, AWAY), call(10, 1, HOME), call(610, 2, AWAY)],
      expect: [],
    },
  ],
});
