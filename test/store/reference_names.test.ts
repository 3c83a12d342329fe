import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { AuthEvent } from '../../model/auth_event.ts';
import { completeEvent, type PartialEvent } from '../../model/complete_event.ts';
import { exampleRef } from '../../model/example_ref.ts';
import { NEXT_EXT_PREFIX, NEXT_REFERENCES_FIELD } from '../../model/next_references.ts';
import { param, sql } from '../../model/sql.ts';
import { insertEvents } from '../../store/insert.ts';
import {
  hasReferenceNames,
  readReferenceNames,
  refsOf,
  renamed,
} from '../../store/reference_names.ts';
import { readKeyFacts } from '../../store/key_facts.ts';
import { openTestStore } from '../harness.ts';

let db: Awaited<ReturnType<typeof openTestStore>>;
beforeAll(async () => {
  db = await openTestStore();
});
afterAll(() => db.close());

const NS_PER_S = 1_000_000_000n;
const NOON = BigInt(Date.UTC(2026, 0, 5, 12)) * 1_000_000n;
const k = (key: number, name: string): string => exampleRef(`${name} under key ${key}`);

/** An event under a key, and under its successor where `rotating`. */
function event(
  tenant: string,
  id: string,
  more: Omit<PartialEvent, 'event_id' | 'time' | 'tenant'>,
): AuthEvent {
  return completeEvent({ tenant, event_id: exampleRef(id), time: NOON, ...more });
}

const rotating = (ext: Record<string, string> = {}): Pick<AuthEvent, 'ext' | 'redaction'> => ({
  ext: Object.fromEntries(Object.entries(ext).map(([n, v]) => [`${NEXT_EXT_PREFIX}${n}`, v])),
  redaction: { fields: [NEXT_REFERENCES_FIELD], upstream: false, key_id: 'k1' },
});

describe('reference names', () => {
  it('follow tokens, families, people, sessions, grants and addresses over several rotations', async () => {
    const tenant = 'chain';
    const mention = (key: number) => ({
      ...({ role: 'presented', type: 'access' } as const),
      ref: k(key, 'token'),
      family_ref: k(key, 'family'),
      parent_ref: k(key, 'parent'),
    });
    const during = (key: number): AuthEvent =>
      event(tenant, `during ${key}`, {
        kind: 'api_accessed',
        subject: { ref: k(key, 'subject') },
        session_ref: k(key, 'session'),
        grant_ref: k(key, 'grant'),
        net: { client_ip: k(key, 'ip'), network: k(key, 'net') },
        tokens: [mention(key), { ...mention(key + 1), ref_kind: 'hmac_next' }],
        ...rotating({
          subject_ref: k(key + 1, 'subject'),
          session_ref: k(key + 1, 'session'),
          grant_ref: k(key + 1, 'grant'),
          client_ip: k(key + 1, 'ip'),
          network: k(key + 1, 'net'),
        }),
      });
    expect(await hasReferenceNames(db.store, tenant)).toBe(false);
    await insertEvents(db.store, [during(1), during(2)]);
    expect(await hasReferenceNames(db.store, tenant)).toBe(true);
    for (const thing of ['token', 'family', 'parent', 'subject', 'session', 'grant', 'ip', 'net']) {
      const all = [1, 2, 3].map((key) => k(key, thing));
      for (const ref of all) {
        const names = await readReferenceNames(db.store, tenant, [ref, '', 'no reference']);
        expect(names.canonical(ref), thing).toBe(all[0]);
        expect(names.namesOf(ref), thing).toEqual(all);
      }
    }
    const last = during(2);
    const names = await readReferenceNames(db.store, tenant, refsOf(last));
    const first = during(1);
    expect(renamed(last, names)).toEqual({
      ...{ ...last, subject: first.subject, session_ref: first.session_ref },
      ...{ grant_ref: first.grant_ref, net: first.net, tokens: [first.tokens[0]] },
    });
  });

  it('are the same whatever is repeated, and end in a ring of names', async () => {
    const tenant = 'ring';
    const link = (id: string, from: string, to: string): AuthEvent =>
      event(tenant, id, {
        kind: 'login',
        subject: { ref: exampleRef(from) },
        ...rotating({ subject_ref: exampleRef(to) }),
      });
    await insertEvents(db.store, [link('1', 'a', 'b'), link('2', 'b', 'a'), link('3', 'a', 'b')]);
    const names = await readReferenceNames(db.store, tenant, [exampleRef('a')]);
    expect(new Set(names.namesOf(exampleRef('a')))).toEqual(
      new Set([exampleRef('a'), exampleRef('b')]),
    );
    const rows = await db.store.query(
      sql`SELECT ref, relation, other FROM grantscope.reference_names FINAL WHERE tenant = ${param.string(tenant)}`,
    );
    expect(rows).toHaveLength(4);
  });

  it('come from the redaction stage alone: neither ext nor a mention of kind hmac_next makes one', async () => {
    const tenant = 'forged';
    await insertEvents(db.store, [
      event(tenant, 'forged', {
        kind: 'login',
        subject: { ref: exampleRef('victim') },
        tokens: [
          { role: 'presented', type: 'access', ref: exampleRef('x') },
          { role: 'presented', type: 'access', ref: exampleRef('y'), ref_kind: 'hmac_next' },
        ],
        ext: { [`${NEXT_EXT_PREFIX}subject_ref`]: exampleRef('attacker') },
      }),
    ]);
    expect(await hasReferenceNames(db.store, tenant)).toBe(false);
  });
});

describe('readKeyFacts', () => {
  it('gives the longest life and age of tokens, and events by key', async () => {
    const token = {
      ...({ role: 'issued', type: 'refresh' } as const),
      ref: exampleRef('long'),
      issued_at: NOON - 3_600n * NS_PER_S,
      expires_at: NOON + 86_400n * NS_PER_S,
    };
    await insertEvents(db.store, [
      event('facts', 'long', {
        kind: 'token_refreshed',
        outcome: 'success',
        tokens: [token],
        redaction: { key_id: 'facts1' },
      }),
      event('facts', 'refused later', {
        kind: 'token_request_failed',
        outcome: 'failure',
        tokens: [{ ...token, issued_at: NOON - 999_999n * NS_PER_S, expires_at: null }],
        redaction: { key_id: 'facts1' },
      }),
    ]);
    expect(await readKeyFacts(db.store)).toMatchObject({
      longest_token_life_s: 90_000,
      longest_token_age_s: 3_600,
      events_by_key: { facts1: 2 },
    });
  });
});
