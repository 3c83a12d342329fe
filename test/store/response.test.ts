// How: findings told to real receivers on loopback, over HTTP and HTTPS, that take, refuse, fail, hang and come back, from the
// history in the real embedded engine; the clock is set by hand. Signatures are verified as a receiver would.
import { once } from 'node:events';
import { appendFileSync, chmodSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { exportPKCS8, generateKeyPair, jwtVerify, type JWTVerifyResult } from 'jose';
import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { caepSink, type CaepOptions } from '../../detectors/response/caep.ts';
import { startResponse } from '../../detectors/response/main.ts';
import { ocsfSink, OCSF_VERSION, type OcsfOptions } from '../../detectors/response/ocsf.ts';
import {
  CURSOR_LAG_MS,
  DELIVERY_AGE_MS_MAX,
  DeliveryQueue,
  RETRY_MS,
} from '../../detectors/response/queue.ts';
import { FADE_INTERVAL_MS, type Sink } from '../../detectors/response/sink.ts';
import { Triage } from '../../detectors/triage/triage.ts';
import type { Finding } from '../../model/finding.ts';
import { param, sql } from '../../model/sql.ts';
import { riskLevel } from '../../model/risk.ts';
import { ManualClock } from '../../runtime/clock.ts';
import { createLog } from '../../runtime/log.ts';
import { Metrics } from '../../runtime/metrics.ts';
import { ResponseSettings } from '../../runtime/response_settings.ts';
import { VERSION } from '../../runtime/version.ts';
import {
  listDeliveries,
  readPending,
  readRaisedSubjects,
  readToldLevel,
} from '../../store/queries/deliveries.ts';
import { readRisk } from '../../store/queries/risk.ts';
import { addSuppression } from '../../store/queries/suppressions.ts';
import { id, insertFindings, makeFinding, STORY } from '../api_seed.ts';
import { openTestStore, temporaryFolder, testRuntime } from '../harness.ts';
import { selfSigned } from '../self_signed.ts';

const NOW_MS = Date.parse('2026-03-01T12:00:00Z');
const iso = (ms: number): string => new Date(ms).toISOString();
const folder = temporaryFolder();
const tls = selfSigned();

interface Received {
  readonly path: string;
  readonly headers: IncomingMessage['headers'];
  readonly body: string;
}
let received: Received[] = [];
/** How the receiver answers; a test sets it. */
let answer: (request: Received, response: ServerResponse) => void;
const take: typeof answer = (_, response) => response.writeHead(202).end();

let engine: Awaited<ReturnType<typeof openTestStore>>;
let server: Server;
let tlsServer: Server;
let keys: Awaited<ReturnType<typeof generateKeyPair>>;

beforeAll(async () => {
  engine = await openTestStore();
  keys = await generateKeyPair('ES256', { extractable: true });
  const handle = (request: IncomingMessage, response: ServerResponse): void => {
    let body = '';
    request.setEncoding('utf8').on('data', (part: string) => (body += part));
    request.on('end', () => {
      const one = { path: request.url ?? '', headers: request.headers, body };
      received.push(one);
      answer(one, response);
    });
  };
  server = createServer(handle).listen(0, '127.0.0.1');
  tlsServer = createTlsServer({ key: tls.key, cert: tls.cert }, handle).listen(0, '127.0.0.1');
  await Promise.all([once(server, 'listening'), once(tlsServer, 'listening')]);
});
afterAll(async () => {
  server.closeAllConnections();
  tlsServer.closeAllConnections();
  server.close();
  tlsServer.close();
  await engine.close();
  folder.remove();
});
beforeEach(() => {
  received = [];
  answer = take;
});

const urlOf = (s: Server, scheme: string): string =>
  `${scheme}://127.0.0.1:${(s.address() as AddressInfo).port}/events`;

let tenants = 0;
async function world() {
  const tenant = `response_${(tenants += 1)}`;
  const clock = new ManualClock(NOW_MS);
  const scope = { store: engine.store, tenant };
  const metrics = new Metrics({ processMetrics: false });
  const gauges = {
    deliveries: metrics.counter('deliveries', 'x', ['kind', 'status']),
    retryingSince: metrics.gauge('since', 'x', ['sink']),
  };
  const log = createLog({ level: 'silent' });
  const triage = new Triage({
    store: engine.store,
    tenant,
    clock,
    metrics: new Metrics({ processMetrics: false }),
    configured: [],
  });
  let version = 0;
  const queueOf = (sink: Sink) => new DeliveryQueue({ scope, sink, clock, log, metrics: gauges });
  const caep = (more: Partial<CaepOptions> = {}): Sink =>
    caepSink({
      id: 'idp',
      event: 'risk-level-change',
      severityMin: 'medium',
      url: urlOf(server, 'http'),
      issuer: 'https://grantscope.example',
      audience: 'https://receiver.example',
      key: keys.privateKey,
      keyId: 'k1',
      algorithm: 'ES256',
      token: 'secret-token',
      ca: undefined,
      timeoutMs: 1_000,
      revokeUpon: ['refresh_token_reuse:theft'],
      clock,
      levelOf: async (entityRef) => {
        const [risk] = await readRisk(scope, 'subject', {
          atMs: clock.nowMs(),
          limit: 1,
          entityRef,
        });
        return riskLevel(risk?.score ?? 0);
      },
      toldLevelOf: (sink, ref) => readToldLevel(scope, sink, ref),
      raisedSubjects: (sink) => readRaisedSubjects(scope, sink),
      ...more,
    });
  const ocsf = (more: Partial<OcsfOptions> = {}): Sink =>
    ocsfSink({
      id: 'siem',
      severityMin: 'medium',
      includeHidden: false,
      consoleUrl: 'https://console.example',
      to: { url: urlOf(server, 'http'), token: 'secret-token', ca: undefined, timeoutMs: 1_000 },
      ...more,
    });
  /** Writes a finding and lets triage take the step. */
  const step = async (n: number, fields: Partial<Finding> = {}): Promise<void> => {
    clock.advance(1);
    const finding = makeFinding({
      finding_id: id('1', n),
      tenant,
      detected_at: iso(NOW_MS),
      updated_at: iso(clock.nowMs()),
      ...fields,
    });
    await insertFindings(engine.store, [finding], (version += 1));
    await triage.round([id('1', n)]);
  };
  // The first round of each makes everything before it the past.
  await triage.round([]);
  return { tenant, clock, scope, metrics, triage, queueOf, caep, ocsf, step };
}

const statuses = async (scope: Parameters<typeof listDeliveries>[0]) =>
  (await listDeliveries(scope, { limit: 100 }))
    .map((d) => [Number.parseInt(d.finding_id.slice(-4), 16), d.change_no, d.status, d.error])
    .sort();
const bodies = (): Record<string, unknown>[] =>
  received.map((r) => JSON.parse(r.body) as Record<string, unknown>);
const verify = (token: string): Promise<JWTVerifyResult> =>
  jwtVerify(token, keys.publicKey, {
    issuer: 'https://grantscope.example',
    audience: 'https://receiver.example',
    typ: 'secevent+jwt',
    currentDate: new Date(NOW_MS),
  });

describe('OCSF', () => {
  it('tells a finding as a Detection Finding, with every part that the class asks for', async () => {
    const w = await world();
    const queue = w.queueOf(w.ocsf());
    await queue.round();
    await w.step(1);
    answer = (_, response) => response.writeHead(200).end();
    await queue.round();
    expect(received).toHaveLength(1);
    const uid = received[0]!.headers['idempotency-key'];
    expect(received[0]!.headers).toMatchObject({
      authorization: 'Bearer secret-token',
      'content-type': 'application/json',
    });
    expect(bodies()[0]).toEqual({
      category_uid: 2,
      category_name: 'Findings',
      class_uid: 2004,
      class_name: 'Detection Finding',
      activity_id: 1,
      activity_name: 'Create',
      type_uid: 200401,
      type_name: 'Detection Finding: Create',
      time: NOW_MS + 1,
      start_time: Date.parse('2026-03-01T10:00:04.000Z'),
      end_time: Date.parse('2026-03-01T10:00:05.000Z'),
      severity_id: 4,
      severity: 'High',
      status_id: 1,
      status: 'New',
      is_alert: true,
      message: 'A rotated refresh token was presented again from another network.',
      confidence_score: 90,
      confidence_id: 3,
      risk_score: 81,
      risk_level_id: 3,
      metadata: {
        version: OCSF_VERSION,
        uid,
        tenant_uid: w.tenant,
        sequence: 1,
        product: { name: 'Grantscope', vendor_name: 'Grantscope', version: VERSION },
      },
      finding_info: {
        uid: id('1', 1),
        title: 'Refresh token reuse',
        desc: 'presented 1 s after its successor was issued; another network and user agent',
        types: ['token_replay', 'theft'],
        analytic: {
          type_id: 1,
          type: 'Rule',
          uid: 'refresh_token_reuse',
          name: 'Refresh token reuse',
          version: '1',
        },
        created_time: NOW_MS,
        modified_time: NOW_MS + 1,
        first_seen_time: Date.parse('2026-03-01T10:00:04.000Z'),
        last_seen_time: Date.parse('2026-03-01T10:00:05.000Z'),
        data_sources: ['grantscope'],
        src_url: `https://console.example/#/findings/${id('1', 1)}`,
        attacks: [{ technique: { uid: 'T1528' } }],
      },
      resources: [{ type: 'family', uid: STORY.family }],
      evidences: [{ data: makeFinding({ finding_id: id('1', 1) }).evidence }],
      observables: [
        {
          name: 'unmapped.oauth_client_id',
          type_id: 99,
          type: 'oauth_client_id',
          value: STORY.client,
        },
        {
          name: 'unmapped.subject_reference',
          type_id: 99,
          type: 'subject_reference',
          value: STORY.subject,
        },
        { name: 'unmapped.issuer', type_id: 99, type: 'issuer', value: 'https://as.example' },
        { name: 'unmapped.network', type_id: 99, type: 'network', value: '198.51.100.0/24' },
        { name: 'unmapped.network', type_id: 99, type: 'network', value: '203.0.113.0/24' },
        {
          name: 'unmapped.token_reference',
          type_id: 99,
          type: 'token_reference',
          value: STORY.refresh1,
        },
        {
          name: 'unmapped.token_reference',
          type_id: 99,
          type: 'token_reference',
          value: STORY.refresh2,
        },
      ],
      unmapped: { change: 'opened', state: 'open', reopened: 0 },
    });
    await queue.round();
    expect(received).toHaveLength(1);
  });

  it('tells the life of what it told of, and nothing of what it did not', async () => {
    const w = await world();
    await w.step(9);
    w.clock.advance(1);
    const queue = w.queueOf(w.ocsf());
    await queue.round();
    expect(received).toEqual([]);
    await w.step(1);
    await w.step(2, { severity: 'low' });
    await w.step(2, { severity: 'low', state: 'closed' });
    await queue.round();
    await w.step(1, { severity: 'critical' });
    await w.step(1, { severity: 'info' });
    await w.step(1, { severity: 'info', state: 'closed' });
    await w.step(1, { state: 'superseded' });
    await w.step(3, { severity: 'low' });
    await w.step(3, { severity: 'high' });
    await queue.round();
    const told = bodies().map((b) => [
      (b['finding_info'] as { uid: string }).uid.slice(-1),
      b['activity_name'],
      b['status'],
      b['severity'],
      (b['unmapped'] as { change: string }).change,
    ]);
    expect(told).toEqual([
      ['1', 'Create', 'New', 'High', 'opened'],
      ['1', 'Update', 'New', 'Critical', 'escalated'],
      ['1', 'Update', 'New', 'Informational', 'updated'],
      ['1', 'Close', 'Resolved', 'Informational', 'closed'],
      ['1', 'Close', 'Deleted', 'High', 'superseded'],
      ['3', 'Create', 'New', 'High', 'escalated'],
    ]);
    // A step that was no news then is none when the finding becomes known.
    await queue.round();
    expect(received).toHaveLength(6);
  });

  it('tells of hidden findings only where it was asked to, and when they come to light', async () => {
    const w = await world();
    const [quiet, all] = [
      w.queueOf(w.ocsf()),
      w.queueOf(w.ocsf({ id: 'all', includeHidden: true })),
    ];
    await quiet.round();
    await all.round();
    const terms = { owner: 'soc', reason: 'a known client', severity_max: 'high' as const };
    await addSuppression(
      w.scope,
      { ...terms, client_id: STORY.client, expires_at: iso(NOW_MS + 60_000) },
      { createdBy: 'ann', nowMs: NOW_MS },
    );
    await w.step(1);
    await quiet.round();
    expect(received).toEqual([]);
    await all.round();
    expect(bodies()[0]).toMatchObject({
      status_id: 3,
      status: 'Suppressed',
      status_detail: 'a known client',
      is_alert: false,
    });
    received = [];
    w.clock.advance(60_000);
    await w.triage.round([id('1', 1)]);
    await quiet.round();
    await all.round();
    expect(bodies().map((b) => [b['activity_name'], b['status']])).toEqual([
      ['Create', 'New'],
      ['Update', 'New'],
    ]);
  });

  it('writes lines to a file of its own, once each, also where a crash came before the record', async () => {
    const w = await world();
    const file = join(folder.path, 'findings.ndjson');
    const sink = () => w.ocsf({ to: { file } });
    const queue = w.queueOf(sink());
    await queue.round();
    await w.step(1);
    await queue.round();
    const read = () => readFileSync(file, 'utf8').split('\n');
    expect(read()).toHaveLength(2);
    expect(statSync(file).mode & 0o777).toBe(0o600);
    // The next line is written, and half of another, but the crash takes the records.
    await w.step(2);
    const first = sink();
    const forgetful = { ...first, send: first.send.bind(first) };
    const { step, finding } = await pendingOf(w, 2);
    await forgetful.send((await first.prepare({ step, finding, isKnown: false }))!);
    appendFileSync(file, '{"class_uid":2004,"cut');
    await w.step(3);
    await w.queueOf(sink()).round();
    const uids = read().map((line) => /"uid":"([^"]+)","tenant_uid"/.exec(line)?.[1]);
    expect(uids.map((u) => u !== undefined)).toEqual([true, true, false, true, false]);
    expect(new Set(uids).size).toBe(4);
    expect(await statuses(w.scope)).toEqual([
      [1, 1, 'delivered', ''],
      [2, 1, 'delivered', ''],
      [3, 1, 'delivered', ''],
    ]);
  });

  it('tries a file again that cannot be written', async () => {
    const w = await world();
    const file = join(folder.path, 'missing', 'findings.ndjson');
    const queue = w.queueOf(w.ocsf({ to: { file } }));
    await queue.round();
    await w.step(1);
    await queue.round();
    expect(await statuses(w.scope)).toEqual([[1, 1, 'retrying', 'ENOENT']]);
  });
});

async function pendingOf(w: Awaited<ReturnType<typeof world>>, n: number) {
  const filter = { sink: 'none', severityMin: 'info' as const, includeHidden: true };
  const all = await readPending(w.scope, filter, NOW_MS);
  return all.find((p) => p.finding.finding_id === id('1', n))!;
}

describe('CAEP', () => {
  it('pushes a signed risk-level-change when the level of a subject changes, and not otherwise', async () => {
    const w = await world();
    const queue = w.queueOf(w.caep());
    await queue.round();
    await w.step(1, { risk: 40, last_event_time: iso(NOW_MS) });
    await queue.round();
    expect(received).toHaveLength(1);
    expect(received[0]!.headers).toMatchObject({
      'content-type': 'application/secevent+jwt',
      accept: 'application/json',
      authorization: 'Bearer secret-token',
    });
    const { payload, protectedHeader } = await verify(received[0]!.body);
    expect(protectedHeader).toEqual({ alg: 'ES256', typ: 'secevent+jwt', kid: 'k1' });
    const [delivery] = await listDeliveries(w.scope, { limit: 1 });
    expect(payload).toEqual({
      iss: 'https://grantscope.example',
      aud: 'https://receiver.example',
      iat: NOW_MS / 1_000,
      jti: delivery!.delivery_id,
      txn: id('1', 1),
      sub_id: { format: 'opaque', id: STORY.subject },
      events: {
        'https://schemas.openid.net/secevent/caep/event-type/risk-level-change': {
          event_timestamp: NOW_MS / 1_000,
          principal: 'USER',
          current_level: 'MEDIUM',
          risk_reason:
            'refresh_token_reuse: A rotated refresh token was presented again from another network.',
        },
      },
    });
    // More of the same level, a finding without a subject, and one of somebody else at a low level: no news.
    await w.step(2, { risk: 10, last_event_time: iso(NOW_MS) });
    await w.step(3, { risk: 100, subject_ref: '' });
    await w.step(4, { risk: 10, subject_ref: id('5', 4) });
    await queue.round();
    expect(received).toHaveLength(1);
    await w.step(5, { risk: 100, last_event_time: iso(NOW_MS) });
    await queue.round();
    const second = await verify(received[1]!.body);
    expect(Object.values(second.payload['events'] as object)).toEqual([
      expect.objectContaining({ current_level: 'HIGH', previous_level: 'MEDIUM' }),
    ]);
    // Back down, once what raised it was withdrawn.
    await w.step(5, { risk: 100, state: 'superseded' });
    await queue.round();
    const third = await verify(received[2]!.body);
    expect(Object.values(third.payload['events'] as object)).toEqual([
      expect.objectContaining({ current_level: 'MEDIUM', previous_level: 'HIGH' }),
    ]);
    expect(await statuses(w.scope)).toEqual([
      [1, 1, 'delivered', ''],
      [2, 1, 'skipped', ''],
      [3, 1, 'skipped', ''],
      [4, 1, 'skipped', ''],
      [5, 1, 'delivered', ''],
      [5, 2, 'delivered', ''],
    ]);
  });

  it('tells that a risk has faded, once, looking every hour, and waits for a receiver that is away', async () => {
    const w = await world();
    const queue = w.queueOf(w.caep());
    await queue.round();
    // 95 is below the bound of a high level after a little over 9 hours; the receiver is away until the 13th.
    await w.step(1, { risk: 95, last_event_time: iso(NOW_MS) });
    await queue.round();
    expect(received).toHaveLength(1);
    for (let hour = 0; hour < 48; hour += 1) {
      w.clock.advance(FADE_INTERVAL_MS);
      answer = hour < 12 ? (_, response) => response.writeHead(503).end() : take;
      await queue.round();
    }
    const tokens = await Promise.all(received.map((r) => verify(r.body)));
    expect(
      tokens.map((t): unknown => Object.values(t.payload['events'] as Record<string, unknown>)[0]),
    ).toEqual([
      expect.objectContaining({ current_level: 'HIGH' }),
      ...Array.from({ length: received.length - 1 }, (): unknown =>
        expect.objectContaining({
          current_level: 'MEDIUM',
          previous_level: 'HIGH',
          risk_reason: 'the risk of earlier findings has faded',
        }),
      ),
    ]);
    const delivered = await listDeliveries(w.scope, { limit: 9, status: 'delivered' });
    expect(delivered.map((d) => [d.finding_id, d.level])).toEqual([
      [STORY.subject, 'medium'],
      [id('1', 1), 'high'],
    ]);
    // The opening, the 10th to the 12th hour in vain, and the 13th.
    expect(received).toHaveLength(5);
  });

  it('tells session-revoked upon the verdicts it was told, once, and again when it happens again', async () => {
    const w = await world();
    const queue = w.queueOf(w.caep({ event: 'session-revoked' }));
    await queue.round();
    await w.step(1);
    await w.step(2, { verdict: 'lost_response' });
    await w.step(3, { rule_id: 'other_rule' });
    await w.step(4, { entity_type: 'session', entity_ref: STORY.session });
    await w.step(5, { subject_ref: '' });
    await queue.round();
    await w.step(1, { severity: 'critical' });
    await w.step(1, { severity: 'critical', state: 'closed' });
    await queue.round();
    await w.step(1, { severity: 'critical' });
    await queue.round();
    const told = await Promise.all(received.map((r) => verify(r.body)));
    const type = 'https://schemas.openid.net/secevent/caep/event-type/session-revoked';
    expect(told.map((t) => [t.payload['txn'], t.payload['sub_id']])).toEqual([
      [id('1', 1), { format: 'opaque', id: STORY.subject }],
      [
        id('1', 4),
        {
          format: 'complex',
          session: { format: 'opaque', id: STORY.session },
          user: { format: 'opaque', id: STORY.subject },
        },
      ],
      [id('1', 1), { format: 'opaque', id: STORY.subject }],
    ]);
    expect((told[0]!.payload['events'] as Record<string, unknown>)[type]).toEqual({
      event_timestamp: NOW_MS / 1_000,
      initiating_entity: 'policy',
      reason_admin: {
        en: 'refresh_token_reuse: A rotated refresh token was presented again from another network.',
      },
    });
    expect(new Set(told.map((t) => t.payload.jti)).size).toBe(3);
  });

  it.each([
    [400, '{"err":"invalid_request","description":"no"}', 'refused', 'invalid_request'],
    [400, 'not json', 'refused', 'http_400'],
    [400, '{"err":"invalid_key"}', 'retrying', 'invalid_key'],
    [400, '{"err":"authentication_failed"}', 'retrying', 'authentication_failed'],
    [200, '', 'retrying', 'http_200'],
    [302, '', 'retrying', 'http_302'],
    [401, '', 'retrying', 'http_401'],
    [429, '', 'retrying', 'http_429'],
    [500, '', 'retrying', 'http_500'],
  ])('takes an answer %i %s for %s', async (status, body, outcome, error) => {
    const w = await world();
    answer = (_, response) =>
      response
        .writeHead(status, { 'content-type': 'application/json', location: '/other' })
        .end(body);
    const queue = w.queueOf(w.caep());
    await queue.round();
    await w.step(1);
    await queue.round();
    expect(await statuses(w.scope)).toEqual([[1, 1, outcome, error]]);
    expect(received.map((r) => r.path)).toEqual(['/events']);
  });
});

describe('a receiver that is away', () => {
  it('is tried with longer and longer pauses, gets all in order, and each under one id', async () => {
    const w = await world();
    const queue = w.queueOf(w.ocsf());
    await queue.round();
    answer = (_, response) => response.writeHead(503).end();
    await w.step(1);
    await w.step(2);
    const pauses: number[] = [];
    await queue.round();
    for (let tries = 1; tries < 11; tries += 1) {
      let pauseMs = 0;
      while (received.length === tries) {
        w.clock.advance(1_000);
        pauseMs += 1_000;
        await queue.round();
      }
      pauses.push(pauseMs);
    }
    expect(pauses.map((ms) => ms / 1_000)).toEqual([1, 2, 4, 8, 16, 32, 64, 128, 256, 300]);
    expect(pauses.at(-1)).toBe(RETRY_MS.longest);
    expect(await w.metrics.registry.metrics()).toContain(
      'deliveries{kind="ocsf",status="retrying"} 11',
    );
    answer = (_, response) => response.writeHead(204).end();
    w.clock.advance(RETRY_MS.longest);
    await queue.round();
    const uids = received.map((r) => r.headers['idempotency-key']);
    expect(received).toHaveLength(13);
    expect(new Set(uids.slice(0, 12)).size).toBe(1);
    expect(uids[12]).not.toBe(uids[0]);
    const told = await listDeliveries(w.scope, { limit: 9, findingId: id('1', 1) });
    expect(told.map((d) => [d.status, d.attempts])).toEqual([['delivered', 12]]);
    expect(await w.metrics.registry.metrics()).toContain('since{sink="ocsf/siem"} 0');
  });

  it('is waited for as long as it asks, up to the longest pause', async () => {
    const w = await world();
    const queue = w.queueOf(w.ocsf());
    await queue.round();
    answer = (_, response) => response.writeHead(429, { 'retry-after': '20' }).end();
    await w.step(1);
    await queue.round();
    w.clock.advance(19_999);
    await queue.round();
    expect(received).toHaveLength(1);
    w.clock.advance(1);
    await queue.round();
    expect(received).toHaveLength(2);
  });

  it('counts as away where it hangs, breaks off or is not there', async () => {
    const w = await world();
    const to = { token: undefined, ca: undefined, timeoutMs: 50 };
    const errorOf = async (url: string, how: typeof answer): Promise<unknown> => {
      answer = how;
      const sink = w.ocsf({ id: `s${tenants++}`, to: { ...to, url } });
      const queue = w.queueOf(sink);
      await queue.round();
      await w.step(tenants);
      await queue.round();
      const [row] = await listDeliveries(w.scope, { limit: 1, sink: sink.id });
      return row?.error;
    };
    const url = urlOf(server, 'http');
    expect(await errorOf(url, () => undefined)).toBe('timeout');
    expect(await errorOf(url, (_, response) => void response.socket?.destroy())).toBe('ECONNRESET');
    const broken: typeof answer = (_, response) => {
      response.writeHead(200, { 'content-length': '10' }).write('abc');
      setImmediate(() => response.socket?.destroy());
    };
    expect(await errorOf(url, broken)).toBe('the answer broke off');
    expect(await errorOf('http://127.0.0.1:9/events', take)).toBe('ECONNREFUSED');
    server.closeAllConnections();
  });

  it('loses a message only after three days, and then that one alone', async () => {
    const w = await world();
    const queue = w.queueOf(w.ocsf());
    await queue.round();
    answer = (_, response) => response.writeHead(500).end();
    await w.step(1);
    w.clock.advance(DELIVERY_AGE_MS_MAX - 1);
    await queue.round();
    await w.step(2);
    w.clock.advance(RETRY_MS.longest);
    await queue.round();
    expect(await statuses(w.scope)).toEqual([
      [1, 1, 'refused', 'gave_up_http_500'],
      [2, 1, 'retrying', 'http_500'],
    ]);
  });

  it('neither loses nor doubles anything over restarts, however often', async () => {
    const w = await world();
    await w.queueOf(w.ocsf()).round();
    let n = 0;
    for (let run = 0; run < 6; run += 1) {
      answer = run % 2 === 0 ? (_, r) => r.writeHead(503).end() : take;
      for (let i = 0; i < 3; i += 1) await w.step((n += 1));
      w.clock.advance(CURSOR_LAG_MS + 1);
      await w.queueOf(w.ocsf()).round();
    }
    const taken = (await listDeliveries(w.scope, { limit: 100, status: 'delivered' })).length;
    expect(taken).toBe(18);
    const uids = received.map((r) => r.headers['idempotency-key']);
    expect(new Set(uids).size).toBe(18);
    expect(uids).toHaveLength(18 + 3);
    // The cursor has moved on, and nothing behind it is told again.
    w.clock.advance(10 * CURSOR_LAG_MS);
    const last = w.queueOf(w.ocsf());
    await last.round();
    await w.queueOf(w.ocsf()).round();
    expect(received).toHaveLength(21);
  });
});

describe('TLS', () => {
  it('is verified: the receiver of the configured authority gets it, another one nothing', async () => {
    const w = await world();
    const url = urlOf(tlsServer, 'https');
    const to = { url, token: undefined, timeoutMs: 5_000 };
    const trusting = w.queueOf(w.ocsf({ id: 'trusting', to: { ...to, ca: tls.cert } }));
    const strict = w.queueOf(w.ocsf({ id: 'strict', to: { ...to, ca: undefined } }));
    await trusting.round();
    await strict.round();
    await w.step(1);
    await strict.round();
    expect(received).toEqual([]);
    await trusting.round();
    expect(received).toHaveLength(1);
    expect(
      (await listDeliveries(w.scope, { limit: 9 })).map((d) => [d.sink, d.status, d.error]),
    ).toEqual([
      ['ocsf/strict', 'retrying', 'DEPTH_ZERO_SELF_SIGNED_CERT'],
      ['ocsf/trusting', 'delivered', ''],
    ]);
  });
});

describe('response in grantscope.yaml', () => {
  const caep = {
    id: 'idp',
    url: 'https://receiver.example/events',
    issuer: 'https://grantscope.example',
    audience: 'a',
    key_file: 'key.pem',
    key_id: 'k1',
  };
  it.each([
    [{ ocsf: [{ id: 'a', url: 'http://siem.example/' }] }, 'http is allowed on loopback only'],
    [{ ocsf: [{ id: 'a', url: 'https://u:p@siem.example/' }] }, 'use token_file'],
    [{ ocsf: [{ id: 'a' }] }, 'set either file or url'],
    [{ ocsf: [{ id: 'a', file: 'x', url: 'https://siem.example/' }] }, 'set either file or url'],
    [
      {
        ocsf: [
          { id: 'a', file: 'x' },
          { id: 'a', file: 'y' },
        ],
      },
      'ids must differ',
    ],
    [{ caep: [{ ...caep, events: ['session-revoked'] }] }, 'names at least one rule'],
    [{ caep: [{ ...caep, algorithm: 'none' }] }, 'algorithm'],
    [{ caep: [{ ...caep, algorithm: 'HS256' }] }, 'algorithm'],
  ])('is refused: %j', (settings, message) => {
    expect(JSON.stringify(ResponseSettings.safeParse(settings).error?.issues)).toContain(message);
  });

  it('starts with a key that is read from a file, tells, stops, and says which file is wrong', async () => {
    const w = await world();
    const key_file = join(folder.path, 'key.pem');
    writeFileSync(key_file, await exportPKCS8(keys.privateKey));
    chmodSync(key_file, 0o600);
    const token_file = join(folder.path, 'token');
    writeFileSync(token_file, 'secret-token\n');
    const start = (settings: Record<string, unknown>) => {
      const response = ResponseSettings.parse(settings);
      const runtime = testRuntime(engine.dataDir, {
        clock: w.clock,
        config: { tenant: w.tenant, response },
      });
      return { runtime, started: startResponse(runtime, engine.store) };
    };
    const url = urlOf(server, 'http');
    const { runtime, started } = start({
      ocsf: [{ id: 'siem', url, token_file }],
      caep: [
        {
          ...caep,
          url,
          key_file,
          severity_min: 'medium',
          events: ['risk-level-change', 'session-revoked'],
          revoke_upon: ['refresh_token_reuse'],
        },
      ],
    });
    const component = await started;
    await vi.waitFor(async () => {
      const rows = await engine.store.query<{ n: number }>(
        sql`SELECT toUInt32(uniqExact(sink)) AS n FROM grantscope.delivery_cursors WHERE tenant = ${param.string(w.tenant)}`,
      );
      expect(rows[0]?.n).toBe(3);
    });
    await w.step(1, { last_event_time: iso(NOW_MS) });
    runtime.hints.emit('findings_changed', { ids: [id('1', 1)] });
    await vi.waitFor(() => expect(received).toHaveLength(3), { timeout: 5_000 });
    await component.stop();
    await component.stop();
    expect(received.map((r) => r.headers['content-type']).sort()).toEqual([
      'application/json',
      'application/secevent+jwt',
      'application/secevent+jwt',
    ]);
    expect(await runtime.metrics.registry.metrics()).toContain(
      'grantscope_response_deliveries_total{kind="caep",status="delivered"} 2',
    );
    await expect(start({ caep: [{ ...caep, key_file: '/missing.pem' }] }).started).rejects.toThrow(
      'response.caep.0.key_file: cannot be read (ENOENT)',
    );
    const wrong = start({ caep: [{ ...caep, key_file: token_file }] }).started;
    await expect(wrong).rejects.toThrow('response.caep.0.key_file: no PKCS #8 PEM key for ES256');
    await expect(wrong).rejects.not.toThrow(/secret-token/);
  });
});
