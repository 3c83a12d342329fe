import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Markers } from '../../collector/dead_letters/marker.ts';
import { replayOperation, type ReplayReport } from '../../collector/dead_letters/replay.ts';
import { deadLettersTable } from '../../collector/dead_letters/table.ts';
import { startCollector, type Collector } from '../../collector/main.ts';
import { createScrubber } from '../../collector/processors/scrub.ts';
import grantscope from '../../collector/sources/grantscope.ts';
import { defineSource, type SourceDefinition } from '../../model/define_source.ts';
import { param, sql } from '../../model/sql.ts';
import type { Runtime } from '../../runtime/context.ts';
import type { Store } from '../../store/client.ts';
import { openTestStore, testRuntime } from '../harness.ts';

// Refused records from the request to the replay: real collector, real spool, real engine.

let opened: Awaited<ReturnType<typeof openTestStore>>;
let runtime: Runtime;
let collector: Collector;
beforeAll(async () => {
  opened = await openTestStore();
  runtime = testRuntime(opened.dataDir, { config: { segmentAgeMsMax: 20 } });
  collector = await startCollector(runtime, opened.store);
});
afterAll(async () => {
  await collector.stop();
  await opened.close();
});

const opaque = ['ory', 'at', 'q9Zt', '7xK2'].join('_');

/** The adapter as it might be tomorrow: `happened_at` is a time, and `token_made` a kind. */
const corrected: SourceDefinition = defineSource({
  ...grantscope,
  parse: (record, context) => {
    if (record.form === 'text' || typeof record.value !== 'object')
      return grantscope.parse(record, context);
    const value = record.value as Record<string, unknown>;
    const kind = value['kind'] === 'token_made' ? 'token_issued' : value['kind'];
    const time = value['time'] ?? value['happened_at'];
    return grantscope.parse({ form: 'json', value: { ...value, kind, time } }, context);
  },
});

async function send(records: readonly unknown[]): Promise<{ accepted: number; rejected: number }> {
  const response = await fetch(`${collector.url}/v1/events/grantscope`, {
    method: 'POST',
    body: records.map((r) => JSON.stringify(r)).join('\n'),
  });
  expect(response.status).toBe(200);
  return (await response.json()) as { accepted: number; rejected: number };
}

interface LetterRow {
  reason: string;
  message: string;
  record: string;
  version: number;
}

/** The letters whose record holds a client id; waits until there are `count`. */
async function letters(client: string, count: number): Promise<LetterRow[]> {
  await collector.flush();
  const deadline = Date.now() + 10_000;
  for (;;) {
    const rows = await opened.store.query<LetterRow>(
      sql`SELECT reason, message, record, version FROM grantscope.dead_letters FINAL WHERE position(record, ${param.string(client)}) > 0 ORDER BY content_seed`,
    );
    if (rows.length >= count || Date.now() > deadline) return rows;
    await new Promise((r) => setTimeout(r, 10));
  }
}

function events(client: string): Promise<Record<string, unknown>[]> {
  return opened.store.query(
    sql`SELECT event_id, kind, subject_ref, session_ref, \`tokens.ref\` AS refs, toString(time) AS time, redaction_key_id FROM grantscope.auth_events WHERE client_id = ${param.string(client)} ORDER BY event_id`,
  );
}

function replay(
  sources: readonly SourceDefinition[],
  input: object,
  store: Store = opened.store,
): Promise<ReplayReport> {
  const own = testRuntime(opened.dataDir);
  const operation = replayOperation({
    runtime: own,
    store,
    sources: new Map(sources.map((s) => [s.id, s])),
    scrubber: createScrubber(),
  });
  return operation(input, () => undefined) as Promise<ReplayReport>;
}

const counts = (examined: number, replayed: number) => ({
  examined,
  replayed,
  still_refused: examined - replayed,
});

describe('a refused record', () => {
  it('is kept redacted, with the reason the sender was told, beside what was accepted', async () => {
    const client = 'kept-1';
    const answer = await send([
      { time: '2026-01-02T03:04:05Z', kind: 'login', client: { id: client } },
      { kind: 'login', client: { id: client }, subject: { id: 'zoe.q' }, password: 'hunter2' },
      { time: 'soon', kind: 'login', client: { id: client }, note: 'ask zoe@example.org' },
    ]);
    expect(answer).toMatchObject({ accepted: 1, rejected: 2 });
    const rows = await letters(client, 2);
    expect(rows.map(({ reason, message, version }) => ({ reason, message, version }))).toEqual([
      { reason: 'missing_field', message: 'time: is required', version: 0 },
      { reason: 'invalid_time', message: expect.stringMatching(/^time: /) as string, version: 0 },
    ]);
    const markers = new Markers(runtime.keyRing);
    expect(JSON.parse(rows[0]?.record ?? '')).toEqual({
      kind: 'login',
      client: { id: client },
      subject: { id: markers.make('zoe.q') },
      password: markers.make('hunter2'),
    });
    expect(rows[1]?.record).toContain('ask [redacted]');
    const everything = JSON.stringify(rows);
    for (const secret of ['zoe.q', 'hunter2', 'zoe@example.org'])
      expect(everything).not.toContain(secret);
  });

  it('is kept once, however often its request is sent', async () => {
    const records = [{ kind: 'login', client: { id: 'kept-2' } }];
    for (let i = 0; i < 3; i += 1) expect(await send(records)).toMatchObject({ rejected: 1 });
    await send([{ kind: 'login', client: { id: 'kept-2' }, other: true }]);
    expect(await letters('kept-2', 2)).toHaveLength(2);
  });
});

describe('replay', () => {
  it('stores what is accepted now, once, with the references of its surroundings', async () => {
    const client = 'replay-1';
    const who = { subject: { id: 'alice' }, session: { id: 's-1' } };
    const tokens = [{ role: 'presented', type: 'access', value: opaque }];
    const time = '2026-01-02T03:04:05Z';
    await send([
      {
        event_id: '11111111-1111-4111-8111-111111111111',
        time,
        kind: 'token_validated',
        client: { id: client },
        ...who,
        tokens,
      },
      {
        event_id: '22222222-2222-4222-8222-222222222222',
        happened_at: time,
        kind: 'token_made',
        client: { id: client },
        ...who,
        tokens,
      },
      { happened_at: time, kind: 'token_made', client: { id: client }, ...who, tokens },
      { happened_at: time, kind: 'no_such_kind', client: { id: client } },
    ]);
    await letters(client, 3);
    const [stored] = await events(client);

    const dry = await replay([corrected], {
      source: 'grantscope',
      dry_run: true,
      since: '2026-01-01T00:00:00Z',
      reason: 'invalid_field',
    });
    expect(dry).toMatchObject({
      dry_run: true,
      events: 2,
      ...counts(3, 2),
      refused_now: { invalid_field: 1 },
    });
    expect(await events(client)).toHaveLength(1);

    const report = await replay([corrected], { reason: 'invalid_field' });
    expect(report).toEqual({
      dry_run: false,
      ...counts(3, 2),
      events: 2,
      events_already_stored: 0,
      by_reason: { invalid_field: counts(3, 2) },
      refused_now: { invalid_field: 1 },
      more: false,
    });
    const all = await events(client);
    expect(all).toHaveLength(3);
    for (const event of all) {
      const { subject_ref, session_ref, refs } = stored ?? {};
      expect(event).toMatchObject({
        subject_ref,
        session_ref,
        refs,
        time: '2026-01-02 03:04:05.000000000',
        redaction_key_id: runtime.keyRing.currentId,
      });
    }
    expect(all.map((e) => e['event_id'])).toContain('22222222-2222-4222-8222-222222222222');

    expect(await replay([corrected], { reason: 'invalid_field' })).toMatchObject({
      ...counts(1, 0),
      events: 0,
    });
    expect(await events(client)).toHaveLength(3);
    const versions = (await letters(client, 3)).map((l) => l.version).sort();
    expect(versions).toEqual([0, 1, 1]);
  });

  it('is finished by the next run where it was cut off between the events and their marks', async () => {
    const client = 'replay-2';
    await send(
      [1, 2, 3].map((n) => ({
        happened_at: '2026-01-02T03:04:05Z',
        kind: 'logout_wish',
        n,
        client: { id: client },
      })),
    );
    await letters(client, 3);
    const wish: SourceDefinition = defineSource({
      ...corrected,
      parse: (record, context) => {
        const value = record.form === 'json' ? (record.value as Record<string, unknown>) : {};
        return value['kind'] === 'logout_wish'
          ? corrected.parse({ form: 'json', value: { ...value, kind: 'session_ended' } }, context)
          : corrected.parse(record, context);
      },
    });
    const dying: Store = Object.create(opened.store, {
      insertRows: {
        value: (...args: Parameters<Store['insertRows']>) =>
          args[0] === deadLettersTable.table
            ? Promise.reject(new Error('killed'))
            : opened.store.insertRows(...args),
      },
      query: { value: opened.store.query.bind(opened.store) },
    }) as Store;
    await expect(replay([wish], {}, dying)).rejects.toThrow('killed');
    expect(await events(client)).toHaveLength(3);
    expect(await replay([wish], {})).toMatchObject({
      events: 0,
      events_already_stored: 3,
      replayed: 3,
    });
    expect(await events(client)).toHaveLength(3);
    expect((await letters(client, 3)).map((l) => l.version)).toEqual([1, 1, 1]);
  });

  it('goes through more letters than a batch, within its limit', async () => {
    const client = 'replay-3';
    const records = Array.from({ length: 1_203 }, (_, n) => ({
      happened_at: '2026-02-02T03:04:05Z',
      kind: 'token_made',
      n,
      client: { id: client },
    }));
    expect(await send(records)).toMatchObject({ rejected: 1_203 });
    await letters(client, 1_203);
    const since = '2026-01-01T00:00:00Z';
    const first = await replay([corrected], { since, limit: 700 });
    expect(first).toMatchObject({ examined: 700, more: true });
    const second = await replay([corrected], { since });
    expect(second.more).toBe(false);
    expect(first.events + second.events).toBe(1_203);
    expect(new Set((await events(client)).map((e) => e['event_id'])).size).toBe(1_203);
  });

  it('cannot be made to give a sender the reference of somebody else', async () => {
    const client = 'forged-1';
    const victim = runtime.keyRing.ref('subject', 'victim').replaceAll('-', '');
    const forged = `gsref:h:${victim.repeat(4)}:${'0'.repeat(32)}`;
    const copied = new Markers(runtime.keyRing).make('victim');
    const record = (id: string) => ({
      happened_at: '2026-01-02T03:04:05Z',
      kind: 'token_made',
      client: { id: client },
      subject: { id },
    });
    // A marker that leaked from the table, in an ordinary request: a text like any other.
    await send([
      { ...record(copied), time: '2026-01-02T03:04:05Z', kind: 'login' },
      record(forged),
      record(copied),
    ]);
    await letters(client, 2);
    await replay([corrected], {});
    const refs = (await events(client)).map((e) => e['subject_ref']);
    expect(refs).toHaveLength(3);
    expect(refs).not.toContain(runtime.keyRing.ref('subject', 'victim'));
    expect(new Set(refs)).toEqual(
      new Set([runtime.keyRing.ref('subject', copied), runtime.keyRing.ref('subject', forged)]),
    );
  });

  it('says what is wrong with its input', async () => {
    await expect(replay([corrected], { limit: 0 })).rejects.toThrow(/limit/);
    await expect(replay([corrected], { reason: 'because' })).rejects.toThrow(/reason/);
    await expect(replay([corrected], { since: 'yesterday' })).rejects.toThrow(/since/);
  });

  it('reports a source that is gone', async () => {
    await send([{ kind: 'login', client: { id: 'gone-1' } }]);
    await letters('gone-1', 1);
    const report = await replay([], { reason: 'missing_field' });
    expect(report.replayed).toBe(0);
    expect(report.refused_now).toEqual({ unknown_source: report.examined });
  });
});
