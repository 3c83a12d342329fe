/**
 * The log formats of docs/sources/nginx.md in the real nginx: real requests pass through it, and what it logs comes
 * out of the adapter as the events that they were.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer, request, type IncomingMessage, type Server } from 'node:http';
import { connect, type AddressInfo } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { cutRecords } from '../../collector/receivers/cut_records.ts';
import nginx from '../../collector/sources/nginx.ts';
import { AuthEvent } from '../../model/auth_event.ts';
import { packageRoot } from '../../runtime/paths.ts';
import { eventsOf, expected, ring, withoutId } from '../golden/run_source.ts';
import { temporaryFolder } from '../harness.ts';
import { findProgram } from './programs.ts';

/** Ordinary users of Debian do not have its folder on their path. */
const program = findProgram('nginx', '../sbin/nginx');
if (program === undefined) {
  process.stderr.write('skipped: nginx not installed (apt-get install nginx-light)\n');
}

const GOOD = 'good-token-1';
const STALE = 'stale-token-1';
const page = readFileSync(join(packageRoot, 'docs', 'sources', 'nginx.md'), 'utf8');
/** The blocks of the page that belong into the http block. */
const documented = [...page.matchAll(/```nginx\n([\s\S]*?)```/g)]
  .map((m) => m[1] ?? '')
  .filter((block) => block.includes('log_format'))
  .join('\n');

/** A resource server that takes one token, and an introspection service beside it. */
function answer(req: IncomingMessage): { status: number; headers: Record<string, string> } {
  const url = new URL(req.url ?? '/', 'http://shop.example.com');
  const header = req.headers.authorization?.replace(/^Bearer /, '');
  const token = header ?? url.searchParams.get('access_token');
  if (token === null)
    return { status: 401, headers: { 'www-authenticate': 'Bearer realm="shop"' } };
  if (token !== GOOD) {
    const challenge = 'Bearer error="invalid_token", error_description="The access token expired"';
    return { status: 401, headers: { 'www-authenticate': challenge } };
  }
  const claims = {
    iss: 'https://as.example.com',
    sub: 'alice',
    'client-id': 'web',
    jti: 'token-7',
  };
  const more = { aud: 'shop', scope: 'orders:read openid', exp: '1893456000' };
  const headers = Object.entries({ ...claims, ...more }).map(([k, v]) => [`x-token-${k}`, v]);
  return { status: 200, headers: Object.fromEntries(headers) as Record<string, string> };
}

const CLAIMS = ['iss', 'sub', 'client_id', 'aud', 'scope', 'jti', 'exp'];

function configuration(folder: string, port: number, upstream: number): string {
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map(
    (kind) => `${kind}_temp_path ${folder}/${kind};`,
  );
  const set = CLAIMS.map(
    (name) => `auth_request_set $token_${name} $upstream_http_x_token_${name};`,
  );
  const logs = ['grantscope', 'grantscope_bare', 'combined'].map(
    (format) => `access_log ${folder}/${format}.log ${format};`,
  );
  return `
daemon off;
master_process off;
pid ${folder}/nginx.pid;
error_log ${folder}/error.log warn;
events { worker_connections 64; }
http {
  ${temporary.join('\n')}
  ${documented}
  limit_req_zone $server_name zone=few:64k rate=1r/m;
  limit_req_zone $server_name zone=fewer:64k rate=1r/m;
  server {
    listen 127.0.0.1:${port};
    server_name shop.example.com;
    ${logs.join('\n')}
    location / { proxy_pass http://127.0.0.1:${upstream}; }
    location /busy { limit_req zone=few; limit_req_status 429; proxy_pass http://127.0.0.1:${upstream}; }
    location /worn { limit_req zone=fewer; proxy_pass http://127.0.0.1:${upstream}; }
    location /closed { deny all; }
    location /checked {
      auth_request /introspect;
      ${set.join('\n')}
      access_log ${folder}/grantscope_claims.log grantscope_claims;
      proxy_pass http://127.0.0.1:${upstream};
    }
    location = /introspect {
      internal;
      proxy_pass http://127.0.0.1:${upstream};
      proxy_pass_request_body off;
      proxy_set_header content-length "";
    }
  }
}`;
}

describe.skipIf(program === undefined)('nginx', () => {
  const folder = temporaryFolder();
  let upstream: Server;
  let server: ChildProcess;
  let port: number;

  /** Sends a request without keeping the connection; gives its status. */
  async function send(path: string, headers: Record<string, string> = {}): Promise<number> {
    const agent = { 'user-agent': 'check/1.0' };
    const sent = request({
      ...{ host: '127.0.0.1', port, path, agent: false },
      headers: { host: 'shop.example.com', ...agent, ...headers },
    }).end();
    const [response] = (await once(sent, 'response')) as [IncomingMessage];
    response.resume();
    await once(response, 'end');
    return response.statusCode ?? 0;
  }

  async function sendGarbage(): Promise<void> {
    const socket = connect(port, '127.0.0.1');
    socket.end('\x16\x03\x01\x00\xa5\x01\r\n\r\n', 'latin1').resume();
    await once(socket, 'close');
  }

  /** What came out of a log file of `lines` lines: through the cutting of bodies and the adapter. */
  async function eventsIn(name: string, lines: number): Promise<AuthEvent[]> {
    const path = join(folder.path, `${name}.log`);
    const body = await vi.waitFor(() => {
      const content = readFileSync(path);
      expect(content.toString('utf8').split('\n').length - 1).toBe(lines);
      return content;
    });
    return [...cutRecords(body, nginx)].flatMap((cut) => {
      if (!cut.ok) throw new Error(`${cut.code}: ${cut.message}`);
      return eventsOf(nginx, cut.record).map((event) => AuthEvent.parse(event));
    });
  }

  const bearer = (token: string) => ({ authorization: `Bearer ${token}` });
  const sent: (readonly [path: string, headers: Record<string, string>, status: number])[] = [
    ['/orders/7?page=2', bearer(GOOD), 200],
    [`/orders/7?access_token=${GOOD}&page=2`, {}, 200],
    ['/orders/7', bearer(STALE), 401],
    ['/orders/7', {}, 401],
    ['/closed', {}, 403],
    ['/busy', bearer(GOOD), 200],
    ['/busy', bearer(GOOD), 429],
    ['/worn', bearer(GOOD), 200],
    ['/worn', bearer(GOOD), 503],
    [
      '/orders/8',
      {
        ...bearer(GOOD),
        'user-agent': 'a"b\\c',
        'x-forwarded-for': '203.0.113.9, 10.0.0.2',
        traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01',
      },
      200,
    ],
  ];
  const LINES = sent.length + 1;
  let started = 0n;
  let ended = 0n;

  beforeAll(async () => {
    upstream = createServer((req, res) => {
      const { status, headers } = answer(req);
      res.writeHead(status, headers).end();
    }).listen(0, '127.0.0.1');
    await once(upstream, 'listening');
    const probe = createServer().listen(0, '127.0.0.1');
    await once(probe, 'listening');
    ({ port } = probe.address() as AddressInfo);
    probe.close();
    await once(probe, 'close');
    mkdirSync(join(folder.path, 'logs'));
    const file = join(folder.path, 'nginx.conf');
    writeFileSync(file, configuration(folder.path, port, (upstream.address() as AddressInfo).port));
    const files = ['-e', join(folder.path, 'error.log'), '-p', folder.path, '-c', file];
    server = spawn(program ?? '', files, { stdio: 'ignore' });
    await vi.waitFor(
      async () => {
        const socket = connect(port, '127.0.0.1');
        await once(socket, 'connect');
        socket.destroy();
      },
      { timeout: 10_000, interval: 50 },
    );
    started = BigInt(Date.now()) * 1_000_000n;
    for (const [path, headers, status] of sent) expect(await send(path, headers)).toBe(status);
    await sendGarbage();
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

  const short = (e: AuthEvent) => [
    ...[e.kind, e.outcome, e.error.code, e.http.route, e.http.status, e.tokens.length],
    e.ext['token_in_url'] ?? '',
  ];
  const told = [
    ['api_accessed', 'success', '', '/orders/7', 200, 0, ''],
    ['api_accessed', 'success', '', '/orders/7', 200, 1, 'true'],
    ['token_rejected', 'failure', 'expired', '/orders/7', 401, 0, ''],
    ['api_accessed', 'denied', '', '/orders/7', 401, 0, ''],
    ['api_accessed', 'denied', '', '/closed', 403, 0, ''],
    ['api_accessed', 'success', '', '/busy', 200, 0, ''],
    ['rate_limited', 'denied', 'rate_limited', '/busy', 429, 0, ''],
    ['api_accessed', 'success', '', '/worn', 200, 0, ''],
    ['rate_limited', 'denied', 'rate_limited', '/worn', 503, 0, ''],
    ['api_accessed', 'success', '', '/orders/8', 200, 0, ''],
    ['api_accessed', 'failure', '', '', 400, 0, ''],
  ];

  it('tells every request by the documented JSON', async () => {
    const events = await eventsIn('grantscope', LINES);
    expect(events.map(short)).toEqual(told);
    for (const event of events) {
      expect(event.time >= started - 1_000_000n && event.time <= ended + 1_000_000n).toBe(true);
      expect(event.http.duration_ms).toBeLessThan(5_000);
      expect(event.corr.request_id).toMatch(/^[0-9a-f]{32}$/);
      expect(event.source.instance).not.toBe('');
    }
    const [, inUrl, stale] = events;
    expect(withoutId(inUrl!)).toEqual(
      expected(nginx, {
        time: inUrl!.time,
        kind: 'api_accessed',
        outcome: 'success',
        source: { raw_type: 'access', instance: inUrl!.source.instance },
        resource: ['shop.example.com'],
        tokens: [{ role: 'presented', type: 'access', ref: ring.ref('token', GOOD) }],
        net: {
          ...{ client_ip: '127.0.0.1', network: '127.0.0.0/24' },
          ...{ user_agent: 'check/1.0', ua_family: 'check' },
        },
        http: { ...inUrl!.http, method: 'GET', route: '/orders/7', status: 200 },
        corr: { request_id: inUrl!.corr.request_id },
        ext: { token_in_url: 'true' },
        redaction: { fields: ['tokens.ref'] },
      }),
    );
    expect(stale!.error).toEqual({
      ...{ code: 'expired', oauth_error: 'invalid_token', detail: 'The access token expired' },
    });
    expect(events[9]).toMatchObject({
      net: { client_ip: '203.0.113.9', ip_role: 'end_user', user_agent: 'a"b\\c' },
      corr: { trace_id: '0af7651916cd43dd8448eb211c80319c', span_id: 'b7ad6b7169203331' },
    });
  });

  it('tells the same without any query in the log', async () => {
    const events = await eventsIn('grantscope_bare', LINES);
    const bare = told.map((row) => row.with(5, 0));
    expect(events.map(short)).toEqual(bare);
    expect(readFileSync(join(folder.path, 'grantscope_bare.log'), 'utf8')).not.toContain(GOOD);
  });

  it('tells what a combined line holds', async () => {
    const events = await eventsIn('combined', LINES);
    expect(events.map((e) => [e.http.route, e.http.status])).toEqual(
      told.map((row) => [row[3], row[4]]),
    );
    const kinds = events.map((e) => e.kind);
    expect(kinds.filter((kind) => kind === 'rate_limited')).toHaveLength(1);
    expect(events[1]).toMatchObject({
      tokens: [{ ref: ring.ref('token', GOOD) }],
      ext: { token_in_url: 'true' },
    });
    expect(events[9]!.net.user_agent).toBe('a"b\\c');
  });

  it('tells who it was where an introspection service says so', async () => {
    expect(await send('/checked/1', bearer(GOOD))).toBe(200);
    expect(await send('/checked/1', bearer(STALE))).toBe(401);
    const [good, stale] = await eventsIn('grantscope_claims', 2);
    expect(good).toMatchObject({
      ...{ kind: 'api_accessed', outcome: 'success', issuer: 'https://as.example.com' },
      ...{ client: { id: 'web' }, subject: { ref: ring.ref('subject', 'alice') } },
      ...{ audience: ['shop'], scopes_granted: ['openid', 'orders:read'] },
      tokens: [{ ref: ring.refOfJti('token-7'), expires_at: 1_893_456_000_000_000_000n }],
    });
    expect(stale).toMatchObject({
      ...{ kind: 'token_rejected', error: { code: 'expired' }, issuer: '', tokens: [] },
      client: { id: '' },
    });
  });
});
