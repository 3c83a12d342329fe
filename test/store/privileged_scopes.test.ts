// How: scopes that patterns were made for, and neighbours that they must not take in, are judged in TypeScript and by
// the real engine; both must say the same of each, and what is written here.
import { afterAll, beforeAll, expect, it } from 'vitest';
import {
  grantsPrivileged,
  PRIVILEGED_SCOPES,
  privilegedPart,
  privilegedTest,
} from '../../detectors/rules/_privileged.ts';
import { param, sql } from '../../model/sql.ts';
import { openTestStore } from '../harness.ts';

let engine: Awaited<ReturnType<typeof openTestStore>>;
beforeAll(async () => {
  engine = await openTestStore();
});
afterAll(() => engine.close());

/** Of `scopes`, those that are privileged by TypeScript, and by SQL as rows and as the part of one row. */
async function judged(
  patterns: readonly string[],
  scopes: readonly string[],
): Promise<{ byTypeScript: string[]; byRow: string[]; byPart: string[] }> {
  const rows = await engine.store.query<{ scope: string }>(sql`
    SELECT scopes_granted[1] AS scope FROM (SELECT [arrayJoin(${param.strings(scopes)})] AS scopes_granted)
    WHERE ${grantsPrivileged(patterns)} ORDER BY scope`);
  const [part] = await engine.store.query<{ part: string[] }>(
    sql`SELECT ${privilegedPart(patterns)} AS part FROM (SELECT ${param.strings(scopes)} AS scopes_granted)`,
  );
  return {
    byTypeScript: scopes.filter(privilegedTest(patterns)),
    byRow: rows.map((r) => r.scope),
    byPart: part?.part ?? [],
  };
}

const PRIVILEGED = [
  'ADMIN',
  'Users.ReadWrite.All',
  'admin',
  'admin:org',
  'https://www.googleapis.com/auth/admin.directory.user',
  'orders:admin',
  'realm/admin',
  'sudo',
].sort();
const PLAIN = [
  'administrative',
  'badmin',
  'fully',
  'httpsX//www.googleapis.com/auth/cloud-platform',
  'openid',
  'orders:read',
  'Users.Read.All',
  'XReadWriteXAll',
];

it('SQL and TypeScript tell the same scopes by the default patterns', async () => {
  const found = await judged(PRIVILEGED_SCOPES, [...PRIVILEGED, ...PLAIN]);
  expect(found.byTypeScript).toEqual(PRIVILEGED);
  expect(found.byRow).toEqual(PRIVILEGED);
  expect(found.byPart).toEqual(PRIVILEGED);
});

it('what a regular expression takes for itself stands for itself in a pattern', async () => {
  const scopes = ['a+b', 'a.b(c)', 'a[1]^$|\\', 'aab', 'axb', 'x/y?z'].sort();
  const patterns = ['a.b(*)', 'a+b', 'a[1]^$|\\', '*?z'];
  const expected = ['a+b', 'a.b(c)', 'a[1]^$|\\', 'x/y?z'].sort();
  const found = await judged(patterns, scopes);
  expect(found.byTypeScript).toEqual(expected);
  expect(found.byRow).toEqual(expected);
  expect(found.byPart).toEqual(expected);
});

it('no pattern makes no scope privileged', async () => {
  const nothing = { byTypeScript: [], byRow: [], byPart: [] };
  expect(await judged([], ['admin'])).toEqual(nothing);
});
