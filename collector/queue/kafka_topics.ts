import { createHash } from 'node:crypto';
import type { Consumer, EachBatchPayload, KafkaMessage } from 'kafkajs';
import type { SourceDefinition } from '../../model/define_source.ts';
import type { Runtime } from '../../runtime/context.ts';
import { GrantscopeError, messageOf } from '../../runtime/errors.ts';
import type { KafkaSettings } from '../../runtime/kafka_settings.ts';
import type { Component } from '../../runtime/lifecycle.ts';
import type { Metrics } from '../../runtime/metrics.ts';
import { pause, systemTimers } from '../../runtime/timers.ts';
import type { Ingest, SourcedRecord } from '../ingest.ts';
import { cutRecords } from '../receivers/cut_records.ts';
import { loadSources } from '../registry.ts';
import { openKafka } from './kafka_client.ts';

/** Messages of a partition that are on their way to the disk together: they share its group commits. */
const MESSAGES_AT_ONCE = 200;
/** A partition that was refused (the durable buffer is full) is asked again after this long. */
const REFUSED_PAUSE_MS = 1_000;
/** Wait before a consumer that gave up is started again. */
const RESTART_MS = 5_000;

interface Deps {
  readonly settings: KafkaSettings;
  readonly ingest: Ingest;
  /** By topic. */
  readonly sources: ReadonlyMap<string, SourceDefinition>;
}

/**
 * Takes the records that vendors and shippers write to Kafka topics, each topic by its source. A message is a request: a
 * record, an array, lines or the vendor's container of them. Its offset is committed once its records are durable, so a
 * crash or a rebalance delivers messages again; a message is known by its place and content, and counts once within the request
 * window. What cannot be read is counted and never stops a partition; a full buffer pauses it.
 *
 * `stop` ends the consumer: messages under way are finished, their offsets committed. Undefined where no topics are
 * configured; throws `config_invalid` for a source that there is not, or a file that cannot be read.
 */
export async function startKafkaTopics(
  runtime: Pick<Runtime, 'config' | 'log' | 'metrics'>,
  ingest: Ingest,
): Promise<Component | undefined> {
  const { log } = runtime;
  const settings = runtime.config.collector.kafka;
  if (settings === undefined) return undefined;
  const deps = { settings, ingest, sources: sourcesOf(settings, await loadSources()) };
  const metrics = kafkaMetrics(runtime.metrics);
  const kafka = openKafka(settings, log);
  const stopping = new AbortController();
  const run = async (): Promise<void> => {
    while (!stopping.signal.aborted) {
      const consumer = kafka.consumer({ groupId: settings.group_id });
      try {
        await consume(consumer, deps, metrics, stopping.signal);
      } catch (error) {
        metrics.restarts.inc();
        log.error({ reason: messageOf(error) }, 'kafka: the consumer ended; starting it again');
      }
      await consumer.disconnect().catch(() => undefined);
      await pause(systemTimers, RESTART_MS, stopping.signal);
    }
  };
  const running = run();
  return {
    name: 'kafka topics',
    stop: async () => {
      stopping.abort();
      await running;
    },
  };
}

function sourcesOf(
  settings: KafkaSettings,
  known: ReadonlyMap<string, SourceDefinition>,
): ReadonlyMap<string, SourceDefinition> {
  const pairs = settings.topics.map(({ topic, source }) => {
    const definition = known.get(source);
    if (definition !== undefined) return [topic, definition] as const;
    throw new GrantscopeError(
      'config_invalid',
      `grantscope.yaml: collector.kafka.topics: no source ${source}; allowed: ${[...known.keys()].join(', ')}`,
      { stage: 'starting' },
    );
  });
  return new Map(pairs);
}

/** Runs until the consumer gives up (throws) or is told to stop. */
async function consume(
  consumer: Consumer,
  { settings, sources, ingest }: Deps,
  metrics: KafkaMetrics,
  stopping: AbortSignal,
): Promise<void> {
  const ended = new Promise<void>((resolve, reject) => {
    stopping.addEventListener('abort', () => resolve(), { once: true });
    consumer.on(consumer.events.CRASH, ({ payload }) => {
      // It starts again by itself where the fault may pass.
      if (!payload.restart) reject(payload.error);
    });
  });
  consumer.on(consumer.events.GROUP_JOIN, () => metrics.rebalances.inc());
  const begin = async (): Promise<void> => {
    await consumer.connect();
    await consumer.subscribe({
      topics: settings.topics.map((t) => t.topic),
      fromBeginning: settings.start === 'earliest',
    });
    await consumer.run({
      // What is resolved is durable, and nothing else.
      eachBatchAutoResolve: false,
      eachBatch: async (payload) => {
        const source = sources.get(payload.batch.topic);
        if (source !== undefined) await takeBatch(payload, source, ingest, metrics);
      },
    });
  };
  // A stop does not wait for brokers that do not answer.
  await Promise.race([begin().then(() => ended), ended]);
}

async function takeBatch(
  delivery: EachBatchPayload,
  source: SourceDefinition,
  ingest: Ingest,
  metrics: KafkaMetrics,
): Promise<void> {
  const { batch } = delivery;
  const { topic, partition, messages } = batch;
  for (let from = 0; from < messages.length; from += MESSAGES_AT_ONCE) {
    if (!delivery.isRunning() || delivery.isStale()) return;
    const some = messages.slice(from, from + MESSAGES_AT_ONCE);
    const taken = await Promise.allSettled(
      some.map((message) => takeMessage(message, { topic, partition, source, ingest })),
    );
    for (const [i, result] of taken.entries()) {
      if (result.status === 'rejected') {
        metrics.refused.inc({ topic });
        // Nothing behind it is resolved: it is delivered again, with what follows.
        const resume = delivery.pause();
        setTimeout(resume, REFUSED_PAUSE_MS).unref();
        return;
      }
      const { offset } = some[i] ?? { offset: '' };
      delivery.resolveOffset(offset);
      metrics.messages.inc({ topic });
      const last = BigInt(batch.highWatermark) - 1n;
      metrics.waiting.set({ topic, partition: String(partition) }, Number(last - BigInt(offset)));
    }
    await delivery.heartbeat();
  }
}

interface Place {
  readonly topic: string;
  readonly partition: number;
  readonly source: SourceDefinition;
  readonly ingest: Ingest;
}

/** Resolves once the message's records are durable or dead letters; throws what may pass. */
async function takeMessage(message: KafkaMessage, place: Place): Promise<void> {
  const { source, ingest, topic, partition } = place;
  const value = message.value ?? Buffer.alloc(0);
  const contentHash = createHash('sha256')
    // The time tells a topic that was made anew from its predecessor.
    .update([source.id, 'kafka', topic, partition, message.offset, message.timestamp].join('\0'))
    .update('\0')
    .update(value)
    .digest('hex');
  const batch = { receiver: source.id, tables: [], contentHash };
  try {
    await ingest.ingest({ ...batch, records: recordsOf(value, source) });
  } catch (error) {
    if (!(error instanceof GrantscopeError) || error.retriable) throw error;
    // No sender waits for an answer, so what is wrong with the whole message is said of one record.
    const unreadable = { code: 'not_json', message: error.message } as const;
    await ingest.ingest({ ...batch, records: [{ source, unreadable }] });
  }
}

function* recordsOf(value: Buffer, source: SourceDefinition): Generator<SourcedRecord> {
  for (const cut of cutRecords(value, source))
    yield cut.ok ? { source, record: cut.record } : { source, unreadable: cut };
}

type KafkaMetrics = ReturnType<typeof kafkaMetrics>;

function kafkaMetrics(metrics: Metrics) {
  return {
    messages: metrics.counter(
      'grantscope_kafka_messages_total',
      'Messages of vendor topics whose records are durable.',
      ['topic'],
    ),
    refused: metrics.counter(
      'grantscope_kafka_messages_refused_total',
      'Messages that the durable buffer refused for now; their partition pauses, and they come again.',
      ['topic'],
    ),
    waiting: metrics.gauge(
      'grantscope_kafka_messages_waiting',
      'Messages of a partition behind the last one taken.',
      ['topic', 'partition'],
    ),
    restarts: metrics.counter(
      'grantscope_kafka_consumer_restarts_total',
      'Times the consumer gave up and was started again: brokers that do not answer, or a batch whose compression cannot be read.',
    ),
    rebalances: metrics.counter(
      'grantscope_kafka_rebalances_total',
      'Times this process joined its consumer group, at first or because partitions were shared out anew.',
    ),
  };
}
