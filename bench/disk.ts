import { appendFileSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { identifier, joinSql, param, sql } from '../model/sql.ts';
import { openStore, type Store } from '../store/client.ts';
import { migrate } from '../store/migrate.ts';
import { runLoad } from './harness/load.ts';
import { BodyFactory, payloadNamed, type PayloadName } from './harness/payloads.ts';
import { readFlags, report, round, until } from './harness/program.ts';
import { folderBytes, startServer } from './harness/server.ts';

/**
 * Bytes on disk per event: all tables and rollups, after a real run of the product; and the same kind of events as rows of
 * `otel_logs`, the schema of the OpenTelemetry collector's ClickHouse exporter, in the same engine.
 *
 *   npm run bench -- disk [--events 1000000] [--payload ndjson|keycloak]
 *
 * An `otel_logs` row is made as a log shipper and that exporter make it. `body`: the record's line as Body and the name of
 * the file as attribute. `body_and_attributes`: besides, the record's fields as LogAttributes (the `json_parser` operator), so
 * that they can be filtered by, which our columns always can. Nothing is redacted or hashed there, so secrets are stored.
 *
 * Sizes are of active parts: `settled` after one merge of everything, which is where a day's partition arrives;
 * `unsettled` as merges left them when the run ended.
 */
const flags = readFlags(process.argv.slice(2), {
  events: 300_000,
  payload: 'ndjson',
  batch: 1_000,
});
/** What the exporter's batch processor would gather in a busy second or two. */
const ROWS_PER_INSERT = 100_000;
const OWN_TABLES = ['auth_events', 'token_events', 'event_minutes', 'slo_minutes'];

interface Sizes {
  readonly bytes_per_event: number;
  readonly tables: Readonly<Record<string, number>>;
  readonly parts: number;
}

async function sizesOf(store: Store, events: number): Promise<Sizes> {
  const rows = await store.query<{ name: string; bytes: string; parts: string }>(
    sql`SELECT table AS name, toString(sum(bytes_on_disk)) AS bytes, toString(count()) AS parts FROM system.parts WHERE active AND database = 'grantscope' GROUP BY table ORDER BY sum(bytes_on_disk) DESC`,
  );
  const total = rows.reduce((sum, r) => sum + Number(r.bytes), 0);
  return {
    bytes_per_event: round(total / events, 2),
    tables: Object.fromEntries(rows.map((r) => [r.name, round(Number(r.bytes) / events, 2)])),
    parts: rows.reduce((sum, r) => sum + Number(r.parts), 0),
  };
}

async function merged(store: Store, tables: readonly string[]): Promise<void> {
  for (const table of tables)
    await store.command(sql`OPTIMIZE TABLE ${identifier(`grantscope.${table}`)} FINAL`);
}

/** The dearest columns of a table, bytes per event. */
async function dearest(store: Store, table: string, events: number): Promise<object> {
  const rows = await store.query<{ name: string; bytes: string }>(
    sql`SELECT column AS name, toString(sum(column_data_compressed_bytes)) AS bytes FROM system.parts_columns WHERE active AND database = 'grantscope' AND table = ${param.string(table)} GROUP BY column ORDER BY sum(column_data_compressed_bytes) DESC LIMIT 8`,
  );
  return Object.fromEntries(rows.map((r) => [r.name, round(Number(r.bytes) / events, 2)]));
}

async function ownSizes(payload: PayloadName): Promise<Record<string, unknown>> {
  const dataDir = mkdtempSync(join(tmpdir(), 'grantscope-bench-'));
  try {
    const server = await startServer(dataDir);
    let events = 0;
    try {
      const load = await runLoad({
        ...{ url: server.collector, payload, batch: flags.batch, gzip: false, clients: 4 },
        ...{ events: flags.events, rate: 0, seconds: 0 },
      });
      events = load.events;
      await until(async () => (await server.stored()) >= events, {
        timeoutMs: 300_000,
        everyMs: 100,
        what: 'events in the store',
      });
    } finally {
      await server.stop();
    }
    const folder = round(folderBytes(join(dataDir, 'clickhouse')) / events, 1);
    const store = openStore({ dataDir });
    try {
      const unsettled = await sizesOf(store, events);
      await merged(store, OWN_TABLES);
      const settled = await sizesOf(store, events);
      return {
        events,
        settled,
        unsettled,
        // With parts that were merged away and are not yet deleted, and the engine's own files.
        folder_at_the_end_bytes_per_event: folder,
        dearest_columns: {
          auth_events: await dearest(store, 'auth_events', events),
          token_events: await dearest(store, 'token_events', events),
        },
      };
    } finally {
      await store.close();
    }
  } finally {
    rmSync(dataDir, { recursive: true, force: true });
  }
}

/** A field of a record as an attribute: text as it is, everything else as JSON. */
function attributesOf(line: string): Record<string, string> {
  const fields = JSON.parse(line) as Record<string, unknown>;
  return Object.fromEntries(
    Object.entries(fields).map(([k, v]) => [k, typeof v === 'string' ? v : JSON.stringify(v)]),
  );
}

function logRow(line: string, nowMs: number, withAttributes: boolean): Record<string, unknown> {
  return {
    Timestamp: new Date(nowMs).toISOString().replace('T', ' ').replace('Z', ''),
    TraceId: '',
    SpanId: '',
    TraceFlags: 0,
    SeverityText: 'INFO',
    SeverityNumber: 9,
    ServiceName: 'as',
    Body: line,
    ResourceSchemaUrl: '',
    ResourceAttributes: { 'service.name': 'as', 'host.name': 'as-1', 'service.version': '1.0.0' },
    ScopeSchemaUrl: '',
    ScopeName: '',
    ScopeVersion: '',
    ScopeAttributes: {},
    LogAttributes: {
      'log.file.name': 'events.ndjson',
      ...(withAttributes ? attributesOf(line) : {}),
    },
    EventName: '',
  };
}

/** Inserts a file of JSON rows in one go. */
async function insertFile(store: Store, table: string, file: string): Promise<void> {
  const columns = await store.query<{ name: string; type: string }>(
    sql`SELECT name, type FROM system.columns WHERE database = 'grantscope' AND table = ${param.string(table)} AND default_kind = '' ORDER BY position`,
  );
  const names = joinSql(
    columns.map((c) => identifier(c.name)),
    ', ',
  );
  const structure = columns.map((c) => `${c.name} ${c.type}`).join(', ');
  await store.command(
    sql`INSERT INTO ${identifier(`grantscope.${table}`)} (${names}) SETTINGS async_insert = 0, max_insert_threads = 1 SELECT ${names} FROM file(${param.string(file)}, JSONEachRow, ${param.string(structure)})`,
  );
}

/** One store for both forms: the engine is one per process. */
async function exporterSizes(payload: PayloadName, events: number): Promise<Record<string, Sizes>> {
  const dataDir = mkdtempSync(join(tmpdir(), 'grantscope-bench-'));
  const store = openStore({ dataDir });
  try {
    await migrate(store);
    const sizes: Record<string, Sizes> = {};
    for (const form of ['body', 'body_and_attributes']) {
      const factory = new BodyFactory(payload, flags.batch, false);
      const file = join(dataDir, 'rows.ndjson');
      let rows = 0;
      for (let sequence = 0; sequence * flags.batch < events; sequence += 1) {
        // As fast as the product took the events: the spread of times is alike.
        const nowMs = Date.now();
        const lines = factory.make(sequence, nowMs).toString('utf8').split('\n');
        const texts = lines.map((l) => JSON.stringify(logRow(l, nowMs, form !== 'body')));
        appendFileSync(file, `${texts.join('\n')}\n`);
        rows += lines.length;
        if (rows < ROWS_PER_INSERT && (sequence + 1) * flags.batch < events) continue;
        await insertFile(store, 'otel_logs', file);
        rmSync(file);
        rows = 0;
      }
      await merged(store, ['otel_logs']);
      sizes[form] = await sizesOf(store, events);
      await store.command(sql`TRUNCATE TABLE grantscope.otel_logs`);
    }
    return sizes;
  } finally {
    await store.close();
    rmSync(dataDir, { recursive: true, force: true });
  }
}

const payload = payloadNamed(flags.payload);
if (payload !== 'ndjson' && payload !== 'keycloak')
  throw new Error('--payload: must be ndjson or keycloak, whose lines a log shipper would forward');
// The engine opens one data directory per process, so each half closes its store before the other opens.
const own = await ownSizes(payload);
const exporter = await exporterSizes(payload, flags.events);
const settled = (own['settled'] as Sizes).bytes_per_event;
const figures = {
  ...own,
  otel_logs: exporter,
  ratio_to_otel_logs: Object.fromEntries(
    Object.entries(exporter).map(([form, s]) => [form, round(settled / s.bytes_per_event, 3)]),
  ),
};
report('disk', flags, figures, payload === 'ndjson' ? 'disk' : `disk_${payload}`);
