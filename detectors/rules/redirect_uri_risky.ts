import { z } from 'zod';
import type { AuthEvent } from '../../model/auth_event.ts';
import { ENTRY_LENGTH_MAX, readClientList, writeClientList } from '../../model/client_metadata.ts';
import {
  defineDetector,
  exampleTime,
  type CandidateScope,
  type EvaluateInput,
  type ExampleEvent,
  type HistorySelection,
  type Signal,
} from '../../model/define_detector.ts';
import { exampleRef } from '../../model/example_ref.ts';
import { param, sql, type Sql } from '../../model/sql.ts';
import { ofDay, splitByGap } from './_episodes.ts';
import { isLoopbackHost, matchesPattern, splitRedirect } from './_hosts.ts';
import { kindIn } from './_ledger.ts';
import { isoTime, known, tokensOf } from './_origin.ts';

const REGISTRATIONS = ['client_registered', 'client_updated'] as const;
/** Events that send a user's browser, and a code or token with it, to the URI. */
const DELIVERIES = ['code_issued', 'token_issued'] as const;
const KINDS = [...REGISTRATIONS, ...DELIVERIES] as const;

/** Deliveries read per client, day and URI: the first ones tell, the rest repeat them. */
const EVENTS_PER_URI_MAX = 50;
const URIS_LISTED_MAX = 20;

/** Schemes that a browser runs or reads by itself instead of visiting a server. */
const SCRIPT_SCHEMES = ['javascript', 'data', 'vbscript', 'file', 'blob'];

/** Hosting under which anybody can take a name, or take it over once its owner gave it up. */
const SHARED_DOMAINS = [
  ...['azurewebsites.net', 'cloudapp.net', 'cloudapp.azure.com', 'azureedge.net', 'azurefd.net'],
  ...['trafficmanager.net', 'blob.core.windows.net', 's3.amazonaws.com', 'cloudfront.net'],
  ...['elasticbeanstalk.com', 'herokuapp.com', 'github.io', 'gitlab.io', 'netlify.app'],
  ...['vercel.app', 'pages.dev', 'workers.dev', 'web.app', 'firebaseapp.com', 'glitch.me'],
  ...['surge.sh', 'onrender.com', 'ngrok.io', 'ngrok.app', 'ngrok-free.app', 'loca.lt'],
  ...['trycloudflare.com', 'repl.co', 'replit.app', 'myshopify.com', 'ghost.io', 'fly.dev'],
];

const HostName = z.string().regex(/^[a-z0-9.-]+$/, 'a host name in lower case');

const Parameters = z.strictObject({
  /** Domains whose sub-domains belong to whoever takes them. */
  shared_domains: z.array(HostName).default(SHARED_DOMAINS),
  /** Hosts, with all below them, that one's own inventory of DNS says nobody holds any more. */
  dangling_hosts: z.array(HostName).default([]),
  /** URIs that may stay as they are; `*` stands for anything but `/`. */
  allowed_patterns: z.array(z.string().min(1)).default([]),
  exclude_clients: z.array(z.string()).default([]),
  /** Pause after which a new episode begins, ms. */
  gap_ms: z.int().min(60_000).max(86_400_000).default(21_600_000),
});
type Params = z.infer<typeof Parameters>;

type Trait =
  | 'http'
  | 'wildcard'
  | 'fragment'
  | 'ip_literal'
  | 'script_scheme'
  | 'shared_host'
  | 'dangling_host';

const REASONS: Readonly<Record<Trait, string>> = {
  http: 'plain http lets anybody on the way read the code',
  wildcard: 'a wildcard accepts addresses that nobody has looked at',
  fragment: 'a fragment is not allowed, and may be carried on by a further redirect',
  ip_literal: 'an address is not a name: it may be given to somebody else',
  script_scheme: 'a browser runs or reads this scheme by itself',
  shared_host: 'the host is a name on shared hosting, which somebody else may take over',
  dangling_host: 'nobody holds this host any more',
};

function isUnder(host: string, domains: readonly string[]): boolean {
  return domains.some((d) => host === d || host.endsWith(`.${d}`));
}

/** Browsers take a host for an IPv4 address when its last label is a number, decimal or hexadecimal. */
function isAddress(host: string): boolean {
  return host.includes(':') || /^(?:\d+|0x[0-9a-f]*)$/.test(host.split('.').at(-1) ?? '');
}

/** What is risky about a URI; `hadFragment` where it was cut off before storage. */
function traitsOf(uri: string, hadFragment: boolean, params: Params): Trait[] {
  if (uri === '' || params.allowed_patterns.some((p) => matchesPattern(uri, p))) return [];
  const traits: Trait[] = [];
  if (uri.includes('*')) traits.push('wildcard');
  if (hadFragment || uri.includes('#')) traits.push('fragment');
  if (SCRIPT_SCHEMES.includes(uri.split(':')[0]?.toLowerCase() ?? '')) traits.push('script_scheme');
  const parts = splitRedirect(uri);
  if (parts === undefined || isLoopbackHost(parts.host)) return traits;
  if (parts.scheme === 'http') traits.push('http');
  const isWeb = parts.scheme === 'http' || parts.scheme === 'https';
  if (isWeb && isAddress(parts.host)) traits.push('ip_literal');
  if (isUnder(parts.host, params.shared_domains)) traits.push('shared_host');
  if (isUnder(parts.host, params.dangling_hosts)) traits.push('dangling_host');
  return traits;
}

function isDelivery(event: AuthEvent): boolean {
  return DELIVERIES.some((k) => k === event.kind);
}

interface Risk {
  readonly uri: string;
  readonly traits: readonly Trait[];
}

/** The URIs that a registration states. Of a list that was not stored whole, its first part is better than nothing. */
function registeredUris(ext: AuthEvent['ext']): readonly string[] {
  const whole = readClientList(ext, 'redirect_uris');
  if (whole !== undefined) return whole;
  const text = ext['redirect_uris'] ?? '';
  const part = text.split(/\s+/);
  // What is longer may have been cut within its last URI.
  return text.length > ENTRY_LENGTH_MAX ? part.slice(0, -1) : part;
}

/** The risky URIs that an event registers, or sends a user to. */
function risksOf(event: AuthEvent, params: Params): Risk[] {
  const hadFragment = (event.ext['redirect_uri_had'] ?? '').split(' ').includes('fragment');
  const risks = isDelivery(event)
    ? [{ uri: event.redirect_uri, traits: traitsOf(event.redirect_uri, hadFragment, params) }]
    : registeredUris(event.ext).map((uri) => ({ uri, traits: traitsOf(uri, false, params) }));
  return risks.filter((r) => r.traits.length > 0);
}

function counts(event: AuthEvent): boolean {
  if (isDelivery(event)) return event.outcome === 'success';
  return event.outcome !== 'failure' && event.outcome !== 'denied';
}

function evaluate(input: EvaluateInput<Params>): Signal[] {
  const { params, entity } = input;
  if (params.exclude_clients.includes(entity)) return [];
  const risky = ofDay(input.events, input.window).filter(
    (e) => counts(e) && risksOf(e, params).length > 0,
  );
  return splitByGap(risky, params.gap_ms).map((events): Signal => {
    const risks = events.flatMap((e) => risksOf(e, params));
    const traits = known(risks.flatMap((r) => r.traits)) as Trait[];
    const uris = known(risks.map((r) => r.uri));
    const deliveries = events.filter(isDelivery);
    const isSent = deliveries.length > 0;
    const isGrave = traits.some((t) => t !== 'shared_host');
    const [first] = events;
    return {
      episode: first === undefined ? '' : isoTime(first),
      verdict: isSent ? 'used' : 'registered',
      severity: isGrave ? 'high' : 'medium',
      confidence: isSent ? 95 : 90,
      summary: `Client ${entity} ${isSent ? 'got codes or tokens sent to' : 'registered'} a risky redirect URI: ${uris.slice(0, 3).join(', ')}.`,
      reasons: traits.map((t) => REASONS[t]),
      evidence: {
        redirect_uris: uris.slice(0, URIS_LISTED_MAX),
        redirect_uri_count: uris.length,
        traits,
        registrations: events.length - deliveries.length,
        uses: deliveries.length,
        networks: known(deliveries.map((e) => e.net.network)).slice(0, URIS_LISTED_MAX),
      },
      events,
      tokenRefs: known(
        deliveries.flatMap((e) => [
          ...tokensOf(e, 'issued', 'code').map((t) => t.ref),
          ...tokensOf(e, 'issued', 'access').map((t) => t.ref),
        ]),
      ),
    };
  });
}

/** Text that a regular expression takes for itself. */
function quoted(text: string): string {
  return text.replaceAll('.', '\\.');
}

/** The parts of a list of redirect URIs (model/client_metadata.ts), as one text. */
const LISTED = sql`arrayStringConcat(mapValues(mapFilter((k, v) -> startsWith(k, 'redirect_uris'), ext)), ' ')`;

/** Rows that `risksOf` may find risky: somewhat more than these. */
function mayBeRisky(params: Params): Sql {
  const end = '\\.?(:[0-9]*)?([/?#]|$)';
  const loopback = `^https?://(localhost|127(\\.[0-9]{1,3}){3}|\\[::1\\])${end}`;
  const address = `^https?://(\\[|([a-z0-9-]+\\.)*(0x[0-9a-f]*|[0-9]+)${end})`;
  const hosts = [...params.shared_domains, ...params.dangling_hosts].map(quoted).join('|');
  const uri = sql`lower(redirect_uri)`;
  const host =
    hosts === ''
      ? sql`false`
      : sql`match(${uri}, ${param.string(`://([^/]*\\.)?(${hosts})${end}`)})`;
  return sql`(
    (${kindIn(REGISTRATIONS)} AND outcome NOT IN ('failure', 'denied') AND ext['redirect_uris'] != '')
    OR (${kindIn(DELIVERIES)} AND outcome = 'success' AND redirect_uri != '' AND (
      position(redirect_uri, '*') > 0 OR position(ext['redirect_uri_had'], 'fragment') > 0
      OR match(${uri}, ${param.string(`^(${SCRIPT_SCHEMES.join('|')}):`)})
      OR (NOT match(${uri}, ${param.string(loopback)})
        AND (startsWith(${uri}, 'http://') OR match(${uri}, ${param.string(address)}) OR ${host})))))`;
}

function candidates(scope: CandidateScope, params: Params): Sql {
  return sql`
    SELECT client_id AS entity, time AS at FROM grantscope.auth_events
    WHERE tenant = ${param.string(scope.tenant)} AND ${kindIn(KINDS)} AND client_id != ''
      AND ${scope.condition} AND ${mayBeRisky(params)}`;
}

function history(selection: HistorySelection, params: Params): Sql {
  return sql`
    SELECT entity, event_id, at FROM (
      SELECT client_id AS entity, event_id, any(kind) AS k, any(concat(redirect_uri, '\n', ${LISTED})) AS uris, any(time) AS at
      FROM grantscope.auth_events
      WHERE tenant = ${param.string(selection.tenant)} AND ${kindIn(KINDS)}
        AND client_id IN ${param.strings(selection.entities)}
        AND time >= fromUnixTimestamp64Nano(${param.int64(selection.window?.readFrom ?? 0n)}, 'UTC')
        AND time < fromUnixTimestamp64Nano(${param.int64(selection.window?.to ?? 0n)}, 'UTC')
        AND ${mayBeRisky(params)}
      GROUP BY client_id, event_id
    ) ORDER BY entity, at, event_id LIMIT ${param.uint(EVENTS_PER_URI_MAX)} BY entity, k, uris`;
}

const HOME = '198.51.100.0/24';
const register = (t: number, uris: string, more: Partial<ExampleEvent> = {}): ExampleEvent => ({
  t,
  kind: 'client_registered',
  outcome: 'success',
  client: { id: 'web-shop' },
  ext: { redirect_uris: uris },
  ...more,
});
const send = (t: number, uri: string, more: Partial<ExampleEvent> = {}): ExampleEvent => ({
  t,
  kind: 'code_issued',
  outcome: 'success',
  client: { id: 'web-shop' },
  redirect_uri: uri,
  net: { network: HOME },
  tokens: [{ role: 'issued', type: 'code', ref: exampleRef(`code ${t}`) }],
  ...more,
});
/** Takes three entries of `ext`. */
const LONG_LIST = [
  ...Array.from({ length: 150 }, (_, i) => `https://shop.example/callback/${i}/after-login`),
  'http://shop.example/last',
];
/** One name under each, and one of the domains itself. */
const SHARED_HOSTS = [
  ...'shop.azurewebsites.net shop.cloudapp.net shop.cloudapp.azure.com shop.azureedge.net'.split(
    ' ',
  ),
  ...'shop.azurefd.net shop.trafficmanager.net shop.blob.core.windows.net'.split(' '),
  ...'shop.s3.amazonaws.com shop.cloudfront.net shop.elasticbeanstalk.com shop.herokuapp.com'.split(
    ' ',
  ),
  ...'shop.github.io shop.gitlab.io shop.netlify.app shop.vercel.app shop.pages.dev'.split(' '),
  ...'shop.workers.dev shop.web.app shop.firebaseapp.com shop.glitch.me shop.surge.sh'.split(' '),
  ...'shop.onrender.com shop.ngrok.io shop.ngrok.app shop.ngrok-free.app shop.loca.lt'.split(' '),
  ...'shop.trycloudflare.com shop.repl.co shop.replit.app shop.myshopify.com shop.ghost.io'.split(
    ' ',
  ),
  ...'shop.fly.dev'.split(' '),
  'github.io',
];
const expected = (
  t: number,
  uris: string[],
  traits: Trait[],
  more: { registrations?: number; uses?: number } = {},
) => {
  const { registrations = 0, uses = 0 } = more;
  return {
    entity: 'web-shop',
    episode: exampleTime(t),
    verdict: uses > 0 ? 'used' : 'registered',
    severity: traits.join() === 'shared_host' ? ('medium' as const) : ('high' as const),
    evidence: {
      redirect_uris: uris,
      redirect_uri_count: uris.length,
      traits,
      registrations,
      uses,
      networks: uses > 0 ? [HOME] : [],
    },
  };
};
const sent = (name: string, uri: string, traits: Trait[], more: Partial<ExampleEvent> = {}) => ({
  name: `fires: a code is sent to ${name}`,
  events: [send(0, uri, more)],
  expect: [expected(0, [uri], traits, { uses: 1 })],
});

export default defineDetector<Params>({
  id: 'redirect_uri_risky',
  version: 1,
  title: 'Risky redirect URI',
  family: 'redirect_abuse',
  severity: 'high',
  confidence: 95,
  description:
    'A client registers, or gets a code or token sent to, a redirect URI that others can read or take over: plain http, a wildcard, a fragment, an address instead of a name, a scheme that browsers run, a name on shared hosting, or a host that nobody holds any more.',
  references: [
    'RFC 9700 section 4.1',
    'RFC 6749 section 3.1.2',
    'RFC 8252 section 8.3',
    'ATT&CK T1584.001',
    'ATT&CK T1528',
  ],
  entity: 'client',
  verdicts: {
    registered: 'A registration names such a URI.',
    used: 'The server sent a code or token to one.',
  },
  evidence: {
    redirect_uris: 'The risky URIs (at most 20).',
    redirect_uri_count: 'Their number.',
    traits: 'http, wildcard, fragment, ip_literal, script_scheme, shared_host, dangling_host.',
    registrations: 'Registrations in the episode that name one.',
    uses: 'Codes and tokens sent to one (of at most 50 per URI and day).',
    networks: 'Networks of the users who were sent there (at most 20).',
  },
  needs: ['redirect_uri', 'client.id', 'outcome', 'ext'],
  kinds: KINDS,
  episodes: 'daily',
  quietMs: 21_600_000,
  parameters: Parameters,
  concerns: (fact) =>
    KINDS.some((k) => k === fact.kind) && fact.outcome !== 'failure' && fact.outcome !== 'denied',
  screen: mayBeRisky,
  candidates,
  history,
  evaluate,
  falsePositives: [
    'An application that lives on shared hosting for good, under a name that its owner keeps: allowed_patterns.',
    'A closed network where http or addresses are accepted: allowed_patterns.',
    'Not reported: http to a loopback address (RFC 8252 section 7.3), private-use schemes of native apps, and requests that the server refused. Which hosts dangle is known from dangling_hosts alone: no name is looked up.',
  ],
  examples: [
    sent('plain http', 'http://shop.example/cb', ['http']),
    sent('an address', 'https://192.0.2.1/cb', ['ip_literal']),
    sent('an address in one number', 'https://3221225985/cb', ['ip_literal']),
    sent('an IPv6 address over http', 'http://[2001:db8::1]:8080/cb', ['http', 'ip_literal']),
    sent('a host named after loopback', 'http://127.0.0.1.evil.example/cb', ['http']),
    sent('a URI that had a fragment', 'https://shop.example/cb', ['fragment'], {
      ext: { redirect_uri_had: 'query fragment' },
    }),
    sent('a script', 'JavaScript:alert(1)', ['script_scheme']),
    sent('a name on shared hosting', 'https://Old-Shop.azurewebsites.net:443/cb', ['shared_host']),
    {
      name: 'fires: a wildcard is registered, and used later; the registration came last',
      events: [
        send(60, 'https://shop.example/*'),
        send(3_600, 'https://shop.example/*'),
        register(0, 'https://shop.example/cb https://shop.example/*'),
      ],
      expect: [
        expected(0, ['https://shop.example/*'], ['wildcard'], { registrations: 1, uses: 2 }),
      ],
    },
    {
      name: 'fires: an update registers several at once',
      events: [
        register(0, 'https://shop.example/cb#top http://shop.example/cb https://*.shop.example/', {
          kind: 'client_updated',
          outcome: 'unknown',
        }),
      ],
      expect: [
        expected(
          0,
          ['http://shop.example/cb', 'https://*.shop.example/', 'https://shop.example/cb#top'],
          ['fragment', 'http', 'wildcard'],
          { registrations: 1 },
        ),
      ],
    },
    {
      name: 'fires: the last of a long list of redirect URIs',
      events: [register(0, '', { ext: writeClientList('redirect_uris', LONG_LIST) })],
      expect: [expected(0, ['http://shop.example/last'], ['http'], { registrations: 1 })],
    },
    {
      name: 'fires: of a list that was cut, what is left; a URI that was cut itself says nothing',
      events: [
        register(0, `http://shop.example/cb https://x.github.io${'a'.repeat(ENTRY_LENGTH_MAX)}`),
        register(60, `https://shop.example/cb https://x.github.io/${'a'.repeat(ENTRY_LENGTH_MAX)}`),
      ],
      expect: [expected(0, ['http://shop.example/cb'], ['http'], { registrations: 1 })],
    },
    {
      name: 'fires: tokens sent in the front channel to a host that nobody holds',
      parameters: { dangling_hosts: ['old.shop.example'] },
      events: [
        send(0, 'https://www.old.shop.example/cb', {
          kind: 'token_issued',
          grant_type: 'implicit',
          tokens: [{ role: 'issued', type: 'access', ref: exampleRef('implicit') }],
        }),
        send(1, 'https://very-old.shop.example/cb'),
      ],
      expect: [expected(0, ['https://www.old.shop.example/cb'], ['dangling_host'], { uses: 1 })],
    },
    {
      name: 'a pause longer than the gap begins a new episode, one as long does not',
      parameters: { gap_ms: 3_600_000 },
      events: [
        send(0, 'http://a.example/cb'),
        send(3_600, 'http://b.example/cb'),
        send(7_200.001, 'http://c.example/cb'),
      ],
      expect: [
        expected(0, ['http://a.example/cb', 'http://b.example/cb'], ['http'], { uses: 2 }),
        expected(7_200.001, ['http://c.example/cb'], ['http'], { uses: 1 }),
      ],
    },
    {
      name: 'silent: loopback, private-use schemes and ordinary hosts',
      events: [
        send(0, 'http://127.0.0.1:51004/cb'),
        send(1, 'http://localhost/cb'),
        send(2, 'http://[::1]:9000/cb'),
        send(3, 'com.example.app:/cb'),
        send(4, 'https://shop.example/cb'),
        send(5, 'https://azurewebsites.net.shop.example/cb'),
        send(6, 'https://notgithub.io/cb'),
        send(7, 'https://shop4.example/cb'),
        send(8, ''),
        register(9, 'https://shop.example/cb http://127.0.0.1/cb com.example.app:/cb'),
      ],
      expect: [],
    },
    {
      name: 'silent: what the server refused, and requests alone',
      events: [
        send(0, 'http://shop.example/cb', { outcome: 'failure' }),
        send(1, 'http://shop.example/cb', { kind: 'authorization_requested', tokens: [] }),
        register(2, 'http://shop.example/cb', { outcome: 'denied' }),
      ],
      expect: [],
    },
    {
      name: 'silent: allowed patterns and excluded clients',
      parameters: {
        allowed_patterns: ['http://*.intranet.example/cb'],
        exclude_clients: ['legacy'],
      },
      events: [
        send(0, 'http://erp.intranet.example/cb'),
        send(1, 'http://shop.example/cb', { client: { id: 'legacy' } }),
      ],
      expect: [],
    },
    {
      name: 'fires: a code is sent to every kind of shared hosting, below it and at its own name',
      events: SHARED_HOSTS.map((host, i) => send(i, `https://${host}/cb`)),
      expect: [
        {
          ...expected(0, [], ['shared_host'], { uses: SHARED_HOSTS.length }),
          evidence: {
            redirect_uris: SHARED_HOSTS.map((host) => `https://${host}/cb`)
              .sort()
              .slice(0, 20),
            redirect_uri_count: SHARED_HOSTS.length,
            traits: ['shared_host'],
            registrations: 0,
            uses: SHARED_HOSTS.length,
            networks: [HOME],
          },
        },
      ],
    },
    {
      name: 'fires: every scheme that a browser runs or reads by itself',
      events: ['blob:x', 'data:text/html,x', 'file:///x', 'vbscript:x'].map((uri, i) =>
        send(i, uri),
      ),
      expect: [
        expected(0, ['blob:x', 'data:text/html,x', 'file:///x', 'vbscript:x'], ['script_scheme'], {
          uses: 4,
        }),
      ],
    },
    sent('shared hosting over plain http', 'http://old.github.io/cb', ['http', 'shared_host']),
    {
      name: 'six hours apart is one episode, a millisecond more is two; midnight is the next day',
      events: [
        send(-21_600, 'http://a.example/cb'),
        send(0, 'http://a.example/cb'),
        send(21_600.001, 'http://b.example/cb'),
        send(43_200, 'http://c.example/cb'),
      ],
      expect: [
        expected(-21_600, ['http://a.example/cb'], ['http'], { uses: 2 }),
        expected(21_600.001, ['http://b.example/cb'], ['http'], { uses: 1 }),
        expected(43_200, ['http://c.example/cb'], ['http'], { uses: 1 }),
      ],
    },
    {
      name: 'fires: a list that just fits is read to its end',
      events: [register(0, `http://shop.example/${'a'.repeat(ENTRY_LENGTH_MAX - 20)}`)],
      expect: [
        expected(0, [`http://shop.example/${'a'.repeat(ENTRY_LENGTH_MAX - 20)}`], ['http'], {
          registrations: 1,
        }),
      ],
    },
    {
      name: 'silent: an address under a scheme of its own',
      events: [register(0, 'com.example.app://192.0.2.1/cb')],
      expect: [],
    },
  ],
});
