import { inspect } from 'node:util';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { AuthEvent } from '../../model/auth_event.ts';
import { completeEvent } from '../../model/complete_event.ts';
import { authEventsTable } from '../../model/event_columns.ts';
import { isUuid, uuidFromHex } from '../../model/ids.ts';
import { Secret } from '../../model/secret.ts';
import { identifier, joinSql, param, sql, type Sql } from '../../model/sql.ts';

describe('sql', () => {
  it('numbers parameters through nested fragments', () => {
    const where = joinSql(
      [sql`a = ${param.string('x')}`, sql`b IN ${param.uuids(['u'])}`],
      ' AND ',
    );
    expect(
      sql`SELECT ${identifier('t.c')} FROM t WHERE ${where} LIMIT ${param.uint(3)}`.toQuery(),
    ).toEqual({
      query: 'SELECT t.c FROM t WHERE a = {p0:String} AND b IN {p1:Array(UUID)} LIMIT {p2:UInt64}',
      query_params: { p0: 'x', p1: ['u'], p2: 3 },
    });
  });

  it('never lets a value become text, whatever it is and wherever it stands', () => {
    fc.assert(
      fc.property(
        fc.array(fc.string({ minLength: 1 }), { minLength: 1, maxLength: 5 }),
        (values) => {
          const all = joinSql(
            values.map((v) => sql`c = ${param.string(v)}`),
            ' OR ',
          );
          const { query, query_params } = sql`SELECT 1 WHERE ${all}`.toQuery();
          expect(query).toBe(
            `SELECT 1 WHERE ${values.map((_, i) => `c = {p${i}:String}`).join(' OR ')}`,
          );
          expect(Object.values(query_params)).toEqual(values);
        },
      ),
    );
  });

  it('refuses plain strings and odd identifiers', () => {
    expect(() => sql`SELECT ${'1; DROP TABLE x' as unknown as Sql}`).toThrow(
      'only Sql fragments and param.* values',
    );
    for (const name of ['a b', 'a`', 'a;--', '', '1a', 'a"'])
      expect(() => identifier(name)).toThrow('not an identifier');
  });
});

describe('Secret', () => {
  it('prints as [secret] in every way there is', () => {
    const secret = new Secret('eyJ-raw');
    const printed = [
      String(secret),
      secret.toString(),
      JSON.stringify({ secret }),
      inspect({ secret }, { showHidden: true, depth: 9 }),
      Object.values(secret).join(),
    ];
    expect(printed.join(' ')).not.toContain('eyJ');
    expect(secret.reveal()).toBe('eyJ-raw');
  });
});

describe('ids', () => {
  it('tells UUID text from anything else', () => {
    expect(isUuid('9F86D081-884c-7d65-9a2f-eaa0c55ad015')).toBe(true);
    for (const text of [
      '',
      '9f86d081884c7d659a2feaa0c55ad015',
      '9f86d081-884c-7d65-9a2f-eaa0c55ad01g',
      ' 9f86d081-884c-7d65-9a2f-eaa0c55ad01',
    ])
      expect(isUuid(text)).toBe(false);
    expect(uuidFromHex('9f86d081884c7d659a2feaa0c55ad015ffff')).toBe(
      '9f86d081-884c-7d65-9a2f-eaa0c55ad015',
    );
  });
});

describe('AuthEvent', () => {
  const minimal = completeEvent({ event_id: 'e', time: 5n, kind: 'login' });

  it('completes to an event that its own schema accepts, with nothing claimed', () => {
    expect(AuthEvent.parse(minimal)).toEqual(minimal);
    expect([minimal.pkce, minimal.binding, minimal.outcome, minimal.net.ip_role]).toEqual([
      'unknown',
      'unknown',
      'unknown',
      'unknown',
    ]);
    expect(minimal.observed_time).toBe(5n);
  });

  it('has a column for every leaf', () => {
    const leaves = (value: object, path: string): string[] =>
      Object.entries(value).flatMap(([key, inner]: [string, unknown]) => {
        const at = path === '' ? key : `${path}_${key}`;
        const isLeaf =
          typeof inner !== 'object' || inner === null || Array.isArray(inner) || at === 'ext';
        return isLeaf ? [at] : leaves(inner, at);
      });
    const token = [
      'role',
      'type',
      'ref',
      'ref_kind',
      'family_ref',
      'parent_ref',
      'counter',
      'issued_at',
      'expires_at',
      'kid',
      'alg',
    ];
    const expected = leaves(minimal, '')
      .filter((l) => l !== 'tokens')
      .concat(token.map((t) => `tokens.${t}`));
    expect(authEventsTable.columns.map((c) => c.name).sort()).toEqual(expected.sort());
  });
});
