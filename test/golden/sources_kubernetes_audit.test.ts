import { describe, expect, it } from 'vitest';
import { isJson, TIME_ALLOWED } from '../../collector/sources/_reading.ts';
import kubernetes from '../../collector/sources/kubernetes_audit.ts';
import { AuthEvent } from '../../model/auth_event.ts';
import type { SourceRecord } from '../../model/define_source.ts';
import { filledFields } from './filled_fields.ts';
import { eventsOf, expected, json, line, RECEIVED_AT, ring, withoutId } from './run_source.ts';
import { hasSamples, recordsOf, sampleRows } from './sample_records.ts';

const at = 1_767_225_600_123_456_000n;
const auditID = '2a6c1b7e-90c4-4a3b-8f6d-1c5e7d9b0001';
const jti = '2a6c1b7e-90c4-4a3b-8f6d-1c5e7d9b0002';
const callerJti = '2a6c1b7e-90c4-4a3b-8f6d-1c5e7d9b0003';
const robot = 'system:serviceaccount:shop:web';
const credential = (id: string) => ({
  'authentication.kubernetes.io/credential-id': [`JTI=${id}`],
});

const audit = (more: object) => ({
  ...{ kind: 'Event', apiVersion: 'audit.k8s.io/v1', level: 'Metadata', auditID },
  ...{ stage: 'ResponseComplete', verb: 'get', requestURI: '/api/v1/namespaces/shop/pods?limit=5' },
  user: { username: 'ada@example.com', groups: ['system:authenticated'] },
  sourceIPs: ['203.0.113.9', '10.0.0.1'],
  userAgent: 'kubectl/v1.30.0 (linux/amd64)',
  responseStatus: { code: 200 },
  requestReceivedTimestamp: '2026-01-01T00:00:00.123456Z',
  stageTimestamp: '2026-01-01T00:00:00.128456Z',
  ...more,
});
const all = (more: object): AuthEvent[] => eventsOf(kubernetes, json(audit(more)));
const one = (more: object): AuthEvent => {
  const events = all(more);
  expect(events).toHaveLength(1);
  return events[0]!;
};
const net = {
  ...{ client_ip: '203.0.113.9', network: '203.0.113.0/24' },
  ...{ user_agent: 'kubectl/v1.30.0 (linux/amd64)', ua_family: 'kubectl' },
};

describe('a token of a service account', () => {
  const request = {
    verb: 'create',
    requestURI: '/api/v1/namespaces/shop/serviceaccounts/web/token',
    objectRef: {
      resource: 'serviceaccounts',
      subresource: 'token',
      namespace: 'shop',
      name: 'web',
    },
    user: { username: 'system:node:n1', extra: credential(callerJti) },
    requestObject: {
      spec: { audiences: ['vault', 'https://sts.example.com'], expirationSeconds: 3_600 },
    },
    responseStatus: { code: 201 },
    annotations: {
      'authorization.k8s.io/decision': 'allow',
      'authorization.k8s.io/reason': 'RBAC: allowed by ClusterRoleBinding "nodes"',
      'authentication.kubernetes.io/issued-credential-id': `JTI=${jti}`,
    },
  };

  it('is issued', () => {
    const event = one(request);
    expect(event.event_id).toBe(auditID);
    expect(withoutId(event)).toEqual(
      expected(kubernetes, {
        time: at,
        observed_time: at + 5_000_000n,
        kind: 'token_issued',
        outcome: 'success',
        source: { raw_type: 'create serviceaccounts/token' },
        endpoint: 'token',
        client: { id: robot },
        subject: { ref: ring.ref('subject', robot), type: 'service' },
        actor: { ref: ring.ref('subject', 'system:node:n1'), type: 'service' },
        audience: ['https://sts.example.com', 'vault'],
        tokens: [
          {
            ...{ role: 'issued', type: 'access', ref: jti, ref_kind: 'jti' },
            expires_at: at + 3_600_000_000_000n,
          },
        ],
        net,
        http: {
          ...{ method: 'POST', route: '/api/v1/namespaces/shop/serviceaccounts/web/token' },
          ...{ status: 201, duration_ms: 5 },
        },
        ext: {
          ...{ namespace: 'shop', object: 'web' },
          authorization_reason: 'RBAC: allowed by ClusterRoleBinding "nodes"',
        },
        redaction: { fields: ['actor.ref', 'subject.ref', 'tokens.ref'] },
      }),
    );
  });

  it('expires when the response says so, where it is logged', () => {
    const status = { expirationTimestamp: '2026-01-01T02:00:00Z' };
    expect(one({ ...request, responseObject: { status } }).tokens[0]?.expires_at).toBe(
      1_767_232_800_000_000_000n,
    );
  });

  it('is named by itself where the response is logged and nothing names it; it never passes', () => {
    const token = 'raw-service-account-token-of-a-test-01234';
    const event = one({ ...request, annotations: {}, responseObject: { status: { token } } });
    expect(event.tokens).toMatchObject([{ ref: ring.ref('token', token), ref_kind: 'hmac' }]);
    expect(
      JSON.stringify(event, (_, v: unknown) => (typeof v === 'bigint' ? '' : v)),
    ).not.toContain(token);
  });

  it('was refused', () => {
    const status = {
      code: 403,
      reason: 'Forbidden',
      message: 'serviceaccounts "web" is forbidden',
    };
    expect(one({ ...request, responseStatus: status, annotations: {} })).toMatchObject({
      ...{ kind: 'token_request_failed', outcome: 'denied', tokens: [] },
      error: { code: 'Forbidden', detail: 'serviceaccounts "web" is forbidden' },
    });
  });

  it('is known again where it is presented', () => {
    const event = one({
      user: { username: robot, extra: credential(jti) },
      objectRef: { resource: 'pods', namespace: 'shop' },
    });
    expect(event).toMatchObject({
      ...{ kind: 'api_accessed', outcome: 'success', client: { id: robot } },
      subject: { ref: ring.ref('subject', robot), type: 'service' },
      tokens: [{ role: 'presented', type: 'access', ref: jti, ref_kind: 'jti' }],
      http: { method: 'GET', route: '/api/v1/namespaces/shop/pods' },
    });
  });

  it('a certificate is no token', () => {
    const extra = { 'authentication.kubernetes.io/credential-id': ['X509SHA256=00ff'] };
    expect(one({ user: { username: 'ada', extra } }).tokens).toEqual([]);
  });
});

describe('a token review', () => {
  const review = (status: object, more: object = {}) => ({
    verb: 'create',
    objectRef: { resource: 'tokenreviews', apiGroup: 'authentication.k8s.io' },
    user: { username: robot },
    responseStatus: { code: 201 },
    responseObject: { status },
    ...more,
  });

  it('of a good token', () => {
    const status = {
      authenticated: true,
      user: { username: 'system:serviceaccount:shop:job', extra: credential(jti) },
    };
    expect(all(review(status))).toMatchObject([
      {
        ...{ kind: 'token_introspected', outcome: 'success', endpoint: 'introspection' },
        subject: { ref: ring.ref('subject', 'system:serviceaccount:shop:job'), type: 'service' },
        actor: { ref: ring.ref('subject', robot) },
        client: { id: robot },
        tokens: [{ role: 'presented', ref: jti }],
      },
    ]);
  });

  it.each([
    ['[invalid bearer token, service account token has expired]', 'expired'],
    ['go-jose/go-jose: error in cryptographic primitive', 'invalid_signature'],
    ['token audiences ["a"] is invalid for the target audiences ["b"]', 'invalid_audience'],
    ['token is not valid yet', 'not_yet_valid'],
    ['something else', 'invalid_token'],
    [undefined, 'invalid_token'],
  ])('of a bad one: %s', (error, code) => {
    const token = 'raw-token-under-review-of-a-test-0123456789';
    const events = all(
      review({ authenticated: false, error }, { requestObject: { spec: { token } } }),
    );
    expect(events.map((e) => [e.kind, e.outcome, e.error.code, e.tokens[0]?.ref])).toEqual([
      ['token_introspected', 'success', '', ring.ref('token', token)],
      ['token_rejected', 'failure', code, ring.ref('token', token)],
    ]);
    expect(events[0]?.event_id).toBe(auditID);
    expect(events[1]?.event_id).not.toBe(auditID);
  });

  it('whose answer is not logged says nothing of the token; one that failed neither', () => {
    expect(all(review({}, { responseObject: undefined })).map((e) => [e.kind, e.outcome])).toEqual([
      ['token_introspected', 'success'],
    ]);
    const failed = review({ authenticated: false }, { responseStatus: { code: 500 } });
    expect(all(failed).map((e) => [e.kind, e.outcome, e.error.code])).toEqual([
      ['token_introspected', 'failure', '500'],
    ]);
  });
});

describe('every other kind', () => {
  it.each([
    ['get', 'secrets', 'secret_read', 'shop/secrets/web'],
    ['list', 'secrets', 'secret_read', 'shop/secrets/web'],
    ['watch', 'secrets', 'secret_read', 'shop/secrets/web'],
    ['patch', 'secrets', 'secret_changed', 'shop/secrets/web'],
    ['deletecollection', 'secrets', 'secret_changed', 'shop/secrets/web'],
    ['create', 'clusterrolebindings', 'policy_changed', ''],
    ['update', 'roles', 'policy_changed', ''],
    ['update', 'mutatingwebhookconfigurations', 'policy_changed', ''],
    ['get', 'roles', 'api_accessed', ''],
    ['create', 'serviceaccounts', 'client_registered', ''],
    ['patch', 'serviceaccounts', 'client_updated', ''],
    ['delete', 'serviceaccounts', 'client_deleted', ''],
    ['get', 'serviceaccounts', 'api_accessed', ''],
    ['create', 'pods', 'api_accessed', ''],
    ['create', 'toString', 'api_accessed', ''],
    ['constructor', 'secrets', 'api_accessed', 'shop/secrets/web'],
  ])('%s %s', (verb, resource, kind, kid) => {
    const event = one({ verb, objectRef: { resource, namespace: 'shop', name: 'web' } });
    expect([event.kind, event.source.raw_type, event.key.kid]).toEqual([
      kind,
      `${verb} ${resource}`,
      kid,
    ]);
    const isAdministration = kind !== 'api_accessed';
    expect(event.actor.ref).toBe(isAdministration ? ring.ref('subject', 'ada@example.com') : '');
  });

  it('all secrets of a namespace, or of the cluster', () => {
    const kid = (objectRef: object) =>
      one({ verb: 'list', objectRef: { resource: 'secrets', ...objectRef } }).key;
    expect(kid({ namespace: 'shop' })).toEqual({
      kid: 'shop/secrets/*',
      operation: 'list',
      store: 'shop/secrets',
    });
    expect(kid({})).toEqual({ kid: '*/secrets/*', operation: 'list', store: '*/secrets' });
  });

  it('the key set of the cluster', () => {
    const event = one({ requestURI: '/openid/v1/jwks', user: { username: 'system:anonymous' } });
    expect([event.kind, event.endpoint, event.subject.type]).toEqual([
      'jwks_fetched',
      'jwks',
      'unknown',
    ]);
  });

  it('a question about access, and its answer', () => {
    const event = one({
      verb: 'create',
      objectRef: { resource: 'subjectaccessreviews' },
      requestObject: {
        spec: { user: 'bob@example.com', resourceAttributes: { verb: 'get', resource: 'secrets' } },
      },
      responseObject: { status: { allowed: false } },
    });
    expect(event).toMatchObject({
      ...{
        kind: 'policy_decided',
        outcome: 'success',
        policy: { decision: 'deny', path: 'get secrets' },
      },
      subject: { ref: ring.ref('subject', 'bob@example.com'), type: 'user' },
    });
  });

  it('a request without a verb is not told apart', () => {
    expect(one({ verb: undefined, objectRef: { resource: 'pods' } }).kind).toBe('unclassified');
  });

  it('names who was impersonated, and by whom', () => {
    const event = one({
      user: { username: robot },
      impersonatedUser: { username: 'bob@example.com' },
    });
    expect(event.subject).toEqual({ ref: ring.ref('subject', 'bob@example.com'), type: 'user' });
    expect(event.actor).toEqual({ ref: ring.ref('subject', robot), type: 'service' });
  });

  it('names the policy that was changed', () => {
    const objectRef = { resource: 'rolebindings', namespace: 'shop', name: 'admins' };
    expect(one({ verb: 'create', objectRef }).policy.path).toBe('rolebindings/shop/admins');
  });
});

describe('stages and outcomes', () => {
  it.each([
    ['RequestReceived', undefined, 'attempt', 'pending'],
    ['ResponseStarted', { code: 200 }, 'attempt', 'pending'],
    ['ResponseComplete', { code: 200 }, 'single', 'success'],
    ['ResponseComplete', { code: 401 }, 'single', 'denied'],
    ['ResponseComplete', { code: 403 }, 'single', 'denied'],
    ['ResponseComplete', { code: 404 }, 'single', 'failure'],
    ['ResponseComplete', { code: '500' }, 'single', 'failure'],
    ['ResponseComplete', undefined, 'single', 'unknown'],
    ['Panic', { code: 200 }, 'single', 'failure'],
  ])('%s %j', (stage, responseStatus, phase, outcome) => {
    const event = one({ stage, responseStatus });
    expect([event.phase, event.outcome]).toEqual([phase, outcome]);
    expect(event.event_id === auditID).toBe(phase === 'single');
  });

  it('a refusal that only the annotation tells', () => {
    const annotations = { 'authorization.k8s.io/decision': 'forbid' };
    expect(one({ responseStatus: undefined, annotations }).outcome).toBe('denied');
  });

  it('a watch has no duration, since it waits', () => {
    expect(one({ verb: 'watch' }).http.duration_ms).toBeNull();
    expect(one({ verb: 'get' }).http.duration_ms).toBe(5);
  });
});

describe('containers', () => {
  const item = audit({});
  it.each([
    ['an EventList', { kind: 'EventList', items: [item, item] }],
    [
      'records of AKS',
      {
        records: [1, 2].map(() => ({
          category: 'kube-audit',
          properties: { log: JSON.stringify(item) },
        })),
      },
    ],
    [
      'log events of CloudWatch',
      { logEvents: [1, 2].map((id) => ({ id, message: JSON.stringify(item) })) },
    ],
  ])('%s', (_, container) => {
    expect(kubernetes.unwrap?.(container)).toEqual([item, item]);
  });

  it('one record of AKS; no container; text that is no JSON', () => {
    expect(kubernetes.unwrap?.({ properties: { log: JSON.stringify(item) } })).toEqual([item]);
    expect(kubernetes.unwrap?.(item)).toBeUndefined();
    expect(kubernetes.unwrap?.('x')).toBeUndefined();
    const broken = { properties: { log: '{"kind":' } };
    expect(kubernetes.unwrap?.(broken)).toBeUndefined();
    expect(kubernetes.unwrap?.({ records: [broken, 7] })).toEqual([broken, 7]);
  });

  it('items of a list leave out what they are', () => {
    const { kind, apiVersion, ...bare } = item;
    expect([kind, apiVersion]).toEqual(['Event', 'audit.k8s.io/v1']);
    expect(eventsOf(kubernetes, json(bare))).toHaveLength(1);
  });
});

describe('what is no audit event', () => {
  const unrecognised =
    'record: no Kubernetes audit event; kind Event of audit.k8s.io, or auditID and stage, are needed';
  it.each([
    [
      'an event of the core API',
      { kind: 'Event', apiVersion: 'v1', auditID, stage: 'x' },
      'unrecognised_record',
      unrecognised,
    ],
    ['a pod', { kind: 'Pod', apiVersion: 'audit.k8s.io/v1' }, 'unrecognised_record', unrecognised],
    ['nothing known', { verb: 'get' }, 'unrecognised_record', unrecognised],
    [
      'no time',
      { auditID, stage: 'Panic' },
      'missing_field',
      'requestReceivedTimestamp: is required, or stageTimestamp',
    ],
    [
      'a bad time',
      { auditID, stage: 'Panic', stageTimestamp: 'now' },
      'invalid_time',
      `requestReceivedTimestamp: not a time; ${TIME_ALLOWED}`,
    ],
    ['a list', [], 'not_an_object', 'record: must be a JSON object'],
  ])('%s', (_, value, code, message) => {
    expect(kubernetes.parse(json(value), { received_at: RECEIVED_AT })).toEqual({
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
    expect(kubernetes.parse(line('x'), { received_at: RECEIVED_AT })).toEqual(refused);
  });

  it('foreign names and types do no harm', () => {
    const hostile = JSON.parse(
      '{"verb":"__proto__","objectRef":{"resource":"__proto__","name":{}},"user":[],"sourceIPs":"x","annotations":7,' +
        '"responseStatus":"x","requestObject":[],"responseObject":{"status":[]},"__proto__":{"stage":"Panic"},"impersonatedUser":1}',
    ) as object;
    expect(one(hostile)).toMatchObject({ kind: 'api_accessed', outcome: 'unknown', tokens: [] });
  });
});

it('provides what it says', () => {
  const events = [
    {
      verb: 'create',
      objectRef: { resource: 'serviceaccounts', subresource: 'token', namespace: 'a', name: 'b' },
      requestObject: { spec: { audiences: ['x'], expirationSeconds: 600 } },
      annotations: { 'authentication.kubernetes.io/issued-credential-id': `JTI=${jti}` },
    },
    {
      verb: 'get',
      objectRef: { resource: 'secrets', namespace: 'a', name: 'b' },
      responseStatus: { code: 404, message: 'x' },
    },
    {
      verb: 'create',
      objectRef: { resource: 'subjectaccessreviews' },
      requestObject: { spec: { resourceAttributes: { verb: 'get', resource: 'pods' } } },
      responseObject: { status: { allowed: true } },
    },
  ].map(one);
  expect(filledFields(events)).toEqual([...kubernetes.provides].sort());
});

describe.skipIf(!hasSamples)('real events', () => {
  const samples = hasSamples
    ? sampleRows('k8s.ndjson').flatMap((row) => recordsOf(kubernetes, row))
    : [];
  const namesOf = (record: SourceRecord): readonly string[] => {
    const result = kubernetes.parse(record, { received_at: RECEIVED_AT });
    if (!result.ok) return [result.code];
    return eventsOf(kubernetes, record).map(
      (e) => `${AuthEvent.parse(e).kind}: ${e.source.raw_type}`,
    );
  };
  const countsOf = (names: readonly string[]): Readonly<Record<string, number>> => {
    const counts = new Map<string, number>();
    for (const name of names) counts.set(name, (counts.get(name) ?? 0) + 1);
    return Object.fromEntries([...counts].sort(([a], [b]) => (a < b ? -1 : 1)));
  };

  it('are read; those that editing took the time or the version from are refused for that', () => {
    expect(countsOf(samples.flatMap(namesOf))).toEqual({
      'api_accessed: create pods': 2,
      'api_accessed: get': 2,
      'api_accessed: list pods': 1,
      missing_field: 41,
      'policy_changed: create clusterrolebindings': 1,
      'unclassified: pods': 2,
      unrecognised_record: 96,
    });
    process.stdout.write(`samples kubernetes_audit: ${samples.length} records\n`);
  });

  it('come out as what they are with time and version put back', () => {
    const whole = samples.flatMap((record) => {
      if (record.form === 'text' || !isJson(record.value)) return [];
      const { value } = record;
      if (value['kind'] !== 'Event') return [];
      const back = { apiVersion: 'audit.k8s.io/v1', stageTimestamp: '2026-01-01T00:00:00Z' };
      return [json({ ...back, ...value })];
    });
    expect(countsOf(whole.flatMap(namesOf))).toEqual({
      'api_accessed: create certificatesigningrequests': 7,
      'api_accessed: create configmaps': 1,
      'api_accessed: create cronjobs': 3,
      'api_accessed: create leases': 1,
      'api_accessed: create pods': 18,
      'api_accessed: create pods/exec': 1,
      'api_accessed: get': 4,
      'api_accessed: get apis': 1,
      'api_accessed: get certificatesigningrequests': 1,
      'api_accessed: get configmaps': 1,
      'api_accessed: get cronjobs': 1,
      'api_accessed: get deployments': 1,
      'api_accessed: get endpointslices': 1,
      'api_accessed: get nodes': 1,
      'api_accessed: get pods': 5,
      'api_accessed: get pods/exec': 1,
      'api_accessed: get serviceaccounts/token': 1,
      'api_accessed: get services': 1,
      'api_accessed: list nodes': 1,
      'api_accessed: list persistentvolumes': 1,
      'api_accessed: list pods': 3,
      'api_accessed: propfind': 1,
      'api_accessed: update cronjobs': 1,
      'api_accessed: watch': 1,
      'api_accessed: watch endpoints': 1,
      'api_accessed: watch endpointslices': 2,
      'client_registered: create serviceaccounts': 1,
      'policy_changed: create clusterrolebindings': 1,
      'policy_changed: create clusterroles': 11,
      'policy_changed: create mutatingwebhookconfigurations': 1,
      'policy_changed: create roles': 3,
      'policy_changed: create validatingwebhookconfigurations': 2,
      'policy_changed: update clusterroles': 2,
      'policy_changed: update mutatingwebhookconfigurations': 1,
      'secret_read: get secrets': 8,
      'secret_read: list secrets': 8,
      'token_issued: create serviceaccounts/token': 7,
      'token_request_failed: create serviceaccounts/token': 1,
      'unclassified: ': 4,
      'unclassified: pods': 2,
    });
  });
});
