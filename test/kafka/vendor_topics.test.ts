// How: a real broker, a real Grantscope process that takes two topics, and a producer. Process and broker are killed while
// messages flow, one message in ten is sent twice; at the end every record is in the store once, and what was no record is counted.
import { randomUUID } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import * as zlib from 'node:zlib';
import { Kafka, logLevel, Partitioners, type Producer } from 'kafkajs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { sql } from '../../model/sql.ts';
import { openStore } from '../../store/client.ts';
import { seededRandom } from '../detector_world.ts';
import { temporaryFolder } from '../harness.ts';
import { startServer, type ServerProcess } from '../server_process.ts';
import { missingForJava } from '../java_programs.ts';
import { startKafka, type KafkaBroker } from './kafka_broker.ts';

const missing = missingForJava();
if (missing.length > 0)
  process.stdout.write(`skipped: Kafka needs ${missing.join(' and ')}; install them to run this\n`);

const SEED = Number(process.env['KAFKA_SEED'] ?? Math.floor(Math.random() * 2 ** 31));
const random = seededRandom(SEED);
const KILLS = 3;
/** The broker writes the batches of a topic anew, each with its own library; Node reads Zstandard from 22.15 on. */
const CODECS = ['gzip', 'snappy', 'lz4', ...('zstdDecompressSync' in zlib ? ['zstd'] : [])];
const COMPRESSED = 300;

const folder = temporaryFolder();
const dataDir = join(folder.path, 'data');
const settings = join(folder.path, 'grantscope.yaml');
let broker: KafkaBroker | undefined;
let server: ServerProcess | undefined;
let producer: Producer;
let kafka: Kafka;

afterAll(async () => {
  await server?.kill();
  await producer.disconnect().catch(() => undefined);
  await broker?.stop();
  folder.remove();
});

const event = (event_id: string): Record<string, unknown> => ({
  event_id,
  time: new Date().toISOString(),
  kind: 'token_issued',
  outcome: 'success',
  issuer: 'https://as.example',
  client: { id: 'orders' },
  tokens: [{ role: 'issued', type: 'access', jti: event_id }],
});

const keycloakLine = (user: string): string =>
  JSON.stringify({
    eventId: randomUUID(),
    realmId: 'shop',
    time: Date.now(),
    eventType: 'LOGIN',
    clientId: 'web',
    userId: user,
    ipAddress: '203.0.113.7',
    details: {},
  });

async function start(): Promise<ServerProcess> {
  return startServer(dataDir, { GRANTSCOPE_CONFIG: settings, GRANTSCOPE_LOG_LEVEL: 'error' });
}

async function metric(name: string): Promise<number> {
  const text = await (await fetch(`${server?.collectorUrl}/metrics`)).text();
  const lines = text.split('\n').filter((l) => l.startsWith(name) && !l.startsWith('#'));
  return lines.reduce((sum, l) => sum + Number(l.split(' ').at(-1)), 0);
}

/** How far the group has committed, over all partitions of both topics, and how far the topics go. */
async function progress(): Promise<{ committed: number; written: number }> {
  const admin = kafka.admin();
  await admin.connect();
  try {
    let [committed, written] = [0, 0];
    for (const topic of ['events', 'keycloak', ...CODECS]) {
      const [own] = await admin.fetchOffsets({ groupId: 'soc', topics: [topic] });
      for (const { offset } of own?.partitions ?? []) committed += Math.max(0, Number(offset));
      for (const { high } of await admin.fetchTopicOffsets(topic)) written += Number(high);
    }
    return { committed, written };
  } finally {
    await admin.disconnect();
  }
}

async function caughtUp(): Promise<void> {
  for (;;) {
    // A broker that has just started does not know its groups yet.
    const known = await progress().catch(() => undefined);
    const isDone = known !== undefined && known.committed === known.written;
    if (isDone && (await metric('grantscope_spool_bytes')) === 0) return;
    await sleep(100);
  }
}

describe.skipIf(missing.length > 0)(`topics of vendors, seed ${SEED}`, () => {
  beforeAll(async () => {
    broker = await startKafka(join(folder.path, 'kafka'));
    kafka = new Kafka({ brokers: [broker.address], logLevel: logLevel.NOTHING });
    const admin = kafka.admin();
    await admin.connect();
    await admin.createTopics({
      waitForLeaders: true,
      topics: [
        { topic: 'events', numPartitions: 3 },
        { topic: 'keycloak', numPartitions: 1 },
        ...CODECS.map((codec) => ({
          topic: codec,
          numPartitions: 1,
          configEntries: [{ name: 'compression.type', value: codec }],
        })),
      ],
    });
    await admin.disconnect();
    producer = kafka.producer({ createPartitioner: Partitioners.DefaultPartitioner });
    await producer.connect();
    writeFileSync(
      settings,
      JSON.stringify({
        collector: {
          kafka: {
            brokers: [broker.address],
            tls: false,
            group_id: 'soc',
            topics: [
              { topic: 'events', source: 'grantscope' },
              { topic: 'keycloak', source: 'keycloak' },
              ...CODECS.map((topic) => ({ topic, source: 'grantscope' })),
            ],
          },
        },
      }),
    );
    server = await start();
  });

  it('are read by their sources: records, lines, arrays; what is none is counted and stops nothing', async () => {
    const ids = Array.from({ length: 6 }, () => randomUUID());
    await producer.send({
      topic: 'events',
      messages: [
        { key: 'a', value: JSON.stringify(event(ids[0]!)) },
        { key: 'a', value: 'no json at all' },
        { key: 'a', value: '' },
        { key: 'a', value: Buffer.from([0xff, 0xfe, 0x00]) },
        { key: 'a', value: JSON.stringify([event(ids[1]!), event(ids[2]!)]) },
        { key: 'a', value: `${JSON.stringify(event(ids[3]!))}\n${JSON.stringify(event(ids[4]!))}` },
        { key: 'a', value: JSON.stringify({ ...event(ids[5]!), kind: 'nonsense' }) },
      ],
    });
    await producer.send({ topic: 'keycloak', messages: [{ value: keycloakLine('alice') }] });
    await caughtUp();
    expect(await metric('grantscope_records_rejected_total')).toBe(3);
    expect(await metric('grantscope_kafka_messages_total')).toBe(8);
    expect(await metric('grantscope_kafka_messages_waiting')).toBe(0);
    expect(await server?.stop()).toBe(0);
    server = undefined;
    const store = openStore({ dataDir });
    try {
      expect(
        await store.query(
          sql`SELECT source_id, kind, toUInt32(count()) AS n FROM grantscope.auth_events GROUP BY source_id, kind ORDER BY source_id`,
        ),
      ).toEqual([
        { source_id: 'grantscope', kind: 'token_issued', n: 5 },
        { source_id: 'keycloak', kind: 'login', n: 1 },
      ]);
      expect(
        await store.query(
          sql`SELECT reason, toUInt32(count()) AS n FROM grantscope.dead_letters FINAL GROUP BY reason ORDER BY reason`,
        ),
      ).toEqual([{ reason: 'invalid_field', n: 1 }]);
    } finally {
      await store.close();
    }
  });

  it('are read whatever they are compressed with', async () => {
    server ??= await start();
    for (const codec of CODECS) {
      const messages = Array.from({ length: COMPRESSED }, () => ({
        value: JSON.stringify({ ...event(randomUUID()), client: { id: `by-${codec}` } }),
      }));
      await producer.send({ topic: codec, messages });
    }
    await caughtUp();
    expect(await server.stop()).toBe(0);
    server = undefined;
    const store = openStore({ dataDir });
    try {
      expect(
        await store.query(
          sql`SELECT client_id AS by, toUInt32(uniqExact(event_id)) AS n FROM grantscope.auth_events WHERE startsWith(client_id, 'by-') GROUP BY by ORDER BY by`,
        ),
      ).toEqual(CODECS.toSorted().map((codec) => ({ by: `by-${codec}`, n: COMPRESSED })));
    } finally {
      await store.close();
    }
  });

  it('count each record once, whatever is killed and whatever is delivered again', async () => {
    server ??= await start();
    const owed = new Set<string>();
    let isOver = false;
    const produce = async (): Promise<void> => {
      while (!isOver) {
        const ids = Array.from({ length: 1 + Math.floor(random() * 40) }, () => randomUUID());
        const messages = ids.map((id) => ({ key: id, value: JSON.stringify(event(id)) }));
        // A producer that got no answer sends again: the same record at another offset.
        const twice = messages.filter(() => random() < 0.1);
        try {
          await producer.send({ topic: 'events', messages: [...messages, ...twice] });
          for (const id of ids) owed.add(id);
        } catch {
          // Refused or not: its ids are sent no more, and may be stored or not.
        }
        await sleep(5);
      }
    };
    const producing = produce();
    for (let kill = 0; kill < KILLS; kill += 1) {
      await sleep(500 + Math.floor(random() * 1_500));
      const dying = server;
      await dying.kill();
      server = await start();
    }
    await sleep(500);
    await broker?.kill();
    await broker?.start();
    await sleep(1_000);
    isOver = true;
    await producing;
    await caughtUp();
    expect(await server.stop()).toBe(0);
    server = undefined;
    const store = openStore({ dataDir });
    try {
      const rows = await store.query<{ id: string; n: number }>(
        sql`SELECT toString(event_id) AS id, toUInt32(count()) AS n FROM grantscope.auth_events WHERE client_id = 'orders' GROUP BY id`,
      );
      const stored = new Map(rows.map((r) => [r.id, r.n]));
      expect(owed.size).toBeGreaterThan(500);
      expect([...owed].filter((id) => !stored.has(id))).toEqual([]);
      expect(rows.filter((r) => r.n > 1)).toEqual([]);
    } finally {
      await store.close();
    }
  });
});
