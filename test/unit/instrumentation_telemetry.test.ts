/**
 * Recorder and transport: what an event becomes, and that a collector which is away, slow or refusing
 * never reaches the host. The collector here is a real HTTP server on loopback.
 */
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { gunzipSync } from 'node:zlib';
import { AsyncLocalStorage } from 'node:async_hooks';
import {
  ROOT_CONTEXT,
  SpanKind,
  SpanStatusCode,
  context,
  trace,
  type Context,
} from '@opentelemetry/api';
import { UnsecuredJWT } from 'jose';
import { afterEach, describe, expect, it } from 'vitest';
import {
  SPAN_QUEUE_LENGTH_MAX,
  startTelemetry,
  type RecordedAuthEvent,
  type Telemetry,
  type TelemetryOptions,
} from '../../instrumentation/index.ts';
import { LIST_LENGTH_MAX } from '../../instrumentation/event_attributes.ts';
import { core, tracing } from '../../instrumentation/otel_sdk.ts';
import { KeyRing } from '../../runtime/keyring.ts';
import { TEST_KEY } from '../harness.ts';

const keyRing = KeyRing.fromKey(TEST_KEY);
const open: Telemetry[] = [];
const servers: Server[] = [];

afterEach(async () => {
  await Promise.all(open.splice(0).map((telemetry) => telemetry.shutdown()));
  for (const server of servers.splice(0)) {
    server.closeAllConnections();
    await new Promise<void>((resolve) => server.close(() => resolve()));
  }
});

function start(options: Partial<TelemetryOptions> = {}): Telemetry {
  const telemetry = startTelemetry({
    serviceName: 'svc',
    endpoint: 'http://127.0.0.1:1',
    hashKey: TEST_KEY,
    ...options,
  });
  open.push(telemetry);
  return telemetry;
}

function inMemory(options: Partial<TelemetryOptions> = {}): {
  telemetry: Telemetry;
  told: (event: RecordedAuthEvent) => Promise<tracing.ReadableSpan>;
  spans: () => Promise<tracing.ReadableSpan[]>;
} {
  const exporter = new tracing.InMemorySpanExporter();
  const telemetry = start({ ...options, exporter });
  const spans = async (): Promise<tracing.ReadableSpan[]> => {
    await telemetry.flush();
    const finished = [...exporter.getFinishedSpans()];
    exporter.reset();
    return finished;
  };
  return {
    telemetry,
    spans,
    told: async (event) => {
      telemetry.recorder.record(event);
      const [span] = await spans();
      return span!;
    },
  };
}

describe('AuthRecorder', () => {
  it('writes every field of an event, with references in place of what it names', async () => {
    const { told } = inMemory({ instanceId: 'pod-7' });
    const span = await told({
      kind: 'token_exchanged',
      outcome: 'success',
      phase: 'single',
      raw_type: 'exchange.done',
      error: { code: 'E1', oauth_error: 'invalid_grant', detail: 'password: hunter2hunter2' },
      grant_type: 'urn:ietf:params:oauth:grant-type:token-exchange',
      response_type: 'code',
      endpoint: 'token',
      client: { id: 'c1', name: 'Client', auth_method: 'private_key_jwt' },
      requested_client_id: 'c2',
      subject: { id: 'bob', type: 'user' },
      actor: { id: 'svc-a', type: 'service' },
      issuer: 'https://as.example',
      audience: ['a1', 'a2'],
      resource: ['https://api.example/v1?x=1'],
      scopes_requested: ['password:change'],
      scopes_granted: ['read'],
      redirect_uri: 'https://c.example/cb?x=1',
      pkce: 'S256',
      binding: 'dpop',
      binding_thumbprint: 'thumb',
      session: { id: 'session-1' },
      grant: { ref: keyRing.ref('grant', 'g') },
      net: { client_ip: '192.0.2.1', ip_role: 'proxy', user_agent: 'curl/8' },
      http: { method: 'POST', route: '/token?x=1', status: 200, duration_ms: 1.5 },
      policy_decision: 'allow',
      acr: 'urn:mace:silver',
      amr: ['pwd', 'otp'],
      request_id: 'r-1',
      ext: { note: 'fine', skipped: undefined },
      client_metadata: { redirect_uris: ['https://a/cb', 'https://b/cb?q=1'], scope: 'read' },
      tokens: [
        { role: 'subject', type: 'access', value: 'subject-token-raw' },
        {
          role: 'issued',
          type: 'refresh',
          jti: 'jti-1',
          family: { id: 'family-1' },
          parent: { value: 'parent-raw' },
          counter: 3,
          issued_at: 100,
          expires_at: 200,
          kid: 'k1',
          alg: 'RS256',
        },
      ],
    });
    const { 'oauth.event.id': id, ...attributes } = span.attributes;
    expect(id).toMatch(/^[0-9a-f-]{36}$/);
    expect(attributes).toEqual({
      'oauth.event.kind': 'token_exchanged',
      'oauth.event.outcome': 'success',
      'oauth.event.phase': 'single',
      'oauth.event.raw_type': 'exchange.done',
      'oauth.error.code': 'E1',
      'oauth.error': 'invalid_grant',
      'oauth.error.description': 'password: [redacted]',
      'oauth.grant_type': 'urn:ietf:params:oauth:grant-type:token-exchange',
      'oauth.response_type': 'code',
      'oauth.endpoint': 'token',
      'oauth.client_id': 'c1',
      'oauth.client_name': 'Client',
      'oauth.client_auth_method': 'private_key_jwt',
      'oauth.requested_client_id': 'c2',
      'oauth.subject.ref': keyRing.ref('subject', 'bob'),
      'oauth.subject.type': 'user',
      'oauth.actor.ref': keyRing.ref('subject', 'svc-a'),
      'oauth.actor.type': 'service',
      'oauth.issuer': 'https://as.example',
      'oauth.audience': ['a1', 'a2'],
      'oauth.resource': ['https://api.example/v1'],
      'oauth.scopes_requested': ['password:change'],
      'oauth.scopes_granted': ['read'],
      'oauth.redirect_uri': 'https://c.example/cb',
      'oauth.ext.redirect_uri_had': 'query',
      'oauth.pkce': 'S256',
      'oauth.binding': 'dpop',
      'oauth.binding_thumbprint': 'thumb',
      'oauth.session.ref': keyRing.ref('session', 'session-1'),
      'oauth.grant.ref': keyRing.ref('grant', 'g'),
      'client.address': '192.0.2.1',
      'oauth.client_ip_role': 'proxy',
      'user_agent.original': 'curl/8',
      'http.request.method': 'POST',
      'http.route': '/token',
      'http.response.status_code': 200,
      'oauth.duration_ms': 1.5,
      'oauth.policy.decision': 'allow',
      'oauth.acr': 'urn:mace:silver',
      'oauth.amr': ['pwd', 'otp'],
      'oauth.request_id': 'r-1',
      'oauth.redaction.key_id': keyRing.currentId,
      'oauth.ext.note': 'fine',
      'oauth.client.metadata.redirect_uris': 'https://a/cb https://b/cb',
      'oauth.client.metadata.scope': 'read',
      'oauth.token.subject.access.ref': keyRing.ref('token', 'subject-token-raw'),
      'oauth.token.subject.access.ref_kind': 'hmac',
      'oauth.token.issued.refresh.ref': keyRing.ref('token', 'jti-1'),
      'oauth.token.issued.refresh.ref_kind': 'jti',
      'oauth.token.issued.refresh.family_ref': keyRing.ref('grant', 'family-1'),
      'oauth.token.issued.refresh.parent_ref': keyRing.ref('token', 'parent-raw'),
      'oauth.token.issued.refresh.counter': 3,
      'oauth.token.issued.refresh.issued_at': 100,
      'oauth.token.issued.refresh.expires_at': 200,
      'oauth.token.issued.refresh.kid': 'k1',
      'oauth.token.issued.refresh.alg': 'RS256',
    });
    expect(span.name).toBe('oauth.token_exchanged');
    expect(span.kind).toBe(SpanKind.SERVER);
    expect(span.status.code).toBe(SpanStatusCode.UNSET);
    expect(span.resource.attributes).toMatchObject({
      'service.name': 'svc',
      'service.instance.id': 'pod-7',
    });
  });

  it('reads times and algorithm of a JWT, and leaves out what is not known', async () => {
    const { told } = inMemory();
    const value = new UnsecuredJWT({ jti: 'j', iat: 10, exp: 70 }).encode();
    const span = await told({
      kind: 'token_rejected',
      outcome: 'failure',
      tokens: [
        { role: 'presented', type: 'access', value },
        // No place for a second of one role and type; no reference for nothing.
        { role: 'presented', type: 'access', value: 'second' },
        { role: 'presented', type: 'refresh', value: undefined },
        { role: 'presented', type: 'id', value: '' },
      ],
      scopes_granted: Array.from({ length: LIST_LENGTH_MAX + 1 }, (_, i) => `s${i}`),
    });
    const { 'oauth.scopes_granted': scopes, ...rest } = span.attributes;
    expect(rest).toEqual({
      'oauth.event.id': expect.any(String) as string,
      'oauth.event.kind': 'token_rejected',
      'oauth.event.outcome': 'failure',
      'oauth.redaction.key_id': keyRing.currentId,
      'oauth.token.presented.access.ref': keyRing.ref('token', 'j'),
      'oauth.token.presented.access.ref_kind': 'jti',
      'oauth.token.presented.access.alg': 'none',
      'oauth.token.presented.access.issued_at': 10,
      'oauth.token.presented.access.expires_at': 70,
    });
    expect(scopes).toHaveLength(LIST_LENGTH_MAX);
    expect(span.kind).toBe(SpanKind.INTERNAL);
    expect(span.status.code).toBe(SpanStatusCode.ERROR);
  });

  it('adds an event to the active span when asked, and else makes a span', async () => {
    const { telemetry, spans } = inMemory();
    telemetry.recorder.record({ kind: 'login' }, { asSpanEvent: true });
    expect((await spans()).map((span) => span.name)).toEqual(['oauth.login']);

    const disable = useContexts();
    const host = telemetry.tracer.startSpan('host work');
    context.with(trace.setSpan(ROOT_CONTEXT, host), () => {
      telemetry.recorder.record({ kind: 'login', subject: { id: 'bob' } }, { asSpanEvent: true });
      telemetry.recorder.record({ kind: 'mfa_challenged' });
    });
    host.end();
    disable();
    const [child, parent] = await spans();
    expect(child?.parentSpanContext?.spanId).toBe(host.spanContext().spanId);
    expect(parent?.events.map((event) => event.name)).toEqual(['oauth.auth_event']);
    expect(parent?.events[0]?.attributes).toMatchObject({
      'oauth.event.kind': 'login',
      'oauth.subject.ref': keyRing.ref('subject', 'bob'),
    });
  });

  it('keeps an event open until its end, which counts once', async () => {
    const { telemetry, spans } = inMemory();
    const event = telemetry.recorder.begin('api_accessed', { startTimeMs: Date.now() - 50 });
    expect(event.traceparent).toMatch(/^00-[0-9a-f]{32}-[0-9a-f]{16}-01$/);
    expect(await spans()).toEqual([]);
    event.end({ kind: 'api_accessed', outcome: 'success' });
    event.end({ kind: 'api_accessed', outcome: 'failure' });
    const ended = await spans();
    expect(ended.map((span) => span.attributes['oauth.event.outcome'])).toEqual(['success']);
    expect(core.hrTimeToMilliseconds(ended[0]!.duration)).toBeGreaterThanOrEqual(49);
  });

  it('counts what cannot be recorded and never throws', async () => {
    const { telemetry, spans } = inMemory();
    const hostile = {
      kind: 'login',
      get client(): never {
        throw new Error('a getter of the host');
      },
    } as unknown as RecordedAuthEvent;
    expect(telemetry.recorder.record(hostile)).toBeUndefined();
    expect(telemetry.recorder.failures).toBe(1);
    expect(await spans()).toEqual([]);
  });
});

describe('startTelemetry', () => {
  it.each([
    [{ hashKey: 'short' }, /telemetry: hashKey: must be at least 32 characters/],
    [{ endpoint: 'ftp://x' }, /telemetry: endpoint: must be an http or https URL/],
    [{ endpoint: 'nonsense' }, /telemetry: endpoint/],
    [{ serviceName: '' }, /telemetry: serviceName/],
  ])('refuses %j', (options, message) => {
    expect(() => start(options)).toThrow(message);
  });

  it('sends to the collector, with the given headers', async () => {
    const bodies: string[] = [];
    const paths: (string | undefined)[] = [];
    const endpoint = await listen((body, url, headers) => {
      bodies.push(body);
      paths.push(url, headers['x-tenant'] as string);
      return 200;
    });
    const telemetry = start({ endpoint: `${endpoint}/`, headers: { 'x-tenant': 't1' } });
    telemetry.recorder.record({ kind: 'login', client: { id: 'c1' } });
    await telemetry.flush();
    expect(paths).toEqual(['/v1/traces', 't1']);
    const sent = JSON.parse(bodies[0]!) as {
      resourceSpans: { scopeSpans: { spans: { name: string }[] }[] }[];
    };
    expect(sent.resourceSpans[0]?.scopeSpans[0]?.spans[0]?.name).toBe('oauth.login');
    expect(telemetry.statistics).toEqual({
      recorded: 1,
      exported: 1,
      failed: 0,
      dropped: 0,
      pending: 0,
    });
  });

  it('goes on when the collector refuses, and says so once until it recovers', async () => {
    let status = 400;
    const endpoint = await listen(() => status);
    const failures: string[] = [];
    const telemetry = start({ endpoint, onExportFailure: (message) => failures.push(message) });
    const send = async (): Promise<void> => {
      telemetry.recorder.record({ kind: 'login' });
      await telemetry.flush();
    };
    await send();
    await send();
    expect(failures).toHaveLength(1);
    expect(telemetry.statistics).toMatchObject({ recorded: 2, failed: 2, exported: 0 });
    status = 200;
    await send();
    expect(telemetry.statistics).toMatchObject({ recorded: 3, failed: 2, exported: 1 });
    status = 400;
    await send();
    expect(failures).toHaveLength(2);
  });

  it('drops beyond the queue, and the books balance', async () => {
    // An exporter that does not come back keeps everything waiting.
    const waiting: (() => void)[] = [];
    const exporter: tracing.SpanExporter = {
      export: (_spans, done) => {
        waiting.push(() => done({ code: core.ExportResultCode.SUCCESS }));
      },
      shutdown: () => Promise.resolve(),
    };
    const telemetry = start({ exporter });
    const extra = 25;
    for (let i = 0; i < SPAN_QUEUE_LENGTH_MAX + extra; i += 1) {
      telemetry.recorder.record({ kind: 'login' });
    }
    expect(telemetry.statistics).toEqual({
      recorded: SPAN_QUEUE_LENGTH_MAX + extra,
      exported: 0,
      failed: 0,
      dropped: extra,
      pending: SPAN_QUEUE_LENGTH_MAX,
    });
    const flushed = telemetry.flush();
    waiting.splice(0).forEach((release) => release());
    await flushed;
    waiting.splice(0).forEach((release) => release());
    expect(telemetry.statistics).toEqual({
      recorded: SPAN_QUEUE_LENGTH_MAX + extra,
      exported: SPAN_QUEUE_LENGTH_MAX,
      failed: 0,
      dropped: extra,
      pending: 0,
    });
  });

  it('keeps several services of one process apart, and registers none of them', async () => {
    const one = inMemory({ serviceName: 'one' });
    const two = inMemory({ serviceName: 'two' });
    const first = await one.told({ kind: 'login' });
    const second = await two.told({ kind: 'login' });
    expect(first.resource.attributes['service.name']).toBe('one');
    expect(second.resource.attributes['service.name']).toBe('two');
    trace.getTracer('anyone').startSpan('not ours').end();
    expect(await one.spans()).toEqual([]);
  });

  it('registered globally, exports what others trace, redacted and sampled', async () => {
    const { spans } = inMemory({ registerGlobally: true });
    try {
      const unsampled = trace.setSpanContext(ROOT_CONTEXT, {
        traceId: '0af7651916cd43dd8448eb211c80319c',
        spanId: 'b7ad6b7169203331',
        traceFlags: 0,
      });
      trace.getTracer('http').startSpan('GET /x?code=abcdefgh', {}, unsampled).end();
      expect((await spans()).map((span) => span.name)).toEqual(['GET /x']);
    } finally {
      trace.disable();
      context.disable();
    }
  });
});

/** A context manager of Node's own; returns what takes it away again. */
function useContexts(): () => void {
  const storage = new AsyncLocalStorage<Context>();
  context.setGlobalContextManager({
    active: () => storage.getStore() ?? ROOT_CONTEXT,
    with: (ctx, fn, thisArg, ...args) => storage.run(ctx, () => fn.apply(thisArg as never, args)),
    bind: (_ctx, target) => target,
    enable() {
      return this;
    },
    disable() {
      return this;
    },
  });
  return () => context.disable();
}

async function listen(
  answer: (
    body: string,
    url: string | undefined,
    headers: NodeJS.Dict<string | string[]>,
  ) => number,
): Promise<string> {
  const server = createServer((req, res) => {
    const chunks: Buffer[] = [];
    req.on('data', (chunk: Buffer) => chunks.push(chunk));
    req.on('end', () => {
      const raw = Buffer.concat(chunks);
      const body = req.headers['content-encoding'] === 'gzip' ? gunzipSync(raw) : raw;
      res.statusCode = answer(body.toString('utf8'), req.url, req.headers);
      res.setHeader('content-type', 'application/json');
      res.end('{}');
    });
  });
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}
