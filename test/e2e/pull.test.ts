// How: servers on loopback that page, limit and fail as the vendors document it, the real collector and store, and for the
// kill a real process. What the vendor's log holds is compared with what the store holds: every record once, after refusals,
// failures in the middle, stops, and a SIGKILL while a page is stored and its cursor is not.
import { once } from 'node:events';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startConnectors } from '../../collector/connectors/start.ts';
import { startCollector, type Collector } from '../../collector/main.ts';
import { param, sql } from '../../model/sql.ts';
import { CollectorSettings } from '../../runtime/collector_settings.ts';
import type { Runtime } from '../../runtime/context.ts';
import type { Component } from '../../runtime/lifecycle.ts';
import { openTestStore, temporaryFolder, testRuntime } from '../harness.ts';
import { startServer } from '../server_process.ts';

let opened: Awaited<ReturnType<typeof openTestStore>>;
let runtime: Runtime;
let collector: Collector;
const secrets = temporaryFolder();
const TOKEN = `okta-${'h2Vd'.repeat(6)}`;
const SECRET = `auth0-${'p8Ns'.repeat(6)}`;
const servers: Server[] = [];

beforeAll(async () => {
  writeFileSync(join(secrets.path, 'okta'), `${TOKEN}\n`);
  writeFileSync(join(secrets.path, 'auth0'), SECRET);
  opened = await openTestStore();
  runtime = testRuntime(opened.dataDir, { config: { segmentAgeMsMax: 20 } });
  collector = await startCollector(runtime, opened.store);
});
afterAll(async () => {
  await collector.stop();
  await opened.close();
  secrets.remove();
  for (const server of servers) server.close();
});

type Handler = (url: URL, request: IncomingMessage, response: ServerResponse, body: string) => void;

async function vendor(handler: Handler): Promise<string> {
  const server = createServer((request, response) => {
    let body = '';
    request.on('data', (c: Buffer) => (body += c.toString('utf8')));
    request.on('end', () => {
      const url = new URL(request.url ?? '/', `http://${request.headers.host ?? ''}`);
      handler(url, request, response, body);
    });
  });
  servers.push(server);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

function json(
  response: ServerResponse,
  status: number,
  body: unknown,
  headers: Record<string, string> = {},
): void {
  response
    .writeHead(status, { 'Content-Type': 'application/json', ...headers })
    .end(JSON.stringify(body));
}

const NOW = Math.floor(Date.now() / 1_000) * 1_000 - 3_600_000;
const at = (n: number): string => new Date(NOW + n).toISOString();
const range = (from: number, to: number): number[] =>
  Array.from({ length: to - from }, (_, i) => from + i);

/** A System Log: pages of at most `limit`, a next link on each of them. `intercept` answers in its place. */
class OktaLog {
  readonly events: object[] = [];
  requests: { search: string; authorization: string | undefined; atMs: number }[] = [];
  intercept: (n: number, response: ServerResponse) => boolean = () => false;
  limitHeaders: (n: number) => Record<string, string> = () => ({});
  url = '';
  readonly #client: string;

  constructor(client: string) {
    this.#client = client;
  }

  async start(): Promise<this> {
    this.url = await vendor((url, request, response) => {
      const { authorization } = request.headers;
      this.requests.push({ search: url.search, authorization, atMs: performance.now() });
      const n = this.requests.length;
      if (this.intercept(n, response)) return;
      if (authorization !== `SSWS ${TOKEN}`) json(response, 401, { errorCode: 'E0000011' });
      else if (url.pathname !== '/api/v1/logs') json(response, 404, {});
      else this.#page(url, n, response);
    });
    return this;
  }

  #page(url: URL, n: number, response: ServerResponse): void {
    const limit = Math.min(1_000, Number(url.searchParams.get('limit') ?? '100'));
    const after = Number(url.searchParams.get('after') ?? '0');
    const events = this.events.slice(after, after + limit);
    const next = new URL(url.href);
    next.searchParams.set('after', String(after + events.length));
    const self = `<${url.href}>; rel="self"`;
    json(response, 200, events, {
      Link: `${self}, <${next.href}>; rel="next"`,
      ...this.limitHeaders(n),
    });
  }

  add(from: number, to: number): void {
    for (const n of range(from, to))
      this.events.push({
        ...{ uuid: `${this.#client}-${n}`, published: at(n), version: '0', severity: 'INFO' },
        eventType: 'app.oauth2.as.token.grant.access_token',
        actor: { id: this.#client, type: 'PublicClientApp' },
        client: { ipAddress: '203.0.113.9' },
        outcome: { result: 'SUCCESS' },
        target: [],
      });
  }
}

/** Milliseconds of the events of a client, as often as they are stored. */
async function stored(client: string): Promise<number[]> {
  await collector.flush();
  const waiting = async (): Promise<number | undefined> =>
    (await runtime.metrics.registry.getSingleMetric('grantscope_spool_bytes')?.get())?.values[0]
      ?.value;
  await expect.poll(waiting, { timeout: 20_000, interval: 20 }).toBe(0);
  const rows = await opened.store.query<{ ms: string }>(sql`
    SELECT toUnixTimestamp64Milli(time) AS ms FROM grantscope.auth_events
    WHERE client_id = ${param.string(client)} ORDER BY time`);
  return rows.map((r) => Number(r.ms) - NOW);
}

const okta = (log: OktaLog, more: object = {}): object => ({
  okta_system_log: {
    url: log.url,
    token_file: join(secrets.path, 'okta'),
    interval_seconds: 0.05,
    ...more,
  },
});

/** Connectors of one installation; `dataDir` tells installations apart. */
async function connect(
  name: string,
  pull: object,
): Promise<{ parts: Component[]; own: Runtime; stop: () => Promise<void> }> {
  const dataDir = join(secrets.path, name);
  const own = testRuntime(dataDir, { config: { collector: CollectorSettings.parse({ pull }) } });
  const parts = await startConnectors(own, collector.ingest);
  return {
    parts,
    own,
    stop: async () => {
      for (const part of parts) await part.stop();
    },
  };
}

const until = async (read: () => unknown, value: unknown): Promise<void> => {
  await expect.poll(read, { timeout: 20_000, interval: 20 }).toEqual(value);
};

describe('the Okta System Log', () => {
  it('is read page by page from the configured start, then as it grows, and goes on after a stop', async () => {
    const log = await new OktaLog('okta-pages').start();
    log.add(0, 2_500);
    const first = await connect('pages', okta(log, { start_hours_ago: 2 }));
    const count = async () => (await stored('okta-pages')).length;
    await until(count, 2_500);
    log.add(2_500, 2_510);
    await until(count, 2_510);
    await first.stop();
    const [begin] = log.requests;
    const query = new URLSearchParams(begin?.search);
    expect([query.get('limit'), query.get('sortOrder'), query.has('until')]).toEqual([
      '1000',
      'ASCENDING',
      false,
    ]);
    expect(Math.abs(Date.parse(query.get('since') ?? '') - (Date.now() - 7_200_000))).toBeLessThan(
      60_000,
    );
    const kept = readFileSync(
      join(secrets.path, 'pages', 'connectors', 'okta_system_log.json'),
      'utf8',
    );
    expect(kept).toContain('after=2510');
    expect(kept).not.toContain(TOKEN);
    log.add(2_510, 2_520);
    log.requests = [];
    const second = await connect('pages', okta(log));
    await until(count, 2_520);
    await second.stop();
    expect(new URLSearchParams(log.requests[0]?.search).get('after')).toBe('2510');
    expect(await stored('okta-pages')).toEqual(range(0, 2_520));
  }, 60_000);

  it('waits for the reset when it is limited or about to be, and goes on after failures', async () => {
    const log = await new OktaLog('okta-limits').start();
    log.add(0, 3_000);
    const reset = (seconds: number): Record<string, string> => ({
      'X-Rate-Limit-Reset': String(Math.floor(Date.now() / 1_000) + seconds),
    });
    log.limitHeaders = (n) =>
      n === 1 ? { 'X-Rate-Limit-Remaining': '0', ...reset(2) } : { 'X-Rate-Limit-Remaining': '7' };
    log.intercept = (n, response) => {
      if (n === 2) json(response, 429, { errorCode: 'E0000047' }, reset(2));
      else if (n === 3) json(response, 503, {});
      else if (n === 4) response.destroy();
      else return false;
      return true;
    };
    const { parts, own, stop } = await connect('limits', okta(log));
    await until(() => parts[0]?.strains?.(), ['the log cannot be fetched: answers 429']);
    await until(async () => (await stored('okta-limits')).length, 3_000);
    await until(() => parts[0]?.strains?.(), []);
    await stop();
    const pauses = log.requests.slice(1, 4).map((r, i) => r.atMs - (log.requests[i]?.atMs ?? 0));
    // A reset of whole seconds may be a second nearer than it says.
    for (const [i, least] of [950, 950, 950].entries()) expect(pauses[i]).toBeGreaterThan(least);
    expect(await stored('okta-limits')).toEqual(range(0, 3_000));
    const failures = await own.metrics.registry
      .getSingleMetric('grantscope_pull_failures_total')
      ?.get();
    expect(failures?.values.map((v) => [v.labels['status'], v.value])).toEqual([
      ['429', 1],
      ['503', 1],
      ['none', 1],
    ]);
  }, 60_000);

  it('gives its token to nobody else, and says what is wrong without it', async () => {
    const thief = await new OktaLog('okta-thief').start();
    const log = await new OktaLog('okta-link').start();
    log.add(0, 3);
    log.intercept = (_n, response) => {
      json(response, 200, [], { Link: `<${thief.url}/api/v1/logs?after=1>; rel="next"` });
      return true;
    };
    const elsewhere = await connect('thief', okta(log));
    await until(
      () => elsewhere.parts[0]?.strains?.(),
      ['the log cannot be fetched: names a next page at another address'],
    );
    log.intercept = (_n, response) => {
      response.writeHead(302, { Location: `${thief.url}/api/v1/logs` }).end();
      return true;
    };
    await elsewhere.stop();
    const redirected = await connect('redirected', okta(log));
    await until(
      () => String(redirected.parts[0]?.strains?.()[0]).slice(0, 36),
      'the log cannot be fetched: no answer',
    );
    await redirected.stop();
    expect(thief.requests).toEqual([]);
    writeFileSync(join(secrets.path, 'wrong'), 'not-the-token');
    log.intercept = () => false;
    const refused = await connect(
      'refused',
      okta(log, { token_file: join(secrets.path, 'wrong') }),
    );
    await until(() => refused.parts[0]?.strains?.(), ['the log cannot be fetched: answers 401']);
    await refused.stop();
    await expect(
      connect('none', okta(log, { token_file: join(secrets.path, 'none') })),
    ).rejects.toMatchObject({
      code: 'config_invalid',
      message: `collector.pull.okta_system_log.token_file: ${join(secrets.path, 'none')} cannot be read (ENOENT)`,
    });
  }, 60_000);

  it('counts every event once when the process is killed behind a page that its cursor does not know', async () => {
    const log = await new OktaLog('okta-killed').start();
    log.add(0, 1_500);
    const data = temporaryFolder();
    const yaml = join(secrets.path, 'grantscope.yaml');
    writeFileSync(yaml, JSON.stringify({ collector: { pull: okta(log) } }));
    const env = { GRANTSCOPE_CONFIG: yaml, GRANTSCOPE_SEGMENT_AGE_MS_MAX: '50' };
    let server = await startServer(data.path, env);
    const count = async (): Promise<number> => {
      let n = 0;
      let cursor = '';
      do {
        const page = await fetch(
          `${server.apiUrl}/api/v1/events?client_id=okta-killed&limit=200${cursor}`,
        );
        const { items, next_cursor } = (await page.json()) as {
          items: unknown[];
          next_cursor?: string | null;
        };
        n += items.length;
        cursor =
          typeof next_cursor === 'string' ? `&cursor=${encodeURIComponent(next_cursor)}` : '';
      } while (cursor !== '');
      return n;
    };
    await until(count, 1_500);
    // What a kill between the two leaves: events that are stored, and the cursor of before.
    const file = join(data.path, 'connectors', 'okta_system_log.json');
    await server.kill();
    expect(readFileSync(file, 'utf8')).toContain('after=1500');
    rmSync(file);
    log.add(1_500, 1_600);
    log.requests = [];
    let killed: Promise<void> | undefined;
    log.intercept = (n) => {
      if (n === 2) killed = server.kill();
      return n === 2;
    };
    server = await startServer(data.path, env);
    await until(() => killed !== undefined, true);
    await killed;
    log.intercept = () => false;
    log.requests = [];
    server = await startServer(data.path, env);
    await until(() => log.requests.length > 3, true);
    await until(count, 1_600);
    expect(await server.stop()).toBe(0);
    expect(server.output()).not.toContain(TOKEN);
    data.remove();
  }, 120_000);
});

/** Logs by checkpoint: `from` and `take`; the first by a search; bearer tokens that end. */
class Auth0Tenant {
  readonly logs: { log_id: string }[] = [];
  requests: URL[] = [];
  tokens = 0;
  url = '';
  intercept: (n: number, response: ServerResponse) => boolean = () => false;
  readonly #client: string;

  constructor(client: string) {
    this.#client = client;
  }

  async start(): Promise<this> {
    this.url = await vendor((url, request, response, body) => {
      if (url.pathname === '/oauth/token') this.#token(response, body);
      else {
        this.requests.push(url);
        if (this.intercept(this.requests.length, response)) return;
        if (request.headers.authorization !== `Bearer token-${this.tokens}`)
          json(response, 401, {});
        else this.#page(url, response);
      }
    });
    return this;
  }

  #token(response: ServerResponse, body: string): void {
    const form = new URLSearchParams(body);
    const isKnown = form.get('client_secret') === SECRET && form.get('client_id') === 'reader';
    if (!isKnown || form.get('audience') !== `${this.url}/api/v2/`) {
      json(response, 401, {});
      return;
    }
    this.tokens += 1;
    json(response, 200, {
      access_token: `token-${this.tokens}`,
      expires_in: 86_400,
      token_type: 'Bearer',
    });
  }

  #page(url: URL, response: ServerResponse): void {
    const from = url.searchParams.get('from');
    if (from === null) {
      json(response, 200, this.logs.slice(0, Number(url.searchParams.get('per_page'))));
      return;
    }
    const take = Math.min(100, Number(url.searchParams.get('take')));
    const begin = this.logs.findIndex((l) => l.log_id === from) + 1;
    const page = this.logs.slice(begin, begin + take);
    const next = `${this.url}/api/v2/logs?from=${page.at(-1)?.log_id ?? from}&take=${take}`;
    json(response, 200, page, { Link: `<${next}>; rel="next"` });
  }

  add(from: number, to: number): void {
    for (const n of range(from, to)) {
      const log_id = `${this.#client}${String(n).padStart(8, '0')}`;
      const log = { log_id, _id: log_id, type: 'seccft', date: at(n), client_id: this.#client };
      this.logs.push(log);
    }
  }
}

const auth0 = (tenant: Auth0Tenant): object => ({
  auth0_logs: {
    ...{ url: tenant.url, client_id: 'reader', interval_seconds: 0.05 },
    client_secret_file: join(secrets.path, 'auth0'),
  },
});

describe('the logs of Auth0', () => {
  it('are read by checkpoint from the first one on, across tokens, limits and restarts', async () => {
    const tenant = await new Auth0Tenant('a0').start();
    const first = await connect('auth0-home', auth0(tenant));
    await until(() => tenant.requests.length > 1, true);
    tenant.add(0, 250);
    const count = async () => (await stored('a0')).length;
    await until(count, 250);
    // The token ends early; then a limit, and a failure.
    tenant.tokens += 1;
    tenant.intercept = (n, response) => {
      const step = n - seen;
      if (step === 2)
        json(
          response,
          429,
          {},
          { 'X-RateLimit-Reset': String(Math.floor(Date.now() / 1_000) + 1) },
        );
      else if (step === 3) json(response, 500, {});
      else return false;
      return true;
    };
    const seen = tenant.requests.length;
    tenant.add(250, 400);
    await until(count, 400);
    await first.stop();
    const searches = tenant.requests.filter((u) => u.searchParams.has('q'));
    expect(searches[0]?.searchParams.get('q')).toMatch(/^date:\[\d{4}-.*Z TO \*\]$/);
    expect(tenant.requests.at(-1)?.search).toBe('?from=a000000399&take=100');
    tenant.add(400, 410);
    tenant.requests = [];
    tenant.intercept = () => false;
    const second = await connect('auth0-home', auth0(tenant));
    await until(count, 410);
    await second.stop();
    expect(tenant.requests[0]?.search).toBe('?from=a000000399&take=100');
    expect(await stored('a0')).toEqual(range(0, 410));
  }, 60_000);
});

describe('collector.pull', () => {
  it('is nothing by default, and takes no address that would carry a credential in the clear', async () => {
    expect(
      await startConnectors(testRuntime(join(secrets.path, 'nothing')), collector.ingest),
    ).toEqual([]);
    const refused = (url: string): string => {
      const settings = { pull: { okta_system_log: { url, token_file: 'x' } } };
      return (
        CollectorSettings.safeParse(settings)
          .error?.issues.map((i) => i.message)
          .join() ?? ''
      );
    };
    expect(refused('http://example.okta.com')).toBe(
      'must be https; http is allowed on loopback only',
    );
    expect(refused('https://a:b@example.com')).toBe('must hold no user, password or query');
    expect(refused('ftp://example.com')).toContain('must be an https URL');
    expect(refused('https://example.okta.com')).toBe('');
  });

  it('does not begin anew by itself where a cursor is damaged', async () => {
    const log = await new OktaLog('okta-damaged').start();
    const dataDir = join(secrets.path, 'pages');
    writeFileSync(join(dataDir, 'connectors', 'okta_system_log.json'), '{"cur');
    await expect(connect('pages', okta(log))).rejects.toMatchObject({ code: 'config_invalid' });
  });
});
