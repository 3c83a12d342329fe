// Pushes as the vendors send them, against the real collector, spool and engine: what is answered, and what is stored.
import { writeFileSync } from 'node:fs';
import { request as httpRequest, type IncomingHttpHeaders } from 'node:http';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startCollector, type Collector } from '../../collector/main.ts';
import { PushTokens } from '../../collector/receivers/push_tokens.ts';
import { withoutSyslogHeader } from '../../collector/receivers/syslog_header.ts';
import { param, sql } from '../../model/sql.ts';
import type { Runtime } from '../../runtime/context.ts';
import { openTestStore, temporaryFolder, testRuntime } from '../harness.ts';

let opened: Awaited<ReturnType<typeof openTestStore>>;
let runtime: Runtime;
let collector: Collector;
const secrets = temporaryFolder();
const TOKEN = `push-${'k7Qx'.repeat(6)}`;
const NEXT_TOKEN = `push-${'m3Zy'.repeat(6)}`;
const HOOK_TOKEN = `hook-${'w9Lr'.repeat(6)}`;

beforeAll(async () => {
  opened = await openTestStore();
  const tokens = join(secrets.path, 'auth0');
  const hook = join(secrets.path, 'okta');
  writeFileSync(tokens, `${TOKEN}\n\n${NEXT_TOKEN}\n`);
  writeFileSync(hook, HOOK_TOKEN);
  runtime = testRuntime(opened.dataDir, {
    config: {
      segmentAgeMsMax: 20,
      collector: {
        push_tokens: {
          auth0: { file: tokens, header: 'Authorization' },
          okta: { file: hook, header: 'X-Hook-Secret' },
        },
        pull: {},
      },
    },
  });
  collector = await startCollector(runtime, opened.store);
});
afterAll(async () => {
  await collector.stop();
  await opened.close();
  secrets.remove();
});

interface Answer {
  status: number;
  headers: IncomingHttpHeaders;
  text: string;
}

/** A plain client: fetch would set headers of its own. */
function send(
  path: string,
  body: string | Buffer,
  headers: Record<string, string> = {},
  method = 'POST',
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const request = httpRequest(`${collector.url}${path}`, { method, headers }, (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (c: Buffer) => chunks.push(c));
      response.on('end', () =>
        resolve({
          status: response.statusCode ?? 0,
          headers: response.headers,
          text: Buffer.concat(chunks).toString('utf8'),
        }),
      );
    });
    request.on('error', reject);
    request.end(body);
  });
}

async function accepted(...args: Parameters<typeof send>): Promise<unknown[]> {
  const { status, text } = await send(...args);
  const answer = JSON.parse(text) as { accepted: number; rejected: number; errors: unknown[] };
  return [status, answer.accepted, answer.rejected, ...answer.errors];
}

/** Kinds of what is stored of a client, in order of time. */
async function kindsOf(client: string): Promise<string[]> {
  await collector.flush();
  const waiting = async (): Promise<number | undefined> =>
    (await runtime.metrics.registry.getSingleMetric('grantscope_spool_bytes')?.get())?.values[0]
      ?.value;
  await expect.poll(waiting, { timeout: 20_000, interval: 20 }).toBe(0);
  const rows = await opened.store.query<{ kind: string }>(sql`
    SELECT toString(kind) AS kind FROM grantscope.auth_events
    WHERE client_id = ${param.string(client)} ORDER BY time, kind`);
  return rows.map((r) => r.kind);
}

const NOW = Math.floor(Date.now() / 1_000) * 1_000;
const iso = (second: number): string => new Date(NOW - 60_000 + second * 1_000).toISOString();
const own = (client: string, second = 0): object => ({
  ...{ kind: 'api_accessed', outcome: 'success', time: iso(second), client: { id: client } },
});
const oktaEvent = (uuid: string, client: string): object => ({
  ...{
    uuid,
    published: iso(0),
    eventType: 'app.oauth2.as.token.grant.refresh_token',
    version: '0',
  },
  severity: 'INFO',
  actor: { id: client, type: 'PublicClientApp', displayName: 'Shop' },
  client: { ipAddress: '203.0.113.9', userAgent: { rawUserAgent: 'okhttp/4.12.0' } },
  outcome: { result: 'SUCCESS' },
  target: [],
  debugContext: { debugData: {} },
});
const auth0Log = (log_id: string, client_id: string): object => ({
  log_id,
  data: { log_id, type: 'sertft', date: iso(0), client_id, user_id: 'auth0|u1', details: {} },
});

describe('push tokens', () => {
  const path = '/v1/events/auth0';
  const log = JSON.stringify(auth0Log('token-1', 'tokens'));

  it('takes a token as it is, behind a scheme, and a second one while they change', async () => {
    for (const authorization of [TOKEN, `Bearer ${TOKEN}`, `bearer  ${NEXT_TOKEN}`, NEXT_TOKEN])
      expect(await accepted(path, log, { authorization })).toEqual([200, 1, 0]);
  });

  it('refuses none, a wrong one, a part of one, and says nothing of what came', async () => {
    const wrong = [
      {},
      { authorization: `${TOKEN}x` },
      { authorization: TOKEN.slice(1) },
      { authorization: '' },
    ];
    for (const headers of [...wrong, { authorization: `Bearer` }, { 'x-hook-secret': TOKEN }]) {
      const { status, headers: answered, text } = await send(path, log, headers);
      expect([status, answered['www-authenticate']]).toEqual([401, 'Bearer']);
      expect(text).toMatch(/"code":"unauthenticated"/);
      expect(text).not.toContain('k7Qx');
    }
  });

  it('looks in the header that is configured', async () => {
    const event = JSON.stringify(oktaEvent('header-1', 'headers'));
    expect(await accepted('/v1/events/okta', event, { 'x-hook-secret': HOOK_TOKEN })).toEqual([
      200, 1, 0,
    ]);
    expect((await send('/v1/events/okta', event, { authorization: HOOK_TOKEN })).status).toBe(401);
  });

  it('asks nothing of a source that is not listed', async () => {
    expect(await accepted('/v1/events/grantscope', JSON.stringify(own('open')))).toEqual([
      200, 1, 0,
    ]);
  });

  it('does not start with a file that is not there, empty, or holds a short token', () => {
    const file = join(secrets.path, 'bad');
    const start = () => new PushTokens({ vault: { file, header: 'Authorization' } });
    expect(start).toThrow(`collector.push_tokens.vault.file: ${file} cannot be read (ENOENT)`);
    writeFileSync(file, ' \n');
    expect(start).toThrow(`${file} is empty; allowed: one token a line`);
    writeFileSync(file, 'fifteen-letters');
    expect(start).toThrow(`${file}: a token is shorter than 16 characters`);
  });

  it('refuses a source that there is not at start', async () => {
    const config = {
      ...runtime.config.collector,
      push_tokens: { nothing: { file: 'x', header: 'Authorization' } },
    };
    const other = testRuntime(join(opened.dataDir, 'other'), { config: { collector: config } });
    await expect(startCollector(other, opened.store)).rejects.toMatchObject({
      code: 'config_invalid',
      message: expect.stringContaining(
        'collector.push_tokens: no source nothing; allowed: ',
      ) as string,
    });
  });
});

describe('an Okta event hook', () => {
  const hook = { 'x-hook-secret': HOOK_TOKEN };
  it('is verified by repeating the challenge', async () => {
    const headers = { ...hook, 'x-okta-verification-challenge': 'chal"lenge-1' };
    const { status, headers: answered, text } = await send('/v1/events/okta', '', headers, 'GET');
    expect([status, answered['content-type'], text]).toEqual([
      200,
      'application/json',
      '{"verification":"chal\\"lenge-1"}',
    ]);
  });

  it('is not verified without the token, for another source, or without a challenge', async () => {
    const headers = { 'x-okta-verification-challenge': 'challenge-1' };
    expect((await send('/v1/events/okta', '', headers, 'GET')).status).toBe(401);
    for (const [path, more] of [
      ['/v1/events/grantscope', headers],
      ['/v1/events/okta', hook],
    ] as const) {
      const { status, headers: answered } = await send(path, '', { ...hook, ...more }, 'GET');
      if (path.endsWith('okta') && more === hook)
        expect([status, answered.allow]).toEqual([405, 'POST']);
      else expect(status).toBe(405);
    }
  });

  it('delivers its events', async () => {
    const body = JSON.stringify({
      ...{ eventType: 'com.okta.event_hook', source: 'https://example.com/api/v1/eventHooks/1' },
      data: { events: [oktaEvent('hook-1', 'hooked'), oktaEvent('hook-2', 'hooked')] },
    });
    const headers = { ...hook, 'content-type': 'application/json' };
    expect(await accepted('/v1/events/okta', body, headers)).toEqual([200, 2, 0]);
    expect(await kindsOf('hooked')).toEqual(['token_issued', 'token_issued']);
  });
});

describe('CloudEvents', () => {
  const path = '/v1/events/grantscope';
  const type = (media: string) => ({ 'content-type': media });
  const envelope = (more: object): object => ({
    ...{ specversion: '1.0', id: '1', source: '/shop', type: 'com.example.audit' },
    ...more,
  });

  it('opens a structured envelope, whatever its data is written as', async () => {
    const structured = type('application/cloudevents+json; charset=UTF-8');
    const text = JSON.stringify(own('structured', 1));
    for (const data of [
      { data: own('structured', 0) },
      { data: text, datacontenttype: 'application/json' },
      { data_base64: Buffer.from(JSON.stringify(own('structured', 2))).toString('base64') },
      { data: [own('structured', 3), own('structured', 4)] },
    ]) {
      const count = Array.isArray(data.data) ? 2 : 1;
      expect(await accepted(path, JSON.stringify(envelope(data)), structured)).toEqual([
        200,
        count,
        0,
      ]);
    }
    expect(await kindsOf('structured')).toEqual(Array.from({ length: 5 }, () => 'api_accessed'));
  });

  it('opens a batch, and refuses what is no envelope by itself', async () => {
    const batch = [
      envelope({ data: own('batch', 0) }),
      { data: own('batch', 1) },
      envelope({}),
      envelope({ data: '{"kind' }),
      7,
      envelope({ data: own('batch', 2) }),
    ];
    const answer = await accepted(
      path,
      JSON.stringify(batch),
      type('application/cloudevents-batch+json'),
    );
    const specversion = 'specversion: missing; expected an envelope of CloudEvents 1.0';
    expect(answer).toEqual([
      ...[200, 2, 4],
      { index: 1, code: 'unrecognised_record', message: specversion },
      {
        ...{ index: 2, code: 'unrecognised_record' },
        message: 'data: missing; expected a record of the source in data or data_base64',
      },
      { index: 3, code: 'not_json', message: 'not a JSON value' },
      { index: 4, code: 'unrecognised_record', message: specversion },
    ]);
    expect(await kindsOf('batch')).toEqual(['api_accessed', 'api_accessed']);
  });

  it('reads a vendor record in an envelope, also packed, and the binary mode as its body', async () => {
    const log = auth0Log('cloud-1', 'cloud');
    const gzip = {
      ...type('application/cloudevents+json'),
      'content-encoding': 'gzip',
      authorization: TOKEN,
    };
    const body = gzipSync(JSON.stringify(envelope({ data: log })));
    expect(await accepted('/v1/events/auth0', body, gzip)).toEqual([200, 1, 0]);
    const binary = {
      ...type('application/json'),
      'ce-specversion': '1.0',
      'ce-type': 'x',
      authorization: TOKEN,
    };
    const second = JSON.stringify(auth0Log('cloud-2', 'cloud'));
    expect(await accepted('/v1/events/auth0', second, binary)).toEqual([200, 1, 0]);
    expect(await kindsOf('cloud')).toEqual(['token_refreshed', 'token_refreshed']);
  });

  it('refuses a body that is no JSON', async () => {
    const { status, text } = await send(
      path,
      '{"specversion"',
      type('application/cloudevents+json'),
    );
    expect([status, (JSON.parse(text) as { message: string }).message]).toEqual([
      400,
      'body: not valid JSON',
    ]);
  });
});

describe('what other systems send', () => {
  it('takes a Kubernetes audit webhook', async () => {
    const event = (auditID: string): object => ({
      ...{ level: 'Metadata', auditID, stage: 'ResponseComplete', verb: 'create' },
      requestURI: '/api/v1/namespaces/shop/serviceaccounts/web/token',
      objectRef: {
        resource: 'serviceaccounts',
        subresource: 'token',
        namespace: 'shop',
        name: 'web',
      },
      user: { username: 'system:node:n1' },
      ...{ sourceIPs: ['10.0.0.1'], userAgent: 'kubelet/v1.30', responseStatus: { code: 201 } },
      ...{ requestReceivedTimestamp: iso(0), stageTimestamp: iso(0) },
    });
    const list = {
      kind: 'EventList',
      apiVersion: 'audit.k8s.io/v1',
      metadata: {},
      items: [event('k8s-1'), event('k8s-2')],
    };
    const headers = { 'content-type': 'application/json', 'accept-encoding': 'gzip' };
    expect(await accepted('/v1/events/kubernetes_audit', JSON.stringify(list), headers)).toEqual([
      200, 2, 0,
    ]);
  });

  it('takes decision logs of OPA and records of Vault as gzip', async () => {
    const gzip = { 'content-type': 'application/json', 'content-encoding': 'gzip' };
    const decision = {
      decision_id: 'd-1',
      timestamp: iso(0),
      path: 'http/authz/allow',
      result: true,
    };
    const second = { ...decision, decision_id: 'd-2', result: false };
    const decisions = gzipSync(JSON.stringify([decision, second]));
    expect(await accepted('/v1/events/opa', decisions, gzip)).toEqual([200, 2, 0]);
    const vault = {
      ...{ time: iso(0), type: 'response', auth: { token_type: 'service' } },
      request: { id: 'r-1', operation: 'update', path: 'auth/token/renew-self' },
      response: {},
    };
    const audit = gzipSync(
      `${JSON.stringify(vault)}\n${JSON.stringify({ ...vault, type: 'request' })}\n`,
    );
    expect(await accepted('/v1/events/vault', audit, gzip)).toEqual([200, 2, 0]);
    expect((await send('/v1/events/opa', 'x', { ...gzip, 'content-encoding': 'br' })).status).toBe(
      415,
    );
  });

  it('takes lines of syslog around JSON and around text', async () => {
    const record = (second: number) => JSON.stringify(own('syslog', second));
    const lines = [
      `<134>1 ${iso(0)} host.example.com shop 42 ID1 [a@1 k="v]\\"" x="y"][b@1] \ufeff${record(0)}`,
      `<134>Mar  2 10:00:00 host shop[42]: ${record(1)}`,
      record(2),
    ];
    const headers = { 'content-type': 'application/logplex-1' };
    expect(await accepted('/v1/events/grantscope', lines.join('\n'), headers)).toEqual([200, 3, 0]);
    expect(await kindsOf('syslog')).toHaveLength(3);
    const combined =
      '203.0.113.9 - - [10/Jan/2026:15:36:28 +0000] "GET /orders HTTP/1.1" 200 5 "-" "curl/8.5.0"';
    const text = `<190>Mar 12 10:00:00 edge nginx: ${combined}\n`;
    expect(await accepted('/v1/events/nginx', text)).toEqual([200, 1, 0]);
  });

  it('keeps what one source alone may send from the others', async () => {
    const { status, text } = await send('/v1/events/grantscope', 'x', {
      'content-type': 'application/secevent+jwt',
    });
    expect([status, JSON.parse(text)]).toMatchObject([415, { err: 'invalid_request' }]);
  });
});

describe('a pushed security event token (RFC 8935)', () => {
  const type = { 'content-type': 'application/secevent+jwt' };
  const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url');
  const set = (claims: object): string =>
    `${part({ typ: 'secevent+jwt', alg: 'ES256' })}.${part(claims)}.c2ln`;

  it('is answered with 202 and nothing else once it is durable, else with the error of the RFC', async () => {
    const events = { 'https://schemas.openid.net/secevent/caep/event-type/session-revoked': {} };
    const claims = { iss: 'https://as.example.com', jti: 'set-1', iat: NOW / 1_000, events };
    const { status, text } = await send('/v1/events/ssf', set(claims), type);
    expect([status, text]).toEqual([202, '']);
    const refused = await send('/v1/events/ssf', set({ iss: 'https://as.example.com' }), type);
    expect([refused.status, JSON.parse(refused.text)]).toEqual([
      400,
      {
        err: 'invalid_request',
        description: 'record: no security event token; the claims events, iss and jti are needed',
      },
    ]);
  });
});

describe('OTLP logs that carry a vendor’s records', () => {
  const log = (source: string, body: unknown): object => ({
    timeUnixNano: String(BigInt(NOW) * 1_000_000n),
    attributes: [{ key: 'grantscope.source', value: { stringValue: source } }],
    body: typeof body === 'string' ? { stringValue: body } : body,
  });
  const fields = (value: object): object => ({
    kvlistValue: {
      values: Object.entries(value).map(([key, v]) => ({
        key,
        value: typeof v === 'object' ? fields(v as object) : { stringValue: String(v) },
      })),
    },
  });

  it('go to the adapter that the attribute names, as text and as fields, containers opened', async () => {
    const hook = {
      data: { events: [oktaEvent('otlp-1', 'by-otlp'), oktaEvent('otlp-2', 'by-otlp')] },
    };
    const { data } = auth0Log('otlp-3', 'by-otlp') as { data: object };
    const records = [
      log('okta', JSON.stringify(hook)),
      log('auth0', fields({ log_id: 'otlp-3', data })),
      log(
        'auth0',
        `<134>1 ${iso(0)} host auth0 - - - ${JSON.stringify(auth0Log('otlp-4', 'by-otlp'))}`,
      ),
      log('okta', '{"data":{"events":[{"uuid":"otlp-5"}]}}'),
    ];
    const body = JSON.stringify({ resourceLogs: [{ scopeLogs: [{ logRecords: records }] }] });
    const { status, text } = await send('/v1/logs', body, { 'content-type': 'application/json' });
    expect([status, JSON.parse(text)]).toEqual([
      200,
      {
        partialSuccess: {
          rejectedLogRecords: '1',
          errorMessage:
            'no auth event was made of 1 of 4 log records: log record 3: unrecognised_record: record: no System Log event; eventType is needed',
        },
      },
    ]);
    expect(await kindsOf('by-otlp')).toEqual([
      'token_issued',
      'token_issued',
      'token_refreshed',
      'token_refreshed',
    ]);
  });
});

describe('the header of a syslog line', () => {
  it.each([
    ['<34>1 2026-03-02T10:00:00.1Z h a - - - said', 'said'],
    ['<34>1 - - - - - -', ''],
    ['<34>1 - - - - - [x@1 a="]\\]\\"]"] said', 'said'],
    ['<34>1 - - - - - [x@1 a="never ends', '1 - - - - - [x@1 a="never ends'],
    ['87 <34>1 2026-03-02T10:00:00Z h a p m - said', 'said'],
    ['<34>Oct 11 22:14:15 mymachine su: said: so', 'said: so'],
    ['<34>Oct 11 22:14:15 su[12]: said', 'said'],
    ['<34>2026-03-02T10:00:00+01:00 host app: {"a":1}', '{"a":1}'],
    ['<34>Oct 11 22:14:15 host {"a":1}', '{"a":1}'],
    ['<34>{"a":1}', '{"a":1}'],
    ['type=LOGIN, realm=<34>', 'type=LOGIN, realm=<34>'],
    ['10.0.0.1 - - [x] <34>', '10.0.0.1 - - [x] <34>'],
    ['<3456>x', '<3456>x'],
    ['', ''],
  ])('of %j leaves %j', (line, message) => {
    expect(withoutSyslogHeader(line)).toBe(message);
  });
});

describe('Idempotency-Key', () => {
  const path = '/v1/events/grantscope';
  const body = JSON.stringify(own('keyed'));

  it('sets equal bodies apart, and joins equal requests', async () => {
    for (const key of ['one', 'two', 'one', 'two'])
      expect(await accepted(path, body, { 'idempotency-key': key })).toEqual([200, 1, 0]);
    expect(await accepted(path, body)).toEqual([200, 1, 0]);
    expect(await accepted(path, body)).toEqual([200, 1, 0]);
    expect(await kindsOf('keyed')).toHaveLength(3);
  });

  it('is refused where it is empty or too long', async () => {
    for (const key of ['', 'x'.repeat(201)]) {
      const { status, text } = await send(path, body, { 'idempotency-key': key });
      expect([status, text]).toEqual([
        400,
        expect.stringContaining('Idempotency-Key: must be 1 to 200 characters'),
      ]);
    }
  });
});
