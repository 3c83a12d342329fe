import { readFileSync } from 'node:fs';
import { Kafka, logLevel, type SASLOptions } from 'kafkajs';
import { GrantscopeError } from '../../runtime/errors.ts';
import type { KafkaSettings } from '../../runtime/kafka_settings.ts';
import type { Log } from '../../runtime/log.ts';
import { registerCodecs } from './compression.ts';

/** The name that brokers see in their logs. */
const CLIENT_ID = 'grantscope';
const CONNECT_MS_MAX = 10_000;

/** A client for the brokers of the settings. Throws `config_invalid` where a file cannot be read. */
export function openKafka(settings: KafkaSettings, log: Log): Kafka {
  registerCodecs();
  const { brokers, ca_file } = settings;
  const ca = ca_file === undefined ? undefined : [readSecret('ca_file', ca_file)];
  const sasl = saslOf(settings);
  return new Kafka({
    clientId: CLIENT_ID,
    brokers: [...brokers],
    connectionTimeout: CONNECT_MS_MAX,
    ssl: settings.tls && (ca === undefined ? true : { ca }),
    ...(sasl === undefined ? {} : { sasl }),
    // Beyond that the consumer starts anew, for ever.
    retry: { initialRetryTime: 300, maxRetryTime: 5_000, retries: 6 },
    logLevel: logLevel.WARN,
    logCreator:
      () =>
      ({ level, log: entry }) => {
        // Its texts name topics, partitions and brokers, never what messages hold.
        const { message, error, topic, partition, broker } = entry as unknown as Entry;
        const facts = { reason: error, topic, partition, broker };
        if (level <= logLevel.ERROR) log.warn(facts, `kafka: ${message}`);
        else log.debug(facts, `kafka: ${message}`);
      },
  });
}

interface Entry {
  readonly message: string;
  readonly error?: string;
  readonly topic?: string;
  readonly partition?: number;
  readonly broker?: string;
}

function saslOf({ sasl }: KafkaSettings): SASLOptions | undefined {
  if (sasl === undefined) return undefined;
  const { mechanism, username, password_file } = sasl;
  return { mechanism, username, password: readSecret('sasl.password_file', password_file).trim() };
}

function readSecret(setting: string, file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? 'unreadable';
    throw new GrantscopeError(
      'config_invalid',
      `grantscope.yaml: collector.kafka.${setting}: ${file} cannot be read (${code})`,
      { stage: 'starting' },
    );
  }
}
