/**
 * What other instrumentations write leaves without secrets, and what is none stays readable. Canaries are
 * put together at run time, so that no scanner finds them in this file.
 */
import { droppedUrlParts } from '../../model/dropped_url_parts.ts';
import { SpanStatusCode, createTraceState, ROOT_CONTEXT, trace } from '@opentelemetry/api';
import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import { startTelemetry } from '../../instrumentation/index.ts';
import { tracing } from '../../instrumentation/otel_sdk.ts';
import { redactAttributes } from '../../instrumentation/redacting_span_processor.ts';
import {
  TEXT_LENGTH_MAX,
  scrubName,
  scrubText,
  withoutQuery,
} from '../../instrumentation/scrub.ts';
import { TEST_KEY } from '../harness.ts';

const canary = ['c4n4ry', 'v4lu3', '77'].join('-');
const jwt = ['eyJhbGciOiJIUzI1NiJ9', 'eyJzdWIiOiJhIn0', 'c2lnbmF0dXJl'].join('.');

describe('scrubText', () => {
  it.each([
    [`GET /cb?code=${canary}&tab=2`, 'GET /cb?code=[redacted]&tab=2'],
    [`retry with access_token=${canary}`, 'retry with access_token=[redacted]'],
    [`refresh_token%3D${canary}`, 'refresh_token%3D[redacted]'],
    [`{"client_secret": "${canary}", "n": 1}`, '{"client_secret": "[redacted]", "n": 1}'],
    [`{'password':'${canary}'}`, `{'password':"[redacted]"}`],
    [`password: ${canary}`, 'password: [redacted]'],
    [`Authorization: Bearer ${canary}`, 'Authorization: Bearer [redacted]'],
    [`sent Basic ${Buffer.from(canary).toString('base64')}`, 'sent Basic [redacted]'],
    [`token ${jwt} is bad`, 'token [redacted] is bad'],
    [`mongodb://root:${canary}@db/x`, 'mongodb://[redacted]@db/x'],
    [`key ${['ghp', 'a'.repeat(36)].join('_')} leaked`, 'key [redacted] leaked'],
    [`-----BEGIN PRIVATE KEY-----\n${canary}\n-----END PRIVATE KEY-----`, '[redacted]'],
  ])('%j', (text, expected) => {
    expect(scrubText(text)).toBe(expected);
  });

  it.each([
    'refresh token already used',
    'error code: 12345',
    'state: pending',
    'SELECT * FROM orders WHERE id=17 AND note="x"',
    'HTTP 404 at 10:20:30',
    '3f0c8a52-7f3c-4d51-9b6a-0c2d5e8f1a77',
    '4bf92f3577b34da6a3ce929d0e0e4736',
    'Mozilla/5.0 (X11; Linux x86_64) Chrome/140.0',
    '2001:db8::1',
  ])('leaves %j', (text) => {
    expect(scrubText(text)).toBe(text);
  });

  it('cuts what is too long', () => {
    expect(scrubText('a'.repeat(TEXT_LENGTH_MAX + 1))).toBe(`${'a'.repeat(TEXT_LENGTH_MAX)}...`);
  });

  it('finds a parameter of a secret name wherever it stands', () => {
    const noise = fc.stringMatching(/^[a-z0-9 ,;()]{0,40}$/);
    const name = fc.constantFrom('code', 'client_secret', 'Code_Verifier', 'x-api-key', 'state');
    fc.assert(
      fc.property(noise, name, noise, (before, key, after) => {
        expect(scrubText(`${before} ${key}=${canary} ${after}`)).not.toContain(canary);
        expect(scrubText(`${before} {"${key}":"${canary}"} ${after}`)).not.toContain(canary);
      }),
    );
  });
});

describe('scrubName', () => {
  it('keeps scopes with a colon, and drops credentials all the same', () => {
    expect(scrubName('password:change')).toBe('password:change');
    expect(scrubName('https://api.example/secret:read')).toBe('https://api.example/secret:read');
    expect(scrubName(jwt)).toBe('[redacted]');
    expect(scrubName(`x?code=${canary}`)).toBe('x?code=[redacted]');
  });
});

describe('URLs', () => {
  it.each([
    ['https://a.example/p?x=1#f', 'https://a.example/p', ['query', 'fragment']],
    ['https://good.example@evil.example/', 'https://[redacted]@evil.example/', ['userinfo']],
    ['https://a.example/#frag?not-a-query', 'https://a.example/', ['fragment']],
    ['com.app:/cb', 'com.app:/cb', []],
    ['https:\\\\evil.example', 'https:\\\\evil.example', []],
  ])('%j', (url, kept, dropped) => {
    expect(withoutQuery(url)).toBe(kept);
    expect(droppedUrlParts(url)).toEqual(dropped);
  });
});

describe('redactAttributes', () => {
  it('goes by key, then by value', () => {
    expect(
      redactAttributes({
        'http.request.header.authorization': [canary],
        'http.request.header.cookie': canary,
        'http.request.header.x-api-key': canary,
        'url.full': `https://u:${canary}@api.example/p?code=${canary}#${canary}`,
        'url.query': `code=${canary}`,
        'http.target': `/cb?state=${canary}`,
        'db.statement': `UPDATE t SET token='${canary}'`,
        'app.session_id': canary,
        'app.note': [`code=${canary}`, 'fine'],
        'http.response.status_code': 200,
        'error.code': 'E_LIMIT',
        'http.route': '/orders/:id',
        secret: true,
      }),
    ).toEqual({
      'http.request.header.authorization': '[redacted]',
      'http.request.header.cookie': '[redacted]',
      'http.request.header.x-api-key': '[redacted]',
      'url.full': 'https://[redacted]@api.example/p',
      'url.query': '[redacted]',
      'http.target': '/cb',
      'db.statement': 'UPDATE t SET token=[redacted]',
      'app.session_id': '[redacted]',
      'app.note': ['code=[redacted]', 'fine'],
      'http.response.status_code': 200,
      'error.code': 'E_LIMIT',
      'http.route': '/orders/:id',
      secret: '[redacted]',
    });
  });

  it('redacts keys that hold a secret themselves', () => {
    expect(JSON.stringify(redactAttributes({ [`x ${jwt}`]: 1 }))).not.toContain(jwt);
  });
});

describe('a span of another instrumentation', () => {
  const exporter = new tracing.InMemorySpanExporter();
  const telemetry = startTelemetry({
    serviceName: 'host',
    endpoint: '',
    hashKey: TEST_KEY,
    exporter,
  });
  afterAll(() => telemetry.shutdown());

  it('leaves without secrets in name, attributes, events, links, status and trace state', async () => {
    const linked = {
      traceId: '0af7651916cd43dd8448eb211c80319c',
      spanId: 'b7ad6b7169203331',
      traceFlags: 1,
      traceState: createTraceState(`vendor=${canary}`),
    };
    const span = telemetry.tracer.startSpan(
      `GET /cb?code=${canary}`,
      {
        attributes: { 'http.url': `http://x/cb?code=${canary}` },
        links: [{ context: linked, attributes: { access_token: canary } }],
      },
      trace.setSpanContext(ROOT_CONTEXT, linked),
    );
    span.addEvent(`sent code=${canary}`, { password: canary, tries: 3 });
    span.recordException(new Error(`failed with client_secret=${canary}`));
    span.setStatus({ code: SpanStatusCode.ERROR, message: `token=${canary}` });
    span.end();
    await telemetry.flush();
    const [told] = exporter.getFinishedSpans();
    expect(told?.name).toBe('GET /cb');
    expect(told?.attributes).toEqual({ 'http.url': 'http://x/cb' });
    expect(told?.status).toEqual({ code: SpanStatusCode.ERROR, message: 'token=[redacted]' });
    expect(told?.events[0]).toMatchObject({
      name: 'sent code=[redacted]',
      attributes: { password: '[redacted]', tries: 3 },
    });
    expect(told?.links[0]?.attributes).toEqual({ access_token: '[redacted]' });
    expect(told?.links[0]?.context.traceState).toBeUndefined();
    expect(told?.spanContext().traceState).toBeUndefined();
    expect(told?.parentSpanContext?.traceState).toBeUndefined();
    const { name, attributes, events, links, status } = told!;
    expect(JSON.stringify({ name, attributes, events, links, status })).not.toContain(canary);
    // What exporters read beside the texts is the span's own.
    expect(told?.duration).toHaveLength(2);
    expect(told?.resource.attributes['service.name']).toBe('host');
  });
});
