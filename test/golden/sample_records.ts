import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { SourceDefinition, SourceRecord } from '../../model/define_source.ts';
import { packageRoot } from '../../runtime/paths.ts';
import { json, line } from './run_source.ts';

/** Real events, where the folder with them lies beside the project; they are not part of it. */
const folder = join(packageRoot, '..', 'shared', 'samples');
export const hasSamples = existsSync(folder);
if (!hasSamples) process.stdout.write('skipped: no samples\n');

/** A row of a file of samples: the event as it was logged, and whatever else the row says of it. */
export interface SampleRow {
  /** The event: text as it was logged, or a JSON value. */
  readonly raw: unknown;
  readonly row: Readonly<Record<string, unknown>>;
}

export function sampleRows(file: string): readonly SampleRow[] {
  const text = readFileSync(join(folder, file), 'utf8').trim();
  if (file.endsWith('.log')) return text.split('\n').map((raw) => ({ raw, row: {} }));
  if (file.endsWith('.json')) return [{ raw: JSON.parse(text) as unknown, row: {} }];
  return text.split('\n').map((one) => {
    const row = JSON.parse(one) as Record<string, unknown>;
    return { raw: 'raw' in row ? row['raw'] : row, row };
  });
}

/** The records that the collector would make of a row: containers are opened, text that is JSON is parsed. */
export function recordsOf(source: SourceDefinition, { raw }: SampleRow): readonly SourceRecord[] {
  if (typeof raw === 'string' && !/^\s*[[{]/.test(raw)) return [line(raw)];
  const value: unknown = typeof raw === 'string' ? JSON.parse(raw) : raw;
  const values = Array.isArray(value) ? (value as readonly unknown[]) : [value];
  return values.flatMap((v) => source.unwrap?.(v) ?? [v]).map(json);
}
