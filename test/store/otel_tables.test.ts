/** Rows of spans and log records go into the real engine and come back as they were. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  otelLogsTable,
  otelTracesTable,
  type OtelLogRow,
  type OtelSpanRow,
} from '../../collector/receivers/otlp/rows.ts';
import { BlockBuilder } from '../../collector/spool/native_block.ts';
import { param, sql } from '../../model/sql.ts';
import type { TableSpec } from '../../model/table_spec.ts';
import type { Store } from '../../store/client.ts';
import { toJsonRow } from '../../store/insert.ts';
import { openTestStore } from '../harness.ts';

let store: Store;
let dataDir: string;
let close: () => Promise<void>;

beforeAll(async () => {
  ({ store, dataDir, close } = await openTestStore());
});
afterAll(() => close());

const TIME = 1_700_000_000_123_456_789n;
const TRACE_ID = '0af7651916cd43dd8448eb211c80319c';

const spanRow: OtelSpanRow = {
  timestamp: TIME,
  traceId: TRACE_ID,
  spanId: 'b7ad6b7169203331',
  parentSpanId: '00f067aa0ba902b7',
  traceState: 'vendor=1',
  spanName: 'POST /token',
  spanKind: 'Server',
  serviceName: 'auth',
  resourceAttributes: { 'service.name': 'auth', 'host.name': 'as-1' },
  scopeName: 'scope',
  scopeVersion: '1.2.3',
  spanAttributes: { 'oauth.client_id': 'web', "it's": 'a \\ "quote"\n\t' },
  duration: 18_446_744_073_709_551_615n,
  statusCode: 'Error',
  statusMessage: 'naïve 🦊',
  events: [
    { timestamp: TIME + 1n, name: 'first', attributes: { a: '1' } },
    { timestamp: TIME + 2n, name: 'second', attributes: {} },
  ],
  links: [
    { traceId: 'f'.repeat(32), spanId: 'e'.repeat(16), traceState: '', attributes: { l: 'x' } },
  ],
};

const logRow: OtelLogRow = {
  timestamp: TIME,
  traceId: TRACE_ID,
  spanId: 'b7ad6b7169203331',
  traceFlags: 1,
  severityText: 'WARN',
  severityNumber: 13,
  serviceName: 'auth',
  body: 'a body',
  resourceSchemaUrl: 'https://opentelemetry.io/schemas/1.27.0',
  resourceAttributes: { 'service.name': 'auth' },
  scopeSchemaUrl: '',
  scopeName: 'scope',
  scopeVersion: '1',
  scopeAttributes: { s: '1' },
  logAttributes: { 'event.name': 'x' },
  eventName: 'x',
};

async function insert<Row>(spec: TableSpec<Row>, row: Row, token: string): Promise<void> {
  await store.insertRows(spec.table, [toJsonRow(spec, row)], token);
}

async function columnsOf(table: string): Promise<{ name: string; type: string }[]> {
  return store.query<{ name: string; type: string }>(
    sql`SELECT name, type FROM system.columns WHERE database = 'grantscope' AND table = ${param.string(table)} ORDER BY position`,
  );
}

describe('grantscope.otel_traces', () => {
  test('has the columns of the spec, with their types, in their order', async () => {
    const expected = otelTracesTable.columns.map((c) => ({ name: c.name, type: c.type }));
    expect(await columnsOf('otel_traces')).toEqual(expected);
  });

  test('a row comes back as it went in; a repeat of the insert adds nothing', async () => {
    await insert(otelTracesTable, spanRow, 'segment-1');
    await insert(otelTracesTable, spanRow, 'segment-1');
    const rows = await store.query(
      sql`SELECT * REPLACE (toString(Duration) AS Duration), toString(toUnixTimestamp64Nano(Timestamp)) AS ns FROM grantscope.otel_traces`,
    );
    expect(rows).toEqual([
      {
        Timestamp: '2023-11-14 22:13:20.123456789',
        TraceId: TRACE_ID,
        SpanId: 'b7ad6b7169203331',
        ParentSpanId: '00f067aa0ba902b7',
        TraceState: 'vendor=1',
        SpanName: 'POST /token',
        SpanKind: 'Server',
        ServiceName: 'auth',
        ResourceAttributes: { 'service.name': 'auth', 'host.name': 'as-1' },
        ScopeName: 'scope',
        ScopeVersion: '1.2.3',
        SpanAttributes: { 'oauth.client_id': 'web', "it's": 'a \\ "quote"\n\t' },
        Duration: '18446744073709551615',
        StatusCode: 'Error',
        StatusMessage: 'naïve 🦊',
        'Events.Timestamp': ['2023-11-14 22:13:20.123456790', '2023-11-14 22:13:20.123456791'],
        'Events.Name': ['first', 'second'],
        'Events.Attributes': [{ a: '1' }, {}],
        'Links.TraceId': ['f'.repeat(32)],
        'Links.SpanId': ['e'.repeat(16)],
        'Links.TraceState': [''],
        'Links.Attributes': [{ l: 'x' }],
        ns: TIME.toString(),
      },
    ]);
  });

  test('the look-up by trace id knows when the trace was, once', async () => {
    const rows = await store.query(
      sql`SELECT TraceId, Start, End FROM grantscope.otel_traces_trace_id_ts`,
    );
    expect(rows).toEqual([
      { TraceId: TRACE_ID, Start: '2023-11-14 22:13:20', End: '2023-11-14 22:13:20' },
    ]);
  });

  test("the query of Grafana's plugin for one trace finds it", async () => {
    const rows = await store.query(
      sql`WITH ${param.string(TRACE_ID)} AS trace_id,
        (SELECT min(Start) FROM grantscope.otel_traces_trace_id_ts WHERE TraceId = trace_id) AS trace_start,
        (SELECT max(End) + 1 FROM grantscope.otel_traces_trace_id_ts WHERE TraceId = trace_id) AS trace_end
        SELECT SpanId AS spanID, arrayMap(key -> map('key', key, 'value', SpanAttributes[key]), mapKeys(SpanAttributes)) AS tags
        FROM grantscope.otel_traces
        WHERE TraceId = trace_id AND Timestamp >= trace_start AND Timestamp <= trace_end`,
    );
    expect(rows).toEqual([
      {
        spanID: 'b7ad6b7169203331',
        tags: [
          { key: 'oauth.client_id', value: 'web' },
          { key: "it's", value: 'a \\ "quote"\n\t' },
        ],
      },
    ]);
  });
});

describe('grantscope.otel_logs', () => {
  test('has the columns of the spec and TimestampTime, which follows from Timestamp', async () => {
    const expected: { name: string; type: string }[] = otelLogsTable.columns.map((c) => ({
      name: c.name,
      type: c.type,
    }));
    expected.splice(1, 0, { name: 'TimestampTime', type: "DateTime('UTC')" });
    expect(await columnsOf('otel_logs')).toEqual(expected);
  });

  test('a row comes back as it went in; a repeat of the insert adds nothing', async () => {
    await insert(otelLogsTable, logRow, 'segment-2');
    await insert(otelLogsTable, logRow, 'segment-2');
    expect(await store.query(sql`SELECT *, TimestampTime FROM grantscope.otel_logs`)).toEqual([
      {
        Timestamp: '2023-11-14 22:13:20.123456789',
        TimestampTime: '2023-11-14 22:13:20',
        TraceId: TRACE_ID,
        SpanId: 'b7ad6b7169203331',
        TraceFlags: 1,
        SeverityText: 'WARN',
        SeverityNumber: 13,
        ServiceName: 'auth',
        Body: 'a body',
        ResourceSchemaUrl: 'https://opentelemetry.io/schemas/1.27.0',
        ResourceAttributes: { 'service.name': 'auth' },
        ScopeSchemaUrl: '',
        ScopeName: 'scope',
        ScopeVersion: '1',
        ScopeAttributes: { s: '1' },
        LogAttributes: { 'event.name': 'x' },
        EventName: 'x',
      },
    ]);
  });
});

/** The collector's own way into the tables: a Native block in a file. */
async function insertSegment<Row>(spec: TableSpec<Row>, rows: readonly Row[]): Promise<void> {
  const builder = new BlockBuilder(spec);
  builder.append(rows);
  const file = join(dataDir, `${spec.table}.native`);
  writeFileSync(file, builder.take());
  const columns = spec.columns.map((c) => c.name);
  const segment = { table: spec.table, columns, file, deduplicationToken: `native-${spec.table}` };
  await store.insertNative(segment);
  await store.insertNative(segment);
}

describe('by a segment, as the collector writes it', () => {
  const later = 2_000_000_000n;

  test('spans arrive as by the other way, once', async () => {
    const bare = { ...spanRow, resourceAttributes: {}, spanAttributes: {}, events: [], links: [] };
    await insertSegment(otelTracesTable, [
      { ...spanRow, timestamp: TIME + later },
      { ...bare, timestamp: TIME + 2n * later, spanName: 'bare', duration: 0n },
    ]);
    const rows = await store.query<Record<string, unknown>>(
      sql`SELECT * REPLACE (toString(Duration) AS Duration) FROM grantscope.otel_traces ORDER BY Timestamp`,
    );
    expect(rows).toHaveLength(3);
    expect(rows[1]).toEqual({ ...rows[0], Timestamp: '2023-11-14 22:13:22.123456789' });
    expect(rows[2]).toEqual({
      ...rows[0],
      Timestamp: '2023-11-14 22:13:24.123456789',
      SpanName: 'bare',
      Duration: '0',
      ResourceAttributes: {},
      SpanAttributes: {},
      'Events.Timestamp': [],
      'Events.Name': [],
      'Events.Attributes': [],
      'Links.TraceId': [],
      'Links.SpanId': [],
      'Links.TraceState': [],
      'Links.Attributes': [],
    });
  });

  test('log records arrive as by the other way, once', async () => {
    await insertSegment(otelLogsTable, [{ ...logRow, timestamp: TIME + later }]);
    const rows = await store.query<Record<string, unknown>>(
      sql`SELECT *, TimestampTime FROM grantscope.otel_logs ORDER BY Timestamp`,
    );
    expect(rows).toHaveLength(2);
    expect(rows[1]).toEqual({
      ...rows[0],
      Timestamp: '2023-11-14 22:13:22.123456789',
      TimestampTime: '2023-11-14 22:13:22',
    });
  });
});
