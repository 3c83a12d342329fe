import { describe, expect, it } from 'vitest';
import { TIME_ALLOWED } from '../../collector/sources/_reading.ts';
import opa from '../../collector/sources/opa.ts';
import { AuthEvent } from '../../model/auth_event.ts';
import { filledFields } from './filled_fields.ts';
import { eventsOf, expected, json, line, RECEIVED_AT, ring, withoutId } from './run_source.ts';
import { hasSamples, recordsOf, sampleRows } from './sample_records.ts';

const at = 1_767_225_600_123_456_000n;
const timestamp = '2026-01-01T00:00:00.123456Z';
const decisionId = '5f0a86d4-2c1b-4f0e-9c3d-7a1e2b3c0001';
const jti = '5f0a86d4-2c1b-4f0e-9c3d-7a1e2b3c0002';
const record = (more: object) => ({
  decision_id: decisionId,
  timestamp,
  path: 'http/authz/allow',
  ...more,
});
const one = (more: object): AuthEvent => {
  const events = eventsOf(opa, json(record(more)));
  expect(events).toHaveLength(1);
  return events[0]!;
};

const envoyInput = {
  attributes: {
    source: {
      address: { socketAddress: { address: '203.0.113.9', portValue: 40_000 } },
      principal: 'spiffe://example.com/ns/shop/sa/web',
    },
    request: {
      http: {
        ...{ method: 'GET', path: '/orders/7?expand=lines', host: 'orders.example.com' },
        headers: {
          authorization: 'Bearer opaque-token-of-a-test-0123456789',
          'user-agent': 'curl/8.5.0',
          'x-request-id': 'req-1',
          cookie: 'session=hidden-cookie-value',
        },
      },
    },
  },
};

describe('a decision', () => {
  it('about a request of Envoy', () => {
    const event = one({
      labels: { app: 'shop-authz', id: 'pod-7', version: '1.4.2' },
      bundles: { authz: { revision: 'rev-42' } },
      input: envoyInput,
      result: { allowed: true, headers: { 'x-user': 'ada' } },
      ...{ requested_by: '127.0.0.1:36412', req_id: 7 },
      ...{ trace_id: '0af7651916cd43dd8448eb211c80319c', span_id: 'b7ad6b7169203331' },
      metrics: { timer_server_handler_ns: 1_250_000 },
    });
    expect(event.event_id).toBe(decisionId);
    expect(withoutId(event)).toEqual(
      expected(opa, {
        time: at,
        kind: 'policy_decided',
        outcome: 'success',
        source: { instance: 'shop-authz/pod-7', raw_type: 'http/authz/allow' },
        subject: {
          ref: ring.ref('subject', 'spiffe://example.com/ns/shop/sa/web'),
          type: 'service',
        },
        resource: ['orders.example.com'],
        tokens: [
          {
            ...{ role: 'presented', type: 'access', ref_kind: 'hmac' },
            ref: ring.ref('token', 'opaque-token-of-a-test-0123456789'),
          },
        ],
        net: {
          ...{ client_ip: '203.0.113.9', network: '203.0.113.0/24' },
          ...{ user_agent: 'curl/8.5.0', ua_family: 'curl' },
        },
        http: { method: 'GET', route: '/orders/7', duration_ms: 1.25 },
        policy: {
          ...{ decision_id: decisionId, path: 'http/authz/allow', decision: 'allow' },
          bundle_revision: 'rev-42',
        },
        corr: {
          trace_id: '0af7651916cd43dd8448eb211c80319c',
          span_id: 'b7ad6b7169203331',
          request_id: 'req-1',
        },
        redaction: { fields: ['subject.ref', 'tokens.ref'] },
      }),
    );
  });

  it('with the decoded token in the input', () => {
    const event = one({
      input: {
        ...{ method: 'POST', path: ['salary', 'bob'] },
        claims: {
          ...{ iss: 'https://login.example.com', sub: 'u1', jti, azp: 'web', scope: 'openid pay' },
          ...{ aud: ['pay-api'], iat: 1_767_225_000, exp: 1_767_228_600 },
        },
      },
      result: false,
      requested_by: '[2001:db8::7]:59943',
    });
    expect(event).toMatchObject({
      outcome: 'denied',
      client: { id: 'web' },
      subject: { ref: ring.ref('subject', 'u1') },
      issuer: 'https://login.example.com',
      audience: ['pay-api'],
      scopes_granted: ['openid', 'pay'],
      tokens: [
        {
          ...{ role: 'presented', ref: jti, ref_kind: 'jti' },
          ...{ issued_at: 1_767_225_000_000_000_000n, expires_at: 1_767_228_600_000_000_000n },
        },
      ],
      net: { client_ip: '2001:db8::7', ip_role: 'proxy' },
      http: { method: 'POST', route: '/salary/bob' },
      policy: { decision: 'deny' },
    });
  });

  it.each([
    ['http/authz/allow', true, 'allow', 'success'],
    ['http/authz/allow', false, 'deny', 'denied'],
    ['http/authz/allow', 'true', 'allow', 'success'],
    ['http/authz/allow', { allow: false, reasons: ['x'] }, 'deny', 'denied'],
    ['http/authz/allow', { authorized: true }, 'allow', 'success'],
    ['http/authz/deny', true, 'deny', 'denied'],
    ['http/authz/deny', false, 'allow', 'success'],
    ['http/authz/deny', ['missing scope'], 'deny', 'denied'],
    ['k8s/admission/violation', [], 'allow', 'success'],
    ['http/authz/deny', { allow: true }, 'allow', 'success'],
    ['http/authz/allow', ['a'], '', 'unknown'],
    ['http/authz/allow', { toString: true }, '', 'unknown'],
    ['http/authz/limit', 42, '', 'unknown'],
    ['http/authz/allow', undefined, 'no_result', 'unknown'],
  ])('of %s: %j', (path, result, decision, outcome) => {
    const event = one({ path, result });
    expect([event.policy.decision, event.outcome]).toEqual([decision, outcome]);
  });

  it('that was erased is not undefined, and a mapped one goes before the first', () => {
    expect(one({ erased: ['/result'] }).policy.decision).toBe('');
    expect(one({ result: [1], mapped_result: true }).policy.decision).toBe('allow');
  });

  it('that failed says why', () => {
    const error = { code: 'internal_error', message: 'eval_conflict_error: two results' };
    expect(one({ error })).toMatchObject({
      outcome: 'failure',
      error: { code: 'internal_error', detail: 'eval_conflict_error: two results' },
      policy: { decision: '' },
    });
    expect(one({ error: 'timeout' }).error).toMatchObject({ code: 'error', detail: 'timeout' });
  });

  it('by several bundles names each revision; an old one has a single one', () => {
    const bundles = { b: { revision: '2' }, a: { revision: '1' }, c: {} };
    expect(one({ bundles }).policy.bundle_revision).toBe('a=1 b=2');
    expect(one({ revision: '9' }).policy.bundle_revision).toBe('9');
  });

  it('of an ad hoc query, as the console prints it', () => {
    const event = one({
      path: undefined,
      query: 'data.x.allow = true',
      type: 'openpolicyagent.org/decision_logs',
    });
    expect([event.kind, event.source.raw_type]).toEqual(['policy_decided', 'query']);
  });
});

describe('who it is about', () => {
  const of = (input: object) => one({ input }).subject.ref;
  it.each([
    [{ user: 'ada' }, 'ada'],
    [{ user: { id: 'u7', roles: [] } }, 'u7'],
    [{ subject: { username: 'ada' } }, 'ada'],
    [{ principal: 'ada' }, 'ada'],
    [
      { request: { userInfo: { username: 'system:serviceaccount:a:b' } } },
      'system:serviceaccount:a:b',
    ],
  ])('%j', (input, id) => {
    expect(of(input)).toBe(ring.ref('subject', id));
  });

  it('nobody that is known', () => {
    expect(of({ user: {}, subject: [] })).toBe('');
  });
});

describe('what OPA masked', () => {
  it('never becomes a reference', () => {
    const event = one({
      input: { user: '**REDACTED**', token: '**REDACTED**' },
      masked: ['/input/user', '/input/token'],
    });
    expect(event.subject.ref).toBe('');
    expect(event.tokens.map((t) => t.ref)).toEqual(['']);
    expect(event.redaction.upstream).toBe(true);
    expect(one({ erased: ['/input/password'] }).redaction.upstream).toBe(true);
    expect(one({ erased: [], masked: [] }).redaction.upstream).toBe(false);
  });

  it('and what it did not mask is not stored either', () => {
    const event = one({
      input: { password: 'correct-horse-battery-staple', ...envoyInput },
      nd_builtin_cache: {
        'http.send': { '[{"headers":{"x":"hidden"}}]': { body: 'nd-cache-body' } },
      },
      result: true,
    });
    const text = JSON.stringify(event, (_, v: unknown) => (typeof v === 'bigint' ? '' : v));
    for (const hidden of [
      'correct-horse',
      'hidden-cookie',
      'nd-cache',
      'opaque-token',
      'expand=',
    ]) {
      expect(text).not.toContain(hidden);
    }
  });
});

describe('what is no decision', () => {
  it.each([
    [
      'no id',
      { timestamp, path: 'x' },
      'unrecognised_record',
      'record: no decision of OPA; decision_id is needed',
    ],
    ['no time', { decision_id: 'd' }, 'missing_field', 'timestamp: is required'],
    [
      'a bad time',
      { decision_id: 'd', timestamp: {} },
      'invalid_time',
      `timestamp: not a time; ${TIME_ALLOWED}`,
    ],
    ['a list', [1], 'not_an_object', 'record: must be a JSON object'],
  ])('%s', (_, value, code, message) => {
    expect(opa.parse(json(value), { received_at: RECEIVED_AT })).toEqual({
      ok: false,
      code,
      message,
    });
  });

  it('text', () => {
    const refused = {
      ok: false,
      code: 'unsupported_form',
      message: 'text: allowed is a JSON object',
    };
    expect(opa.parse(line('x'), { received_at: RECEIVED_AT })).toEqual(refused);
  });

  it('foreign names and types do no harm', () => {
    const hostile = JSON.parse(
      '{"input":{"__proto__":{"user":"x"},"path":[{},[]],"attributes":7,"headers":{"authorization":{}}},' +
        '"labels":[],"bundles":{"__proto__":{"revision":"x"},"a":"x"},"erased":"x","metrics":{"timer_server_handler_ns":"x"},"requested_by":{}}',
    ) as object;
    expect(one({ ...hostile, result: [[]] })).toMatchObject({
      ...{ kind: 'policy_decided', outcome: 'unknown', tokens: [] },
      http: { duration_ms: null },
    });
  });
});

it('provides what it says', () => {
  const events = [
    one({
      ...{
        input: envoyInput,
        result: true,
        labels: { app: 'a', id: 'b' },
        requested_by: '10.0.0.1:1',
      },
      ...{ bundles: { a: { revision: '1' } }, metrics: { timer_server_handler_ns: 5e6 } },
      ...{ trace_id: '0af7651916cd43dd8448eb211c80319c', span_id: 'b7ad6b7169203331' },
    }),
    one({
      input: {
        claims: {
          ...{ iss: 'https://login.example.com', sub: 'u1', jti, azp: 'web', scope: 'openid' },
          ...{ aud: 'pay-api', iat: 1_767_225_000, exp: 1_767_228_600 },
        },
      },
      error: { code: 'internal_error', message: 'x' },
      requested_by: '10.0.0.1:1',
    }),
  ];
  expect(filledFields(events)).toEqual([...opa.provides].sort());
});

describe.skipIf(!hasSamples)('real decisions', () => {
  it('are read', () => {
    const records = sampleRows('opa_decisions.json').flatMap((row) => recordsOf(opa, row));
    const events = records.flatMap((r) => eventsOf(opa, r));
    for (const event of events) AuthEvent.parse(event);
    expect(
      events.map((e) => [e.kind, e.outcome, e.source.raw_type, e.http.route, e.redaction.upstream]),
    ).toEqual([
      ['policy_decided', 'success', 'http/example/authz/allow', '/salary/bob', false],
      ['policy_decided', 'success', 'system/main', '', true],
    ]);
    process.stdout.write(`samples opa: ${records.length} records, ${events.length} events\n`);
  });
});
