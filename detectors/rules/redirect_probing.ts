import { z } from 'zod';
import type { AuthEvent } from '../../model/auth_event.ts';
import {
  defineDetector,
  exampleTime,
  type EvaluateInput,
  type ExampleEvent,
  type Signal,
} from '../../model/define_detector.ts';
import { splitByGap } from './_episodes.ts';
import { hostOf, matchesPattern } from './_hosts.ts';
import { isoTime, known, timeMs } from './_origin.ts';
import { requestKey } from './_requests.ts';
import {
  concernsRedirects,
  isUnregistered,
  REDIRECT_KINDS,
  redirectCandidates,
  redirectHistory,
} from './_redirects.ts';

/** A request and its refusal, where nothing else pairs them, lie at most this far apart. */
const PAIR_MS = 2_000;
const URIS_LISTED_MAX = 20;

const Parameters = z.strictObject({
  /** Requests for unregistered URIs within the window. */
  min_requests: z.int().min(1).max(1_000).default(5),
  /** Or this many hosts that are not registered for the client. */
  min_hosts: z.int().min(1).max(1_000).default(3),
  window_ms: z.int().min(1_000).max(3_600_000).default(600_000),
  /** Pause after which a new episode begins, ms. */
  gap_ms: z.int().min(1_000).max(86_400_000).default(3_600_000),
  /** One and the same URI from at least this many networks is a misconfigured deployment. */
  misconfigured_networks_min: z.int().min(2).max(1_000).default(3),
  /** URIs that may be asked for unregistered (preview deployments); `*` stands for anything but `/`. */
  allowed_patterns: z.array(z.string().min(1)).default([]),
  exclude_clients: z.array(z.string()).default([]),
});
type Params = z.infer<typeof Parameters>;

/** One event per request: the refusal where there is one. */
function oneEventPerRequest(events: readonly AuthEvent[]): AuthEvent[] {
  const refusals = events.filter((e) => e.kind === 'authorization_failed');
  const keys = new Set(refusals.map(requestKey));
  return events.filter((e) => {
    if (e.kind === 'authorization_failed') return true;
    if (e.kind === 'code_issued') return false;
    const key = requestKey(e);
    if (key !== '') return !keys.has(key);
    return !refusals.some(
      (r) => r.redirect_uri === e.redirect_uri && Math.abs(timeMs(r) - timeMs(e)) <= PAIR_MS,
    );
  });
}

interface Crossing {
  readonly event: AuthEvent;
  /** Requests of the window that ends with this event. */
  readonly window: readonly AuthEvent[];
}

/** Requests at which a threshold is reached within the window that ends there. */
function crossings(requests: readonly AuthEvent[], input: EvaluateInput<Params>): Crossing[] {
  const { params, clients, entity } = input;
  const result: Crossing[] = [];
  let start = 0;
  for (const [i, event] of requests.entries()) {
    while (timeMs(event) - timeMs(requests[start] ?? event) >= params.window_ms) start += 1;
    const window = requests.slice(start, i + 1);
    const ownHosts = new Set(
      (clients.at(entity, event.time).redirectUris ?? []).map((u) => hostOf(u)),
    );
    const hosts = known(window.map((e) => hostOf(e.redirect_uri))).filter((h) => !ownHosts.has(h));
    if (window.length >= params.min_requests || hosts.length >= params.min_hosts)
      result.push({ event, window });
  }
  return result;
}

function toSignal(episode: readonly Crossing[], params: Params, client: string): Signal {
  const events = [...new Set(episode.flatMap((c) => c.window))];
  const uris = known(events.map((e) => e.redirect_uri));
  const hosts = known(uris.map(hostOf));
  const networks = known(events.map((e) => e.net.network));
  const isMisconfigured = uris.length === 1 && networks.length >= params.misconfigured_networks_min;
  const [first] = episode;
  return {
    episode: first === undefined ? '' : isoTime(first.event),
    verdict: isMisconfigured ? 'misconfigured_client' : 'probing',
    severity: isMisconfigured ? 'low' : 'medium',
    confidence: isMisconfigured ? 60 : hosts.length >= params.min_hosts ? 75 : 60,
    summary: `${events.length} requests for client ${client} named ${uris.length} unregistered redirect URI(s) on ${hosts.length} host(s).`,
    reasons: isMisconfigured
      ? [`one and the same URI was asked for from ${networks.length} networks`]
      : hosts.slice(0, 10).map((h) => `asked for a redirect to ${h === '' ? 'no host' : h}`),
    evidence: {
      requests: events.length,
      redirect_uris: uris.slice(0, URIS_LISTED_MAX),
      redirect_uri_count: uris.length,
      hosts: hosts.slice(0, URIS_LISTED_MAX),
      networks: networks.slice(0, URIS_LISTED_MAX),
    },
    events,
    tokenRefs: [],
  };
}

function evaluate(input: EvaluateInput<Params>): Signal[] {
  const { params, clients, entity, window } = input;
  if (params.exclude_clients.includes(entity)) return [];
  const asked = input.events.filter(
    (e) =>
      isUnregistered(e, clients) &&
      !params.allowed_patterns.some((p) => matchesPattern(e.redirect_uri, p)),
  );
  const all = crossings(oneEventPerRequest(asked), input).filter(
    (c) => window === undefined || c.event.time >= window.from,
  );
  const byEvent = new Map(all.map((c) => [c.event, c]));
  return splitByGap(
    all.map((c) => c.event),
    params.gap_ms,
  ).map((episode) =>
    toSignal(
      episode.flatMap((e) => byEvent.get(e) ?? []),
      params,
      entity,
    ),
  );
}

const HOME = '198.51.100.0/24';
const ask = (t: number, uri: string, more: Partial<ExampleEvent> = {}): ExampleEvent => ({
  t,
  kind: 'authorization_failed',
  outcome: 'failure',
  error: { code: 'invalid_redirect_uri' },
  client: { id: 'web-shop' },
  redirect_uri: uri,
  net: { network: HOME },
  ...more,
});
const SHOP = { client_id: 'web-shop', redirect_uris: ['https://shop.example/cb'] };
const paths = (n: number, step: number): ExampleEvent[] =>
  Array.from({ length: n }, (_, i) => ask(i * step, `https://shop.example/cb${i + 1}`));
const expected = (
  t: number,
  requests: number,
  uris: string[],
  hosts: string[],
  more: { verdict?: string; severity?: 'low' | 'medium'; networks?: string[] } = {},
) => ({
  entity: 'web-shop',
  episode: exampleTime(t),
  verdict: more.verdict ?? 'probing',
  severity: more.severity ?? ('medium' as const),
  evidence: {
    requests,
    redirect_uris: uris,
    redirect_uri_count: uris.length,
    hosts,
    networks: more.networks ?? [HOME],
  },
});
const cb = (n: number): string[] =>
  Array.from({ length: n }, (_, i) => `https://shop.example/cb${i + 1}`);

export default defineDetector<Params>({
  id: 'redirect_probing',
  version: 1,
  title: 'Unregistered redirect URIs tried out',
  family: 'redirect_abuse',
  severity: 'medium',
  confidence: 75,
  description:
    'Somebody tries which redirect URIs a client accepts: many requests for unregistered URIs, or several foreign hosts, within a short time.',
  references: ['RFC 9700 section 4.1', 'RFC 6749 section 10.6', 'ATT&CK T1528'],
  entity: 'client',
  verdicts: {
    probing: 'Many unregistered URIs, or several foreign hosts.',
    misconfigured_client:
      'One and the same URI from many networks: a deployment with a wrong setting.',
  },
  evidence: {
    requests: 'Requests in the episode.',
    redirect_uris: 'URIs asked for (at most 20).',
    redirect_uri_count: 'Their number.',
    hosts: 'Hosts asked for (at most 20).',
    networks: 'Networks that asked (at most 20).',
  },
  needs: ['redirect_uri', 'client.id', 'error.code'],
  kinds: REDIRECT_KINDS,
  episodes: 'daily',
  quietMs: 3_600_000,
  parameters: Parameters,
  lookbackMs: (params) => params.window_ms,
  concerns: concernsRedirects,
  candidates: (scope) => redirectCandidates(scope),
  history: (selection) => redirectHistory(selection),
  evaluate,
  falsePositives: [
    'A new deployment whose URI is not registered yet, while one developer tries it.',
    'Preview deployments: list their pattern in allowed_patterns.',
    'Not reported: loopback redirects that differ in the port alone (RFC 8252 section 7.3).',
  ],
  examples: [
    {
      name: 'fires at the fifth request within ten minutes',
      events: paths(5, 60),
      expect: [expected(240, 5, cb(5), ['shop.example'])],
    },
    {
      name: 'fires at the third foreign host, by the registration alone',
      clients: [SHOP],
      events: ['a.evil.example', 'b.evil.example', 'c.evil.example'].map((h, i) =>
        ask(i, `https://${h}/cb`, {
          kind: 'authorization_requested',
          outcome: 'unknown',
          error: {},
        }),
      ),
      expect: [
        expected(
          2,
          3,
          ['https://a.evil.example/cb', 'https://b.evil.example/cb', 'https://c.evil.example/cb'],
          ['a.evil.example', 'b.evil.example', 'c.evil.example'],
        ),
      ],
    },
    {
      name: 'one URI from many networks is a misconfigured client',
      events: Array.from({ length: 5 }, (_, i) =>
        ask(i, 'https://new.shop.example/cb', { net: { network: `198.51.${i}.0/24` } }),
      ),
      expect: [
        expected(4, 5, ['https://new.shop.example/cb'], ['new.shop.example'], {
          verdict: 'misconfigured_client',
          severity: 'low',
          networks: [0, 1, 2, 3, 4].map((i) => `198.51.${i}.0/24`),
        }),
      ],
    },
    {
      name: 'silent: four requests, two hosts',
      events: [...paths(3, 10), ask(50, 'https://evil.example/cb')],
      expect: [],
    },
    {
      name: 'silent: five requests, but never five within ten minutes',
      events: paths(5, 150),
      expect: [],
    },
    {
      name: 'silent: request and refusal of one attempt count once',
      clients: [SHOP],
      events: paths(4, 60).flatMap((e) => [
        { ...e, t: e.t - 0.5, kind: 'authorization_requested' as const, error: {} },
        e,
      ]),
      expect: [],
    },
    {
      name: 'silent: registered URIs, loopback ports and preview deployments',
      clients: [
        {
          client_id: 'web-shop',
          redirect_uris: ['https://shop.example/cb', 'http://127.0.0.1/cb'],
        },
      ],
      parameters: { allowed_patterns: ['https://*.preview.shop.example/cb'] },
      events: Array.from({ length: 6 }, (_, i) => [
        ask(i, 'https://shop.example/cb', { kind: 'authorization_requested', error: {} }),
        ask(i, `http://127.0.0.1:${50_000 + i}/cb`, { kind: 'authorization_requested', error: {} }),
        ask(i, `https://pr-${i}.preview.shop.example/cb`),
      ]).flat(),
      expect: [],
    },
    {
      name: 'the window slides over midnight',
      events: paths(5, 60).map((e) => ({ ...e, t: e.t + 43_200 - 180 })),
      expect: [expected(43_260, 5, cb(5), ['shop.example'])],
    },
    {
      name: 'fires at the fifth request a millisecond before ten minutes are over',
      events: [...paths(4, 60), ask(599.999, 'https://shop.example/cb5')],
      expect: [expected(599.999, 5, cb(5), ['shop.example'])],
    },
    {
      name: 'one URI from three networks is a misconfigured client',
      events: Array.from({ length: 5 }, (_, i) =>
        ask(i, 'https://new.shop.example/cb', { net: { network: `198.51.${i % 3}.0/24` } }),
      ),
      expect: [
        expected(4, 5, ['https://new.shop.example/cb'], ['new.shop.example'], {
          verdict: 'misconfigured_client',
          severity: 'low',
          networks: [0, 1, 2].map((i) => `198.51.${i}.0/24`),
        }),
      ],
    },
    {
      name: 'one URI from two networks is probing',
      events: Array.from({ length: 5 }, (_, i) =>
        ask(i, 'https://new.shop.example/cb', { net: { network: `198.51.${i % 2}.0/24` } }),
      ),
      expect: [
        expected(4, 5, ['https://new.shop.example/cb'], ['new.shop.example'], {
          networks: [0, 1].map((i) => `198.51.${i}.0/24`),
        }),
      ],
    },
    {
      name: 'several URIs are probing, from however many networks',
      events: paths(5, 60).map((e, i) => ({ ...e, net: { network: `198.51.${i}.0/24` } })),
      expect: [
        expected(240, 5, cb(5), ['shop.example'], {
          networks: [0, 1, 2, 3, 4].map((i) => `198.51.${i}.0/24`),
        }),
      ],
    },
  ],
});
