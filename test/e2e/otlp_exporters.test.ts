/**
 * The official JavaScript exporters, JSON and protobuf, traces and logs, against the receiver: they deliver
 * without a retry or a warning, come through a 503, and report a partial success.
 */
import { diag, DiagLogLevel, SpanKind, SpanStatusCode } from '@opentelemetry/api';
import { SeverityNumber } from '@opentelemetry/api-logs';
import { OTLPLogExporter as JsonLogExporter } from '@opentelemetry/exporter-logs-otlp-http';
import { OTLPLogExporter as ProtoLogExporter } from '@opentelemetry/exporter-logs-otlp-proto';
import { OTLPTraceExporter as JsonTraceExporter } from '@opentelemetry/exporter-trace-otlp-http';
import { OTLPTraceExporter as ProtoTraceExporter } from '@opentelemetry/exporter-trace-otlp-proto';
import { resourceFromAttributes } from '@opentelemetry/resources';
import {
  LoggerProvider,
  SimpleLogRecordProcessor,
  type LogRecordExporter,
} from '@opentelemetry/sdk-logs';
import {
  BasicTracerProvider,
  SimpleSpanProcessor,
  type SpanExporter,
} from '@opentelemetry/sdk-trace-base';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { OtelLogRow, OtelSpanRow } from '../../collector/receivers/otlp/rows.ts';
import { systemClock } from '../../runtime/clock.ts';
import { GrantscopeError } from '../../runtime/errors.ts';
import { startOtlpServer, type OtlpServer } from '../otlp_server.ts';

let server: OtlpServer;
/** What the exporters had to say: warnings and errors. */
let complaints: string[];

beforeEach(async () => {
  server = await startOtlpServer({ clock: systemClock });
  complaints = [];
  const complain = (...parts: unknown[]): void => {
    complaints.push(parts.map(String).join(' '));
  };
  const quiet = (): void => undefined;
  diag.setLogger(
    { error: complain, warn: complain, info: quiet, debug: quiet, verbose: quiet },
    { logLevel: DiagLogLevel.ALL, suppressOverrideMessage: true },
  );
});
afterEach(async () => {
  diag.disable();
  await server.close();
});

const RESOURCE = resourceFromAttributes({ 'service.name': 'auth', 'service.version': '1.0' });
const START: [number, number] = [Math.floor(Date.now() / 1_000) - 60, 123_456_789];
const START_NS = BigInt(START[0]) * 1_000_000_000n + BigInt(START[1]);

type Gzip = 'gzip' | 'none';
const traceExporters = [
  ['JSON', (url: string, c: Gzip) => new JsonTraceExporter({ url, compression: c as never })],
  ['protobuf', (url: string, c: Gzip) => new ProtoTraceExporter({ url, compression: c as never })],
] as const;
const logExporters = [
  ['JSON', (url: string, c: Gzip) => new JsonLogExporter({ url, compression: c as never })],
  ['protobuf', (url: string, c: Gzip) => new ProtoLogExporter({ url, compression: c as never })],
] as const;

/** Sends one span with an event and a link; resolves when the exporter is done with it. */
async function exportSpan(exporter: SpanExporter, attributes = {}): Promise<void> {
  const provider = new BasicTracerProvider({
    resource: RESOURCE,
    spanProcessors: [new SimpleSpanProcessor(exporter)],
  });
  const tracer = provider.getTracer('official', '2.0');
  const other = {
    context: { traceId: 'f'.repeat(32), spanId: 'e'.repeat(16), traceFlags: 1 },
    attributes: { why: 'batch' },
  };
  const span = tracer.startSpan('POST /token', {
    kind: SpanKind.SERVER,
    startTime: START,
    links: [other],
    attributes: { 'http.response.status_code': 400, ratio: 0.5, tags: ['a', 'b'], ...attributes },
  });
  span.addEvent('checked', { ok: true }, [START[0], START[1] + 1]);
  span.setStatus({ code: SpanStatusCode.ERROR, message: 'refused' });
  span.end([START[0], START[1] + 2_000]);
  await provider.forceFlush();
  await provider.shutdown();
}

async function exportLog(exporter: LogRecordExporter, attributes = {}): Promise<void> {
  const provider = new LoggerProvider({
    resource: RESOURCE,
    processors: [new SimpleLogRecordProcessor({ exporter })],
  });
  provider.getLogger('official', '2.0').emit({
    timestamp: START,
    severityNumber: SeverityNumber.WARN,
    severityText: 'WARN',
    eventName: 'app.event',
    body: { text: 'hello', parts: [1, true] },
    attributes: { 'http.route': '/token', ...attributes },
  });
  await provider.forceFlush();
  await provider.shutdown();
}

function storedSpans(): OtelSpanRow[] {
  return server.ingest.batches.flatMap((b) => b.tables.flatMap((t) => t.rows)) as OtelSpanRow[];
}

function storedLogs(): OtelLogRow[] {
  return server.ingest.batches.flatMap((b) => b.tables.flatMap((t) => t.rows)) as OtelLogRow[];
}

const BUSY = new GrantscopeError('spool_full', 'the spool is full', { retriable: true });

describe.each(traceExporters)('otlp 12: trace exporter, %s', (_name, create) => {
  test.each(['gzip', 'none'] as const)('delivers at the first attempt (%s)', async (coding) => {
    await exportSpan(create(`${server.url}/v1/traces`, coding));
    expect(complaints).toEqual([]);
    expect(server.requestCount()).toBe(1);
    const [row, ...rest] = storedSpans();
    expect(rest).toEqual([]);
    expect(row?.traceId).toMatch(/^[0-9a-f]{32}$/);
    expect(row?.spanId).toMatch(/^[0-9a-f]{16}$/);
    expect(row).toMatchObject({
      timestamp: START_NS,
      duration: 2_000n,
      parentSpanId: '',
      spanName: 'POST /token',
      spanKind: 'Server',
      serviceName: 'auth',
      resourceAttributes: { 'service.name': 'auth', 'service.version': '1.0' },
      scopeName: 'official',
      scopeVersion: '2.0',
      spanAttributes: { 'http.response.status_code': '400', ratio: '0.5', tags: '["a","b"]' },
      statusCode: 'Error',
      statusMessage: 'refused',
      events: [{ timestamp: START_NS + 1n, name: 'checked', attributes: { ok: 'true' } }],
      links: [{ traceId: 'f'.repeat(32), spanId: 'e'.repeat(16), attributes: { why: 'batch' } }],
    });
  });

  test('comes through a 503 without a warning', async () => {
    server.ingest.outcomes.push(BUSY);
    await exportSpan(create(`${server.url}/v1/traces`, 'none'));
    expect(complaints).toEqual([]);
    expect(server.requestCount()).toBe(2);
    expect(storedSpans()).toHaveLength(1);
  });

  test('reports a partial success', async () => {
    server.ingest.outcomes.push(() => ({
      accepted: 0,
      rejected: 1,
      errors: [{ index: 0, code: 'invalid_field', message: 'oauth.event.kind: unknown' }],
      repeated: false,
    }));
    await exportSpan(create(`${server.url}/v1/traces`, 'none'), { 'oauth.event.kind': 'nonsense' });
    expect(server.requestCount()).toBe(1);
    expect(complaints).toHaveLength(1);
    expect(complaints[0]).toContain('Partial Success');
    expect(complaints[0]).toMatch(/"rejectedSpans":"?1"?/);
    expect(complaints[0]).toContain('span 0: invalid_field: oauth.event.kind: unknown');
  });
});

describe.each(logExporters)('otlp 12: log exporter, %s', (_name, create) => {
  test.each(['gzip', 'none'] as const)('delivers at the first attempt (%s)', async (coding) => {
    await exportLog(create(`${server.url}/v1/logs`, coding));
    expect(complaints).toEqual([]);
    expect(server.requestCount()).toBe(1);
    expect(storedLogs()).toEqual([
      {
        timestamp: START_NS,
        traceId: '',
        spanId: '',
        traceFlags: 0,
        severityText: 'WARN',
        severityNumber: 13,
        serviceName: 'auth',
        body: '{"text":"hello","parts":[1,true]}',
        resourceSchemaUrl: '',
        resourceAttributes: { 'service.name': 'auth', 'service.version': '1.0' },
        scopeSchemaUrl: '',
        scopeName: 'official',
        scopeVersion: '2.0',
        scopeAttributes: {},
        logAttributes: { 'http.route': '/token' },
        eventName: 'app.event',
      },
    ]);
  });

  test('comes through a 503 without a warning', async () => {
    server.ingest.outcomes.push(BUSY);
    await exportLog(create(`${server.url}/v1/logs`, 'none'));
    expect(complaints).toEqual([]);
    expect(server.requestCount()).toBe(2);
    expect(storedLogs()).toHaveLength(1);
  });

  test('reports a partial success', async () => {
    await exportLog(create(`${server.url}/v1/logs`, 'none'), { 'grantscope.source': 'nosuch' });
    expect(server.requestCount()).toBe(1);
    expect(complaints).toHaveLength(1);
    expect(complaints[0]).toMatch(/"rejectedLogRecords":"?1"?/);
    expect(complaints[0]).toContain('known: both, jsonly, lines, otlp');
  });
});
