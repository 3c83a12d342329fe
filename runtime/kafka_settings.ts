import { z } from 'zod';
import { isLoopback } from './loopback.ts';

const Broker = z
  .string()
  .regex(
    /^(\[[0-9a-fA-F:]+\]|[^:\s]+):\d{1,5}$/,
    'must be host:port, for instance kafka.example.com:9093',
  );

const Topic = z.strictObject({
  topic: z
    .string()
    .regex(/^[a-zA-Z0-9._-]{1,249}$/, 'must be 1-249 of letters, digits, ".", "_" and "-"'),
  /** Whose records its messages hold: a source id. */
  source: z.string().min(1),
});

/**
 * `collector.kafka` of grantscope.yaml: topics that vendors and shippers write records to (Azure Event Hubs speaks the same
 * protocol: broker NAMESPACE.servicebus.windows.net:9093, user `$ConnectionString`).
 */
export const KafkaSettings = z
  .strictObject({
    brokers: z.array(Broker).min(1),
    topics: z.array(Topic).min(1),
    /** Consumer group; all processes of one name share the partitions. */
    group_id: z.string().min(1).max(255).default('grantscope'),
    /** Where a group without committed offsets begins. */
    start: z.enum(['earliest', 'latest']).default('earliest'),
    /** Off only for brokers on loopback. */
    tls: z.boolean().default(true),
    /** PEM file of certificate authorities; without it, those of Node.js. */
    ca_file: z.string().min(1).optional(),
    sasl: z
      .strictObject({
        mechanism: z.enum(['plain', 'scram-sha-256', 'scram-sha-512']),
        username: z.string().min(1),
        /** File with the password (of Event Hubs: the connection string). Read at start. */
        password_file: z.string().min(1),
      })
      .optional(),
  })
  .superRefine((settings, c) => {
    const hostOf = (broker: string): string =>
      broker.slice(0, broker.lastIndexOf(':')).replace(/^\[|\]$/g, '');
    if (!settings.tls && !settings.brokers.every((b) => isLoopback(hostOf(b))))
      c.addIssue({
        code: 'custom',
        path: ['tls'],
        message: 'may be false only where all brokers are on loopback',
      });
    const topics = settings.topics.map((t) => t.topic);
    if (new Set(topics).size < topics.length)
      c.addIssue({ code: 'custom', path: ['topics'], message: 'names a topic twice' });
  });
export type KafkaSettings = z.infer<typeof KafkaSettings>;
