import { z } from 'zod';
import type { AuthEvent } from '../../model/auth_event.ts';
import {
  defineDetector,
  exampleTime,
  type EvaluateInput,
  type ExampleEvent,
  type Signal,
} from '../../model/define_detector.ts';
import { exampleRef } from '../../model/example_ref.ts';
import { ofDay, splitByGap } from './_episodes.ts';
import {
  editDistance,
  hostOf,
  isInternational,
  isIpLiteral,
  isLoopbackHost,
  matchesPattern,
  registrableDomain,
  skeletonOf,
  splitRedirect,
  toUnicodeHost,
  type RedirectParts,
} from './_hosts.ts';
import { isoTime, known, tokensOf } from './_origin.ts';
import {
  concernsRedirects,
  isUnregistered,
  REDIRECT_KINDS,
  redirectCandidates,
  redirectHistory,
  wasRefused,
} from './_redirects.ts';

/** Names shorter than this differ by one letter from half of the others. */
const NAME_LENGTH_MIN = 4;
/** From this length on, two edits still look alike. */
const TWO_EDITS_LENGTH_MIN = 7;
const URIS_LISTED_MAX = 20;

const Parameters = z.strictObject({
  /** Largest edit distance of two domains that look alike. */
  max_distance: z.int().min(0).max(3).default(2),
  /** Pause after which a new episode begins, ms. */
  gap_ms: z.int().min(1_000).max(86_400_000).default(21_600_000),
  /** Domains of one's own that may be asked for unregistered, for instance `example.org`. */
  own_domains: z.array(z.string().min(1)).default([]),
  allowed_patterns: z.array(z.string().min(1)).default([]),
  exclude_clients: z.array(z.string()).default([]),
});
type Params = z.infer<typeof Parameters>;

interface Trick {
  /** Stable name, in the evidence. */
  readonly name: string;
  readonly reason: string;
}

/** Ways to write a URI that one parser reads as home and another as abroad. */
function writingTricks(event: AuthEvent, parts: RedirectParts): Trick[] {
  const uri = event.redirect_uri;
  const path = parts.path.toLowerCase();
  const tricks: Trick[] = [];
  // The userinfo itself is never stored; that there was one is.
  const hadUserinfo = (event.ext['redirect_uri_had'] ?? '').split(' ').includes('userinfo');
  if (hadUserinfo || parts.userinfo !== '' || path.includes('@'))
    tricks.push({ name: 'at_sign', reason: 'an @ hides which part is the host' });
  if (uri.includes('\\') || path.includes('%5c'))
    tricks.push({ name: 'backslash', reason: 'browsers read a backslash as a slash' });
  if (/https?:\/|https?%3a/.test(path))
    tricks.push({ name: 'nested_url', reason: 'another URL is nested in the path' });
  else if (path.includes('//') || path.includes('%2f%2f'))
    tricks.push({ name: 'double_slash', reason: 'a double slash may start a new host' });
  return tricks;
}

/** The registered part without its public suffix: `example` of `example.co.uk`. */
function nameOf(domain: string): string {
  return domain.split('.')[0] ?? '';
}

function distanceLimit(name: string, params: Params): number {
  if (name.length < NAME_LENGTH_MIN) return 0;
  return name.length < TWO_EDITS_LENGTH_MIN
    ? Math.min(1, params.max_distance)
    : params.max_distance;
}

/** How the host resembles one registered host without being its sibling. */
function likeness(host: string, registered: string, params: Params): Trick | undefined {
  const mine = registrableDomain(registered);
  const theirs = registrableDomain(host);
  if (mine === theirs) return undefined;
  if (skeletonOf(theirs) === skeletonOf(mine))
    return { name: 'confusable', reason: `${toUnicodeHost(host)} reads like ${registered}` };
  // By what people read: one foreign letter changes every character of its ASCII form.
  const distance = editDistance(toUnicodeHost(theirs), toUnicodeHost(mine), params.max_distance);
  if (distance <= distanceLimit(nameOf(mine), params))
    return { name: 'edit_distance', reason: `${host} is ${distance} edit(s) from ${registered}` };
  const isEmbedded =
    `.${host}.`.includes(`.${mine}.`) || host.includes(`${mine.replaceAll('.', '-')}.`);
  return isEmbedded
    ? { name: 'embedded_host', reason: `${host} carries the name ${mine} under another domain` }
    : undefined;
}

function hostTricks(host: string, registered: readonly string[], params: Params): Trick[] {
  if (host === '' || isIpLiteral(host) || isLoopbackHost(host)) return [];
  if (params.own_domains.some((d) => registrableDomain(d) === registrableDomain(host))) return [];
  const hosts = known(registered.map(hostOf)).filter((h) => !isIpLiteral(h) && !isLoopbackHost(h));
  // A sibling of one registered host is not a look-alike of another.
  if (hosts.some((h) => registrableDomain(h) === registrableDomain(host))) return [];
  const like = hosts.map((h) => likeness(host, h, params)).find((l) => l !== undefined);
  if (like !== undefined) return [like];
  return isInternational(host)
    ? [{ name: 'punycode', reason: `${host} shows as ${toUnicodeHost(host)}` }]
    : [];
}

/** All that is suspicious about an unregistered URI. */
function tricksOf(event: AuthEvent, input: EvaluateInput<Params>): Trick[] {
  const { params, clients } = input;
  const uri = event.redirect_uri;
  if (uri === '' || !isUnregistered(event, clients)) return [];
  if (params.allowed_patterns.some((p) => matchesPattern(uri, p))) return [];
  const parts = splitRedirect(uri);
  if (parts === undefined) return [];
  const registered = clients.at(event.client.id, event.time).redirectUris ?? [];
  return [...writingTricks(event, parts), ...hostTricks(parts.host, registered, params)];
}

function evaluate(input: EvaluateInput<Params>): Signal[] {
  const { params, entity } = input;
  if (params.exclude_clients.includes(entity)) return [];
  const odd = ofDay(input.events, input.window).filter((e) => tricksOf(e, input).length > 0);
  return splitByGap(odd, params.gap_ms).map((events): Signal => {
    const tricks = events.flatMap((e) => tricksOf(e, input));
    const [first] = events;
    const isSent = events.some((e) => e.kind === 'code_issued' && e.outcome === 'success');
    const uris = known(events.map((e) => e.redirect_uri));
    const sent = isSent ? ['the server sent a code to it'] : [];
    return {
      episode: first === undefined ? '' : isoTime(first),
      verdict: isSent ? 'code_sent' : 'asked',
      severity: isSent ? 'critical' : 'high',
      confidence: isSent ? 95 : 80,
      summary: `Client ${entity} was asked to send users to a look-alike address: ${uris.slice(0, 3).join(', ')}.`,
      reasons: [...sent, ...new Set(tricks.map((t) => t.reason))].slice(0, 20),
      evidence: {
        redirect_uris: uris.slice(0, URIS_LISTED_MAX),
        tricks: known(tricks.map((t) => t.name)),
        requests: events.length,
        refused: events.filter(wasRefused).length,
        networks: known(events.map((e) => e.net.network)).slice(0, URIS_LISTED_MAX),
      },
      events,
      tokenRefs: known(events.flatMap((e) => tokensOf(e, 'issued', 'code').map((t) => t.ref))),
    };
  });
}

const HOME = '198.51.100.0/24';
const CLIENTS = [
  {
    client_id: 'web-shop',
    redirect_uris: ['https://login.example.com/cb', 'https://shop-one.net/cb'],
  },
];
const ask = (t: number, uri: string, more: Partial<ExampleEvent> = {}): ExampleEvent => ({
  t,
  kind: 'authorization_requested',
  client: { id: 'web-shop' },
  redirect_uri: uri,
  net: { network: HOME },
  ...more,
});
const fires = (
  name: string,
  uri: string,
  tricks: string[],
  more: Partial<ExampleEvent> = {},
  registered?: string[],
) => ({
  name,
  clients:
    registered === undefined ? CLIENTS : [{ client_id: 'web-shop', redirect_uris: registered }],
  events: [ask(0, uri, more)],
  expect: [
    {
      entity: 'web-shop',
      episode: exampleTime(0),
      verdict: 'asked',
      severity: 'high' as const,
      evidence: { redirect_uris: [uri], tricks, requests: 1, refused: 0, networks: [HOME] },
    },
  ],
});
const silent = (name: string, ...uris: string[]) => ({
  name: `silent: ${name}`,
  clients: CLIENTS,
  events: uris.map((u, i) => ask(i, u)),
  expect: [],
});

export default defineDetector<Params>({
  id: 'redirect_lookalike',
  version: 1,
  title: 'Look-alike redirect address',
  family: 'redirect_abuse',
  severity: 'critical',
  confidence: 95,
  description:
    'An authorization request names a redirect URI that is not registered, but made to look or parse like one that is: a misspelt or internationalised domain, the registered name under another domain, or a trick of writing.',
  references: ['RFC 9700 section 4.1', 'RFC 9700 section 4.11', 'RFC 3492', 'ATT&CK T1566.002'],
  entity: 'client',
  verdicts: {
    asked: 'Somebody asked for it.',
    code_sent: 'The server sent an authorization code there.',
  },
  evidence: {
    redirect_uris: 'The URIs (at most 20).',
    tricks:
      'confusable, edit_distance, embedded_host, punycode, at_sign, backslash, nested_url, double_slash.',
    requests: 'Number of events.',
    refused: 'How many the server refused as unregistered.',
    networks: 'Networks that asked (at most 20).',
  },
  needs: ['redirect_uri', 'client.id', 'error.code'],
  kinds: REDIRECT_KINDS,
  episodes: 'daily',
  quietMs: 21_600_000,
  parameters: Parameters,
  concerns: concernsRedirects,
  candidates: (scope) => redirectCandidates(scope),
  history: (selection) => redirectHistory(selection),
  evaluate,
  falsePositives: [
    "Another domain of one's own, or a typing error in a deployment: own_domains, allowed_patterns.",
    'Not reported: sibling hosts of one domain, IP addresses and loopback, names of fewer than 4 letters, clients whose registered URIs are unknown unless the server refused the URI.',
  ],
  examples: [
    fires('one letter is replaced', 'https://login.examp1e.com/cb', ['confusable']),
    fires('one letter is missing', 'https://login.exmple.com/cb', ['edit_distance']),
    fires('two neighbours are swapped', 'https://exmaple.com/cb', ['edit_distance']),
    fires('another top-level domain, one letter away', 'https://example.co/cb', ['edit_distance']),
    fires('Cyrillic letters in punycode', 'https://xn--80ak6aa92e.com/cb', ['punycode']),
    fires('a Cyrillic a', 'https://login.xn--exmple-4nf.com/cb', ['confusable']),
    fires('one foreign letter, in punycode', 'https://login.xn--exmple-cpf.com/cb', [
      'edit_distance',
    ]),
    fires('one foreign letter, as it reads', 'https://login.exжmple.com/cb', ['edit_distance']),
    fires(
      'a neighbour on shared hosting',
      'https://shop-onne.github.io/cb',
      ['edit_distance'],
      {},
      ['https://shop-one.github.io/cb'],
    ),
    fires('the name under another domain', 'https://login.example.com.evil.net/cb', [
      'embedded_host',
    ]),
    fires('the name with dashes under another domain', 'https://login-example-com.evil.net/cb', [
      'embedded_host',
    ]),
    fires(
      'an at sign, cut off with the userinfo before storage',
      'https://evil.net/cb',
      ['at_sign'],
      {
        ext: { redirect_uri_had: 'userinfo' },
      },
    ),
    fires('an at sign in the path', 'https://login.example.com/@evil.net/cb', ['at_sign']),
    fires('a backslash', 'https://evil.net\\.login.example.com/cb', ['backslash']),
    fires('a nested URL', 'https://login.example.com/go/https://evil.net', ['nested_url']),
    fires('a double slash', 'https://login.example.com//evil.net/cb', ['double_slash']),
    {
      name: 'critical when a code was sent; refusals are counted; late repeats are one episode',
      clients: CLIENTS,
      events: [
        ask(0, 'https://exmaple.com/cb', {
          kind: 'authorization_failed',
          outcome: 'failure',
          error: { code: 'invalid_redirect_uri' },
        }),
        ask(21_600, 'https://exmaple.com/cb', {
          kind: 'code_issued',
          outcome: 'success',
          tokens: [{ role: 'issued', type: 'code', ref: exampleRef('code') }],
        }),
      ],
      expect: [
        {
          entity: 'web-shop',
          episode: exampleTime(0),
          verdict: 'code_sent',
          severity: 'critical',
          evidence: {
            redirect_uris: ['https://exmaple.com/cb'],
            tricks: ['edit_distance'],
            requests: 2,
            refused: 1,
            networks: [HOME],
          },
        },
      ],
    },
    silent('registered', 'https://login.example.com/cb', 'https://shop-one.net/cb'),
    silent(
      'siblings of one domain',
      'https://logim.example.com/cb',
      'https://shop2.example.com/cb',
    ),
    silent('a domain of its own', 'https://partner.org/cb', 'https://shop-thirteen.net/cb'),
    silent('addresses', 'https://192.0.2.1/cb', 'http://localhost:8080/cb'),
    {
      name: "silent: a domain of one's own",
      clients: CLIENTS,
      parameters: { own_domains: ['example.co'] },
      events: [ask(0, 'https://example.co/cb')],
      expect: [],
    },
    {
      name: 'silent: nothing is known of the client, and nobody refused',
      events: [ask(0, 'https://exmaple.com//cb')],
      expect: [],
    },
    {
      name: 'fires without a registration when the server refused a trick of writing',
      events: [
        ask(0, 'https://evil.net/cb', {
          kind: 'authorization_failed',
          outcome: 'failure',
          error: { oauth_error: 'redirect_uri_mismatch' },
          ext: { redirect_uri_had: 'userinfo query' },
        }),
      ],
      expect: [
        {
          entity: 'web-shop',
          episode: exampleTime(0),
          verdict: 'asked',
          severity: 'high',
          evidence: {
            redirect_uris: ['https://evil.net/cb'],
            tricks: ['at_sign'],
            requests: 1,
            refused: 1,
            networks: [HOME],
          },
        },
      ],
    },
    fires('one edit in a name of four letters', 'https://shap.net/cb', ['edit_distance'], {}, [
      'https://shop.net/cb',
    ]),
    fires('two edits in a name of seven letters', 'https://exabqle.com/cb', ['edit_distance']),
    fires('the registered host as userinfo', 'https://login.example.com@evil.net/cb', ['at_sign']),
    fires('an encoded backslash', 'https://evil.net/%5C.login.example.com', ['backslash']),
    fires('an encoded double slash', 'https://login.example.com/go/%2f%2Fevil.net', [
      'double_slash',
    ]),
    fires(
      'what it resembles most is told, of several registered hosts',
      'https://examp1e.com/cb',
      ['confusable'],
      {},
      ['https://exbmple.com/cb', 'https://example.com/cb'],
    ),
    ...[
      ['one edit in a name of three letters', 'https://abd.net/cb', 'https://abc.net/cb'],
      ['two edits in a name of six letters', 'https://hxrbxr.net/cb', 'https://harbor.net/cb'],
      ['three edits', 'https://eyaqplo.com/cb', 'https://example.com/cb'],
      ['loopback beside a host of like name', 'http://localhost/cb', 'https://localhast/cb'],
      ['a host of like name beside loopback', 'https://localhast/cb', 'http://localhost/cb'],
      ['an address beside a host of like name', 'https://[cafe::bab]/cb', 'https://cafebab/cb'],
      ['a host of like name beside an address', 'https://cafebab/cb', 'https://[cafe::bab]/cb'],
      ['a trick of writing that is registered', 'https://shop.net//cb', 'https://shop.net//cb'],
    ].map(([name = '', uri = '', registered = '']) => ({
      name: `silent: ${name}`,
      clients: [{ client_id: 'web-shop', redirect_uris: [registered] }],
      events: [ask(0, uri)],
      expect: [],
    })),
    {
      name: 'silent: a sibling of one registered host that resembles another',
      clients: [
        {
          client_id: 'web-shop',
          redirect_uris: ['https://shop-one.net/cb', 'https://shop-ore.net/cb'],
        },
      ],
      events: [ask(0, 'https://www.shop-one.net/cb')],
      expect: [],
    },
    {
      name: 'a pause longer than the gap begins a new episode; no code was sent by what failed or asked',
      clients: CLIENTS,
      events: [
        ask(0, 'https://exmaple.com/cb', { outcome: 'success' }),
        ask(21_600.001, 'https://exmaple.com/cb', { kind: 'code_issued', outcome: 'failure' }),
      ],
      expect: [0, 21_600.001].map((t) => ({
        entity: 'web-shop',
        episode: exampleTime(t),
        verdict: 'asked',
        severity: 'high' as const,
        evidence: {
          redirect_uris: ['https://exmaple.com/cb'],
          tricks: ['edit_distance'],
          requests: 1,
          refused: 0,
          networks: [HOME],
        },
      })),
    },
  ],
});
