import { z } from 'zod';
import {
  defineDetector,
  LIFETIME_EPISODE,
  type EvaluateInput,
  type ExampleEvent,
  type Signal,
} from '../../model/define_detector.ts';
import { exampleRef } from '../../model/example_ref.ts';
import { sql } from '../../model/sql.ts';
import {
  busiestWindow,
  changedFamilies,
  concernsFamilies,
  FAMILY_KINDS,
  runsOfFamilies,
  type FamilyAxis,
} from './_families.ts';
import { kindIn } from './_ledger.ts';
import { isoTime, timeMs, userPlaces } from './_origin.ts';

const DAY_MS = 86_400_000;
const LISTED_MAX = 20;

const Parameters = z.strictObject({
  /** User agent families that refreshed one grant. */
  min_agents: z.int().min(2).max(100).default(3),
  /** Within this time, ms. */
  window_ms: z
    .int()
    .min(60_000)
    .max(90 * DAY_MS)
    .default(30 * DAY_MS),
  /** Families that don't count, such as tools of the operators. */
  ignored_agents: z.array(z.string().min(1)).default([]),
  exclude_clients: z.array(z.string()).default([]),
});
type Params = z.infer<typeof Parameters>;

/** The family of the program, without its version: whoever updates a browser does not change it. */
const AGENT: FamilyAxis = { value: sql`net_ua_family`, where: sql`net_ua_family != ''` };

function evaluate(input: EvaluateInput<Params>): Signal[] {
  const { params } = input;
  const events = input.events.filter((e) => !params.exclude_clients.includes(e.client.id));
  const agentOf = (e: (typeof events)[number]): string =>
    params.ignored_agents.includes(e.net.ua_family) ? '' : e.net.ua_family;
  const { values, events: seen } = busiestWindow(events, agentOf, params.window_ms);
  const [first] = seen;
  const last = seen.at(-1);
  if (values.length < params.min_agents || first === undefined || last === undefined) return [];
  return [
    {
      episode: LIFETIME_EPISODE,
      verdict: 'many_agents',
      severity: 'medium',
      confidence: 65,
      summary: `One grant was refreshed by ${values.length} different programs.`,
      reasons: values.slice(0, LISTED_MAX).map((v) => `refreshed by ${v}`),
      evidence: {
        ua_families: [...values].sort().slice(0, LISTED_MAX),
        ua_family_count: values.length,
        client_id: last.client.id,
        reached_at: isoTime(last),
        span_ms: timeMs(last) - timeMs(first),
        networks: userPlaces(seen).slice(0, LISTED_MAX),
      },
      events: seen,
      tokenRefs: [],
    },
  ];
}

const FAMILY = exampleRef('agents family');
const HOME = '198.51.100.0/24';
const token = (n: number): string => exampleRef(`agents refresh ${n}`);
/** The n-th exchange of the chain; the 0th is the first issue. */
const step = (
  t: number,
  n: number,
  agent: string,
  more: Partial<ExampleEvent> = {},
): ExampleEvent => ({
  t,
  kind: n === 0 ? 'token_issued' : 'token_refreshed',
  outcome: 'success',
  client: { id: 'mobile-app' },
  net: { network: HOME, ua_family: agent, ip_role: 'end_user' },
  tokens: [
    ...(n === 0
      ? []
      : [{ role: 'consumed', type: 'refresh', ref: token(n - 1), family_ref: FAMILY } as const]),
    { role: 'issued', type: 'refresh', ref: token(n), family_ref: FAMILY },
  ],
  ...more,
});
const DAY = 86_400;
const finding = (agents: readonly string[], firstT: number, t: number) => ({
  entity: FAMILY,
  episode: LIFETIME_EPISODE,
  verdict: 'many_agents',
  severity: 'medium' as const,
  evidence: {
    ua_families: agents,
    ua_family_count: agents.length,
    client_id: 'mobile-app',
    reached_at: new Date(Date.UTC(2026, 0, 5, 12) + t * 1_000).toISOString(),
    span_ms: (t - firstT) * 1_000,
    networks: [HOME],
  },
});

export default defineDetector<Params>({
  id: 'refresh_many_agents',
  version: 1,
  title: 'One grant refreshed by many programs',
  family: 'token_replay',
  severity: 'medium',
  confidence: 65,
  description:
    'A refresh token stays with the program that got it. A family that is refreshed by several different programs is one that was copied: to a tool, to a script, to somebody else.',
  references: ['RFC 9700 section 4.14', 'RFC 6749 section 10.4', 'ATT&CK T1528'],
  entity: 'family',
  verdicts: { many_agents: 'More user agent families than one client has.' },
  evidence: {
    ua_families: 'Families seen in the window (at most 20).',
    ua_family_count: 'Their number.',
    client_id: 'The client.',
    reached_at: 'When the last of them came.',
    span_ms: 'From the last refresh of the first of them to then.',
    networks: 'User networks of these refreshes (at most 20).',
  },
  needs: ['tokens.family_ref', 'tokens.role', 'net.ua_family', 'outcome'],
  kinds: FAMILY_KINDS,
  episodes: 'lifetime',
  quietMs: DAY_MS,
  parameters: Parameters,
  concerns: concernsFamilies,
  screen: () => sql`${kindIn(FAMILY_KINDS)} AND ${AGENT.where}`,
  candidates: (scope) => changedFamilies(scope, [AGENT], AGENT.where),
  history: (selection) => runsOfFamilies(selection, AGENT),
  evaluate,
  falsePositives: [
    'A client that refreshes in its app, in a widget and in a web view, each with a user agent of its own.',
    'A library that changed its user agent twice within the window.',
    'Not reported: versions of one program, refreshes without a user agent.',
  ],
  examples: [
    {
      name: 'fires at the third program within thirty days, in whatever order it is told',
      events: [
        step(30 * DAY, 3, 'python-requests'),
        step(DAY, 1, 'okhttp'),
        step(0, 0, 'okhttp'),
        step(2 * DAY, 2, 'curl'),
      ],
      expect: [finding(['curl', 'okhttp', 'python-requests'], DAY, 30 * DAY)],
    },
    {
      name: 'fires where the server does not rotate',
      events: ['okhttp', 'curl', 'okhttp', 'Go-http-client'].map((agent, i) => ({
        ...step(i * 60, 1, agent),
        tokens: [
          { role: 'presented', type: 'refresh', ref: token(0), family_ref: FAMILY } as const,
        ],
      })),
      expect: [finding(['Go-http-client', 'curl', 'okhttp'], 60, 180)],
    },
    {
      name: 'fires at the edge of the window',
      events: [step(0, 0, 'okhttp'), step(DAY, 1, 'curl'), step(30 * DAY, 2, 'python-requests')],
      expect: [finding(['curl', 'okhttp', 'python-requests'], 0, 30 * DAY)],
    },
    {
      name: 'silent just beyond the window',
      events: [
        step(0, 0, 'okhttp'),
        step(DAY, 1, 'curl'),
        step(30 * DAY + 0.001, 2, 'python-requests'),
      ],
      expect: [],
    },
    {
      name: 'silent: an app and its browser, again and again',
      events: [0, 1, 2, 3, 4].map((n) => step(n * 60, n, n % 2 === 0 ? 'okhttp' : 'Chrome')),
      expect: [],
    },
    {
      name: 'silent: the third program was refused, or is not known',
      events: [
        step(0, 0, 'okhttp'),
        step(60, 1, 'curl'),
        step(120, 2, ''),
        { ...step(180, 2, 'python-requests'), outcome: 'failure' },
      ],
      expect: [],
    },
    {
      name: 'silent for tools that are listed',
      parameters: { ignored_agents: ['curl'] },
      events: [step(0, 0, 'okhttp'), step(60, 1, 'curl'), step(120, 2, 'python-requests')],
      expect: [],
    },
  ],
});
