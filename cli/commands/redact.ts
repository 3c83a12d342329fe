import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { Command } from 'commander';
import {
  createExplainer,
  explainRecord,
  FATES,
  type ExplainedField,
  type ExplainedRecord,
  type Explainer,
} from '../../collector/explain/explain_record.ts';
import {
  explainTelemetry,
  isOtlpJson,
  type ExplainedTelemetry,
} from '../../collector/explain/explain_telemetry.ts';
import { cutRecords, type CutRecord } from '../../collector/receivers/cut_records.ts';
import { loadSources } from '../../collector/registry.ts';
import type { SourceDefinition } from '../../model/define_source.ts';
import { GrantscopeError } from '../../runtime/errors.ts';
import { KeyRing } from '../../runtime/keyring.ts';
import { defineCommand } from '../define_command.ts';

/** Largest file that is explained, bytes: what one request may hold. */
const FILE_BYTES_MAX = 20 * 1024 * 1024;

interface Options {
  readonly explain?: boolean;
  readonly source?: string;
  readonly json?: boolean;
  readonly limit: number;
}

interface Explained {
  readonly source: string;
  /** Records explained, of which some may be refused. */
  readonly records: readonly ExplainedRecord[];
  /** Pieces of the file that are no record, with the position of each. */
  readonly unreadable: readonly {
    readonly index: number;
    readonly code: string;
    readonly message: string;
  }[];
  /** Records beyond `--limit`. */
  readonly unexplained: number;
  readonly telemetry?: ExplainedTelemetry;
}

export default defineCommand({
  id: 'redact',
  build: (cli) =>
    new Command('redact')
      .description(
        'show what redaction would do to a file of records, field by field; runs the real adapters and rules on this machine, stores nothing, sends nothing and prints no secret',
      )
      .argument(
        '<file>',
        'NDJSON, a JSON array, one JSON object, text lines, or an OTLP request in JSON; - reads standard input',
      )
      .option(
        '--explain',
        'what is kept, hashed, scrubbed or dropped, and why (this is what the command does; the option may be left out)',
      )
      .option(
        '--source <id>',
        'the source of the records (see: sources list); found by trying where it is left out',
      )
      .option('--limit <n>', 'records to explain', readLimit, 20)
      .option('--json', 'print JSON')
      .addHelpText(
        'after',
        '\nFates: kept (stored as it is), read (decides a kind, an outcome or a time), hashed (becomes a reference),\nscrubbed (what is secret in it goes), dropped. Values are shown as they would be stored; of all others only kind and length.\n\nExit codes: 0 explained, 1 every record would be refused, 2 the file or an option is wrong.\n\nExample: grantscope redact --explain --source keycloak events.ndjson',
      )
      .action(async (file: string, options: Options) => {
        const body = await readInput(file);
        const { redaction } = cli.config();
        // References are made by a key that nobody keeps: none is shown, and no key file is read or made.
        const keyRing = KeyRing.fromKey(randomBytes(32).toString('hex'));
        const explainer = createExplainer(redaction, keyRing, BigInt(Date.now()) * 1_000_000n);
        const result = explain(body, await loadSources(), explainer, options);
        cli.print({ text: textOf(result), json: result }, options.json === true);
        if (isAllRefused(result)) process.exitCode = 1;
      }),
});

function readLimit(text: string): number {
  const limit = Number(text);
  if (!Number.isInteger(limit) || limit < 1 || limit > 10_000)
    throw new GrantscopeError(
      'invalid_argument',
      '--limit: must be a whole number from 1 to 10000',
    );
  return limit;
}

async function readInput(file: string): Promise<Buffer> {
  let body: Buffer;
  if (file === '-') {
    const chunks: Buffer[] = [];
    for await (const chunk of process.stdin) chunks.push(chunk as Buffer);
    body = Buffer.concat(chunks);
  } else {
    try {
      body = readFileSync(file);
    } catch (error) {
      const code = (error as NodeJS.ErrnoException).code ?? 'unreadable';
      throw new GrantscopeError('invalid_argument', `${file}: cannot be read (${code})`);
    }
  }
  if (body.length > FILE_BYTES_MAX)
    throw new GrantscopeError(
      'invalid_argument',
      `${file}: ${body.length} bytes; at most ${FILE_BYTES_MAX}: explain a part of it`,
    );
  if (body.length === 0) throw new GrantscopeError('invalid_argument', `${file}: is empty`);
  return body;
}

type Sources = ReadonlyMap<string, SourceDefinition>;

function explain(
  body: Buffer,
  sources: Sources,
  explainer: Explainer,
  options: Options,
): Explained {
  const isOtlp = isOtlpJson(parsed(body));
  if (isOtlp && options.source !== undefined && options.source !== 'otlp') {
    throw new GrantscopeError(
      'invalid_argument',
      `--source ${options.source}: the file is an OTLP request; leave --source out or give otlp`,
    );
  }
  if (isOtlp) {
    const telemetry = explainTelemetry(body, sources, explainer);
    const none = { records: [], unreadable: [], unexplained: 0 };
    return { source: 'otlp', ...none, telemetry };
  }
  const source = sourceOf(body, sources, explainer, options.source);
  const records: ExplainedRecord[] = [];
  const unreadable: { index: number; code: string; message: string }[] = [];
  let index = 0;
  for (const cut of cutRecords(body, source)) {
    if (!cut.ok) unreadable.push({ index, code: cut.code, message: cut.message });
    else if (records.length < options.limit)
      records.push(explainRecord(source, cut.record, index, explainer));
    index += 1;
  }
  const unexplained = index - records.length - unreadable.length;
  return { source: source.id, records, unreadable, unexplained };
}

function parsed(body: Buffer): unknown {
  try {
    return JSON.parse(body.toString('utf8'));
  } catch {
    return undefined;
  }
}

/** The named source, or the one that accepts the first record. */
function sourceOf(
  body: Buffer,
  sources: Sources,
  explainer: Explainer,
  id: string | undefined,
): SourceDefinition {
  const known = [...sources.keys()].join(', ');
  if (id !== undefined) {
    const source = sources.get(id);
    if (source === undefined)
      throw new GrantscopeError(
        'unknown_source',
        `--source ${id}: no such source; known: ${known}`,
      );
    return source;
  }
  const accepting = [...sources.values()].filter((source) => {
    const first = firstRecord(body, source);
    if (first?.ok !== true) return false;
    return source.parse(first.record, { received_at: explainer.receivedAt }).ok;
  });
  const [only] = accepting;
  if (accepting.length === 1 && only !== undefined) return only;
  const found = accepting.map((s) => s.id).join(', ');
  throw new GrantscopeError(
    'invalid_argument',
    accepting.length === 0
      ? `no source accepts the first record; say with --source whose records these are: ${known}`
      : `${found} accept the first record; say with --source which it is`,
  );
}

function firstRecord(body: Buffer, source: SourceDefinition): CutRecord | undefined {
  try {
    for (const cut of cutRecords(body, source)) return cut;
  } catch (error) {
    // Not a form of this source.
    if (!(error instanceof GrantscopeError)) throw error;
  }
  return undefined;
}

function isAllRefused({ records, unreadable, telemetry }: Explained): boolean {
  if (telemetry !== undefined) return telemetry.rows === 0;
  const refused = records.filter((r) => r.refused !== undefined).length;
  return records.length + unreadable.length > 0 && refused === records.length;
}

/** Fields by fate, the gravest last; each with where it goes, how it looked and why. */
function fieldLines(fields: readonly ExplainedField[]): string[] {
  const width = Math.min(44, Math.max(0, ...fields.map((f) => f.field.length)));
  return FATES.flatMap((fate) =>
    fields
      .filter((f) => f.fate === fate)
      .map((f) => {
        const to = f.to.length === 0 ? '' : ` -> ${f.to.join(', ')}`;
        const stored = f.stored === undefined ? '' : `: ${JSON.stringify(f.stored)}`;
        return `  ${fate.padEnd(8)}  ${f.field.padEnd(width)}  (${f.shape})${to}${stored}; ${f.why}`;
      }),
  );
}

function recordLines(record: ExplainedRecord): string[] {
  const head = `record ${record.index} (${record.source})`;
  if (record.refused !== undefined) {
    const { code, message } = record.refused;
    return [`${head}: refused, ${code}: ${message}`];
  }
  const becomes = record.events.length === 0 ? 'no event' : record.events.join(', ');
  const more = record.unlisted === 0 ? [] : [`  and ${record.unlisted} more fields`];
  return [`${head}: ${becomes}`, ...fieldLines(record.fields), ...more];
}

function textOf({ records, unreadable, unexplained, telemetry }: Explained): string {
  const lines = records.flatMap(recordLines);
  for (const u of unreadable) lines.push(`piece ${u.index}: no record, ${u.code}: ${u.message}`);
  if (unexplained > 0) lines.push(`and ${unexplained} more records (--limit)`);
  if (telemetry !== undefined) {
    lines.push(`${telemetry.rows} rows of ${telemetry.table}`, ...fieldLines(telemetry.fields));
    for (const r of telemetry.refused)
      lines.push(`record ${r.owner}: refused, ${r.code}: ${r.message}`);
    lines.push(...telemetry.records.flatMap(recordLines));
  }
  const all = [...records.flatMap((r) => r.fields), ...(telemetry?.fields ?? [])];
  const counts = FATES.map((fate) => `${all.filter((f) => f.fate === fate).length} ${fate}`);
  return [...lines, `fields: ${counts.join(', ')}`].join('\n');
}
