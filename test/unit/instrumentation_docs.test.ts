/** The page names every attribute and states the limits as they are. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import * as instrumentation from '../../instrumentation/index.ts';
import { EXT_ENTRIES_MAX, LIST_LENGTH_MAX } from '../../instrumentation/event_attributes.ts';
import { TEXT_LENGTH_MAX } from '../../instrumentation/scrub.ts';
import { ATTR } from '../../model/attributes.ts';
import { EVENT_KINDS } from '../../model/kinds.ts';
import { packageRoot } from '../../runtime/paths.ts';

const page = readFileSync(join(packageRoot, 'docs/instrumentation.md'), 'utf8');
const inCode = new Set([...page.matchAll(/`([^`\n]+)`/g)].map((match) => match[1]!));

it.each(Object.values(ATTR))('names the attribute %s', (attribute) => {
  expect(inCode).toContain(attribute);
});

it('names only event kinds that there are', () => {
  const kinds: ReadonlySet<string> = new Set(EVENT_KINDS);
  const [table = ''] = /\| request \| events \|[\s\S]*?\n\n/.exec(page) ?? [];
  const named = [...table.matchAll(/`([a-z]+_[a-z_]+)`/g)].map((match) => match[1]!);
  expect(named.length).toBeGreaterThan(20);
  expect(named.filter((kind) => !kinds.has(kind))).toEqual([]);
});

it.each([
  ['SPAN_QUEUE_LENGTH_MAX', instrumentation.SPAN_QUEUE_LENGTH_MAX],
  ['SPAN_BATCH_LENGTH_MAX', instrumentation.SPAN_BATCH_LENGTH_MAX],
  ['EXPORT_INTERVAL_MS', instrumentation.EXPORT_INTERVAL_MS],
  ['EXPORT_TIMEOUT_MS', instrumentation.EXPORT_TIMEOUT_MS],
  ['FLUSH_TIMEOUT_MS', instrumentation.FLUSH_TIMEOUT_MS],
  ['TEXT_LENGTH_MAX', TEXT_LENGTH_MAX],
  ['LIST_LENGTH_MAX', LIST_LENGTH_MAX],
  ['EXT_ENTRIES_MAX', EXT_ENTRIES_MAX],
])('states the limit %s as %i', (name, value) => {
  const row = page.split('\n').find((line) => line.startsWith('|') && line.includes(name));
  expect(row).toContain(value.toLocaleString('en-US'));
});

it('mentions every function that it exports for use', () => {
  const functions = Object.entries(instrumentation)
    .filter(([, value]) => typeof value === 'function' && !/^[A-Z]/.test(value.name))
    .map(([name]) => name);
  const documented = functions.filter((name) => page.includes(name));
  expect(functions.filter((name) => !documented.includes(name)).sort()).toEqual([
    // Low-level: contexts of related events, the header for calls one makes, jose errors by hand.
    'contextOf',
    'currentTraceparent',
    'rejectionOf',
  ]);
});
