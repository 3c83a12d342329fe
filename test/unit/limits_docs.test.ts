import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { configSchemas } from '../../runtime/config.ts';
import { packageRoot } from '../../runtime/paths.ts';

/** docs/limits.md against the code: each row names a limit that there is, with its value and its counter. */
interface Row {
  readonly name: string;
  readonly value: bigint;
  readonly file: string | undefined;
  readonly counter: string | undefined;
}

const page = readFileSync(join(packageRoot, 'docs', 'limits.md'), 'utf8');
const rows: Row[] = page
  .split('\n')
  .map((line) => line.split('|').map((cell) => cell.trim()))
  .filter((cells) => cells.length === 7 && /^[\d,]+$/.test(cells[2] ?? ''))
  .map(([, , value = '', setBy = '', , counter = '']) => ({
    name: /^`([A-Z_]+)`/.exec(setBy)?.[1] ?? setBy,
    value: BigInt(value.replaceAll(',', '')),
    file: / in `([^`]+)`$/.exec(setBy)?.[1],
    counter: /^`([a-z_]+)`$/.exec(counter)?.[1],
  }));

const { properties } = z
  .object({ properties: z.record(z.string(), z.looseObject({ default: z.unknown().optional() })) })
  .parse(configSchemas().environment);

/** Files whose exported limits are on the page. */
const FILES = [
  'collector/ingest.ts',
  'collector/processors/clock_skew.ts',
  'collector/processors/normalise.ts',
  'collector/processors/redact.ts',
  ...['collector/dead_letters', 'collector/receivers', 'collector/receivers/otlp'].flatMap(
    (folder) =>
      readdirSync(join(packageRoot, folder))
        .filter((f) => f.endsWith('.ts'))
        .map((f) => `${folder}/${f}`),
  ),
];

describe('docs/limits.md', () => {
  it.each(rows.map((r) => [r.name, r] as const))(
    '%s has the value that it has in the code',
    async (name, row) => {
      if (row.file === undefined) expect(BigInt(Number(properties[name]?.default))).toBe(row.value);
      else {
        const module = (await import(join(packageRoot, row.file))) as Record<
          string,
          number | bigint
        >;
        expect(BigInt(module[name] ?? -1)).toBe(row.value);
      }
    },
  );

  it('names only counters that there are', () => {
    const sources = [
      'collector',
      'collector/receivers',
      'collector/dead_letters',
      'collector/spool',
    ]
      .flatMap((folder) =>
        readdirSync(join(packageRoot, folder)).map((f) => join(packageRoot, folder, f)),
      )
      .filter((f) => f.endsWith('.ts'))
      .map((f) => readFileSync(f, 'utf8'))
      .join('\n');
    const named = new Set(
      [...page.matchAll(/`(grantscope_[a-z_]+?)(?:\{[^`]*)?`/g)].map((m) => m[1] ?? ''),
    );
    expect(named.size).toBeGreaterThan(15);
    for (const counter of named)
      expect([counter, sources.includes(`'${counter}'`)]).toEqual([counter, true]);
  });

  it('holds every exported limit of the receivers, the dead letters and the events', () => {
    const listed = new Set(rows.map((r) => `${r.file ?? ''} ${r.name}`));
    const missing = FILES.flatMap((file) =>
      [
        ...readFileSync(join(packageRoot, file), 'utf8').matchAll(
          /^export const ([A-Z0-9_]+_(?:MAX|MIN))\b/gm,
        ),
      ]
        .map((m) => `${file} ${m[1] ?? ''}`)
        .filter((limit) => !listed.has(limit)),
    );
    expect(missing).toEqual([]);
  });

  it('holds every limit of the environment that is the collector’s', () => {
    const ofCollector = Object.keys(properties).filter(
      (k) => /_(?:MAX|DEADLINE_MS)$/.test(k) && !/SEGMENT|ENGINE/.test(k),
    );
    expect(ofCollector.filter((k) => !rows.some((r) => r.name === k))).toEqual([]);
  });
});
