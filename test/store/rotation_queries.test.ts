// How: one token's life across two rotations of keys is stored as the collector would; whoever asks by any of its
// references sees one token, each event once.
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { AuthEvent } from '../../model/auth_event.ts';
import { exampleRef } from '../../model/example_ref.ts';
import { insertEvents } from '../../store/insert.ts';
import { listEvents } from '../../store/queries/events.ts';
import {
  eventsOf,
  kindsOfReference,
  lineageOf,
  readTimeline,
  summarise,
} from '../../store/queries/investigations.ts';
import { namesOfTenant } from '../../store/reference_names.ts';
import { eventAt } from '../detector_world.ts';
import { openTestStore } from '../harness.ts';
import { nextName, storedUnder, type Rotation } from '../key_rotation_world.ts';

const TENANT = 'rotated';
const TOKEN = exampleRef('refresh 1');
const SECOND = exampleRef('refresh 2');
const FAMILY = exampleRef('family');
const SUBJECT = exampleRef('subject');
const SESSION = exampleRef('session');
const GRANT = exampleRef('grant');

const at = (t: number, role: 'issued' | 'presented', ref: string, parent_ref = ''): AuthEvent =>
  eventAt(TENANT, `at ${t}`, t, {
    kind: role === 'issued' ? 'token_refreshed' : 'token_introspected',
    outcome: 'success',
    subject: { ref: SUBJECT },
    session_ref: SESSION,
    grant_ref: GRANT,
    tokens: [{ role, type: 'refresh', ref, family_ref: FAMILY, parent_ref }],
  });
/** 0 before, 10 and 20 during the overlap, 30 and 40 after the new key took over. */
const life = [
  at(0, 'issued', TOKEN),
  at(10, 'presented', TOKEN),
  at(20, 'issued', SECOND, TOKEN),
  at(30, 'presented', SECOND),
  at(40, 'presented', TOKEN),
];
const timeOf = (t: number): bigint => eventAt(TENANT, '', t, { kind: 'login' }).time;
const rotation: Rotation = { begin: timeOf(5), takeover: timeOf(25) };

let engine: Awaited<ReturnType<typeof openTestStore>>;
beforeAll(async () => {
  engine = await openTestStore();
  await insertEvents(engine.store, storedUnder(rotation, life));
});
afterAll(() => engine.close());
const scope = () => ({ store: engine.store, tenant: TENANT });
const namesOf = async (ref: string) =>
  (await (await namesOfTenant(engine.store, TENANT))([ref])).namesOf(ref);

describe('an investigation across a rotation of keys', () => {
  it.each([
    ['token', TOKEN],
    ['token', nextName(TOKEN)],
    ['family', FAMILY],
    ['family', nextName(FAMILY)],
    ['subject', SUBJECT],
    ['subject', nextName(SUBJECT)],
    ['session', nextName(SESSION)],
    ['grant', nextName(GRANT)],
  ] as const)('of a %s %s', async (type, ref) => {
    const refs = await namesOf(ref);
    const lineage =
      type === 'token' || type === 'family' ? await lineageOf(scope(), type, refs) : undefined;
    const condition = await eventsOf(scope(), type, refs, lineage);
    const page = await readTimeline(scope(), condition, { limit: 50, descending: false });
    expect(page.items.map((e) => e.event_id)).toEqual(life.map((e) => e.event_id));
    expect(page.items.map((e) => [e.subject_ref, e.session_ref, e.grant_ref])).toEqual(
      life.map(() => [SUBJECT, SESSION, GRANT]),
    );
    expect(page.items.map((e) => e.tokens.map((t) => [t.ref, t.family_ref, t.parent_ref]))).toEqual(
      life.map((e) => e.tokens.map((t) => [t.ref, t.family_ref, t.parent_ref])),
    );
    expect((await summarise(scope(), condition))?.events).toBe(5);
    if (lineage === undefined) return;
    const isFamily = type === 'family';
    expect(lineage).toMatchObject({
      truncated: false,
      tokens: [
        {
          ...{ ref: TOKEN, ref_kind: 'hmac', relation: isFamily ? 'family' : 'self' },
          ...{ family_ref: FAMILY, parent_ref: '', events: 3, issued: 1, presented: 2 },
        },
        {
          ...{ ref: SECOND, ref_kind: 'hmac', relation: isFamily ? 'family' : 'child' },
          ...{ family_ref: FAMILY, parent_ref: TOKEN, events: 2, issued: 1, presented: 1 },
        },
      ],
    });
    expect(lineage.tokens).toHaveLength(2);
  });

  it('finds a reference by any of its names', async () => {
    for (const [ref, type] of [
      [TOKEN, 'token'],
      [nextName(SECOND), 'token'],
      [nextName(SUBJECT), 'subject'],
      [SESSION, 'session'],
    ] as const) {
      const known = await kindsOfReference(scope(), await namesOf(ref));
      expect(known[0]?.type).toBe(type);
    }
    expect(await kindsOfReference(scope(), await namesOf(exampleRef('nothing')))).toEqual([]);
  });

  it('filters events by any name, and mentions each token once', async () => {
    for (const filter of [{ subject_ref: nextName(SUBJECT) }, { grant_ref: GRANT }]) {
      const page = await listEvents(scope(), filter, { limit: 50 });
      expect(page.items).toHaveLength(5);
      expect(page.items.map((e) => e.tokens.length)).toEqual([1, 1, 1, 1, 1]);
    }
  });
});
