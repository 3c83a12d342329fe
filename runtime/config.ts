import { existsSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { parse as parseYaml, YAMLParseError } from 'yaml';
import { z } from 'zod';
import { SuppressionRequest } from '../model/suppression.ts';
import { CLIENT_TYPES } from '../model/client_metadata.ts';
import { CollectorSettings } from './collector_settings.ts';
import { EnrichmentSettings } from './enrichment_settings.ts';
import { GrantscopeError } from './errors.ts';
import { HASH_KEY_LENGTH_MIN } from './keyring.ts';
import { LOG_LEVELS } from './log.ts';
import { isLoopback } from './loopback.ts';
import { RedactionSettings } from './redaction_settings.ts';
import { ResponseSettings } from './response_settings.ts';

const megabytes = (n: number): number => n * 1024 * 1024;

/** `host:port`; an IPv6 host in brackets. Port 0 takes a free one. */
const Listen = z
  .string()
  .regex(/^(\[[0-9a-fA-F:]+\]|[^:\s]+):\d{1,5}$/, 'must be host:port, for instance 127.0.0.1:4318')
  .transform((text) => {
    const at = text.lastIndexOf(':');
    return { host: text.slice(0, at).replace(/^\[|\]$/g, ''), port: Number(text.slice(at + 1)) };
  })
  .refine((l) => l.port <= 65_535, 'the port must be at most 65535');
export type Listen = z.infer<typeof Listen>;

const HttpUrl = z.url({ protocol: /^https?$/, error: 'must be an http or https URL' });
const Count = (fallback: number, min: number, max: number): z.ZodType<number> =>
  z.coerce.number().int().min(min).max(max).default(fallback);

const Environment = z.object({
  GRANTSCOPE_DATA_DIR: z
    .string()
    .min(1)
    .default('./data')
    .describe('Folder of the embedded store, the durable buffer and the key file.'),
  GRANTSCOPE_CONFIG: z
    .string()
    .min(1)
    .optional()
    .describe('Path of grantscope.yaml; without it, ./grantscope.yaml where that exists.'),
  GRANTSCOPE_HASH_KEY: z
    .string()
    .min(HASH_KEY_LENGTH_MIN, `must be at least ${HASH_KEY_LENGTH_MIN} characters of random text`)
    .optional()
    .describe(
      'Secret key of all references. Without it, a key file is made in the data directory on the first start.',
    ),
  GRANTSCOPE_HASH_KEY_NEXT: z
    .string()
    .min(HASH_KEY_LENGTH_MIN, `must be at least ${HASH_KEY_LENGTH_MIN} characters of random text`)
    .optional()
    .describe(
      'Key that takes over from GRANTSCOPE_HASH_KEY at GRANTSCOPE_HASH_KEY_NEXT_FROM; until then every token is stored under both.',
    ),
  GRANTSCOPE_HASH_KEY_NEXT_FROM: z.iso
    .datetime({ error: 'must be a time in UTC, for instance 2026-01-31T00:00:00Z' })
    .optional()
    .describe(
      'When GRANTSCOPE_HASH_KEY_NEXT takes over: at least the longest token life after it was set everywhere.',
    ),
  GRANTSCOPE_HASH_KEY_PREVIOUS: z
    .string()
    .optional()
    .describe(
      'Earlier values of GRANTSCOPE_HASH_KEY, latest first, with commas between: what they named is still found.',
    ),
  GRANTSCOPE_COLLECTOR_LISTEN: Listen.prefault('127.0.0.1:4318').describe(
    'Where the collector listens; loopback only.',
  ),
  GRANTSCOPE_API_LISTEN: Listen.prefault('127.0.0.1:7400').describe(
    'Where the API and the console listen; loopback only.',
  ),
  GRANTSCOPE_LOG_LEVEL: z.enum(LOG_LEVELS).default('info').describe('JSON logs on standard error.'),
  GRANTSCOPE_PUBLIC_URL: HttpUrl.optional().describe(
    'Address of the console as people reach it, for links in alerts.',
  ),
  GRANTSCOPE_TENANT: z
    .string()
    .regex(
      /^[a-z0-9][a-z0-9_-]{0,62}$/,
      'must be 1-63 of a-z, 0-9, _ and -, and start with a letter or digit',
    )
    .default('default')
    .describe('Tenant that this process reads and writes.'),
  GRANTSCOPE_ENGINE_MEMORY_BYTES_MAX: z.coerce
    .number()
    .int()
    .min(megabytes(512))
    .optional()
    .describe(
      'Memory of this process beyond which the embedded engine refuses queries, bytes; without it, half of what the process may use.',
    ),
  CLICKHOUSE_URL: HttpUrl.optional().describe(
    'ClickHouse server; without it the embedded engine is used.',
  ),
  CLICKHOUSE_USER: z.string().optional().describe('User at the ClickHouse server.'),
  CLICKHOUSE_PASSWORD: z.string().optional().describe('Password at the ClickHouse server.'),
  CLICKHOUSE_TIMEOUT_SECONDS: Count(30, 1, 600).describe(
    'How long a ClickHouse server may take to answer, seconds; an insert without an answer is repeated, and counts once.',
  ),
  ALERTMANAGER_URL: HttpUrl.optional().describe(
    'Alertmanager that findings and burn alerts are sent to.',
  ),
  GRANTSCOPE_ALERTMANAGER_TOKEN_FILE: z
    .string()
    .min(1)
    .optional()
    .describe(
      'File with the token by which Alertmanager tells what it sent to whom; without it, that is refused.',
    ),
  PROMETHEUS_URL: HttpUrl.optional().describe(
    'Prometheus that the boards of the console ask; without it, panels over its metrics say so.',
  ),
  OTEL_EXPORTER_OTLP_ENDPOINT: HttpUrl.optional().describe(
    'Where the traces of Grantscope itself go; off without it.',
  ),
  GRANTSCOPE_BODY_BYTES_MAX: Count(megabytes(20), 1_024, megabytes(512)).describe(
    'Largest request body, bytes, before and after decompression.',
  ),
  GRANTSCOPE_REQUESTS_IN_FLIGHT_MAX: Count(256, 1, 65_536).describe(
    'Requests that the collector works on at a time; one more is answered with 503.',
  ),
  GRANTSCOPE_BODY_BYTES_IN_FLIGHT_MAX: Count(megabytes(128), 1_024, megabytes(16_384)).describe(
    'Bytes of request bodies in memory at a time, over all requests, at least two of the largest; beyond, 503.',
  ),
  GRANTSCOPE_BODY_DEADLINE_MS: Count(30_000, 50, 600_000).describe(
    'Longest time for the body of a request to arrive, ms; then 408.',
  ),
  GRANTSCOPE_CONNECTIONS_MAX: Count(4_096, 1, 65_536).describe(
    'Connections that the collector holds at a time; one more is closed at once.',
  ),
  GRANTSCOPE_SPOOL_BYTES_MAX: Count(megabytes(1_024), 1, megabytes(1_048_576)).describe(
    'Bytes in the durable buffer beyond which the collector answers 503.',
  ),
  GRANTSCOPE_COMMIT_INTERVAL_MS: Count(4, 0, 1_000).describe(
    'Longest wait before a group commit, ms.',
  ),
  GRANTSCOPE_SEGMENT_AGE_MS_MAX: Count(1_000, 10, 60_000).describe(
    'A segment is handed to the store at this age, ms (three times that where it fills fast: more than a twentieth of its rows by then), ...',
  ),
  GRANTSCOPE_SEGMENT_ROWS_MAX: Count(100_000, 1, 1_000_000).describe(
    '... or at this number of rows.',
  ),
  GRANTSCOPE_DEAD_LETTERS_PER_MINUTE_MAX: Count(6_000, 0, 1_000_000).describe(
    'Refused records that are kept, redacted, each minute; the rest is only counted.',
  ),
  GRANTSCOPE_REQUEST_WINDOW_HOURS: Count(72, 1, 720).describe(
    'How long a request that was stored is recognised when it is sent again, hours; events with an id of their own also beyond it.',
  ),
  GRANTSCOPE_DETECT_INTERVAL_MS: Count(1_000, 50, 600_000).describe(
    'Longest pause between two detection cycles, ms.',
  ),
  GRANTSCOPE_SLO_INTERVAL_MS: Count(10_000, 100, 600_000).describe(
    'Pause between two computations of the SLO states, ms.',
  ),
});

/** RFC 7591 section 2 names where there is one. */
const ClientEntry = z.strictObject({
  client_id: z.string().min(1),
  client_name: z.string().optional(),
  redirect_uris: z.array(z.string()).optional(),
  /** Scopes the client may be granted. */
  scope: z.string().optional(),
  grant_types: z.array(z.string()).optional(),
  response_types: z.array(z.string()).optional(),
  token_endpoint_auth_method: z.string().optional(),
  /** RFC 6749 section 2.1; follows from token_endpoint_auth_method where it is left out. */
  client_type: z.enum(CLIENT_TYPES).optional(),
  /** Ids of the client's own keys. */
  jwks_kids: z.array(z.string()).optional(),
  /** Whether a client secret is set; follows from token_endpoint_auth_method where it is left out. */
  has_secret: z.boolean().optional(),
  /** When the client was registered, epoch seconds. */
  client_id_issued_at: z.number().int().min(0).optional(),
});
export type ClientEntry = z.infer<typeof ClientEntry>;

const YamlFile = z.strictObject({
  /** Registered clients, where registration events do not reach Grantscope. */
  clients: z.array(ClientEntry).default([]),
  /** Parameters per detector id; each detector checks its own at start. */
  detectors: z.record(z.string(), z.record(z.string(), z.unknown())).default({}),
  /** Findings that are kept and shown, but not notified: each with an owner, a reason and an end. */
  suppressions: z.array(SuppressionRequest).default([]),
  /** Whom findings are told besides Alertmanager: OCSF for a SIEM, CAEP for whoever can end sessions. Nobody by default. */
  response: ResponseSettings.prefault({}),
  /** Overrides per SLO id. */
  slos: z
    .record(
      z.string(),
      z.strictObject({
        objective: z.number().gt(0).lt(1).optional(),
        enabled: z.boolean().optional(),
        shadow: z.boolean().optional(),
      }),
    )
    .default({}),
  /** How much each source may send, by source id; OTLP as a whole is `otlp`. Beyond, 429. */
  sources: z
    .record(
      z.string(),
      z.strictObject({
        /** Records (spans and log records) a second. */
        records_per_second: z.number().gt(0).optional(),
        /** Bytes of bodies a second, after decompression. */
        bytes_per_second: z.number().gt(0).optional(),
        /** Seconds' worth that may come at once after a pause. */
        burst_seconds: z.number().gt(0).max(3_600).default(2),
      }),
    )
    .default({}),
  /** Who may push records, and where the collector itself fetches them. */
  collector: CollectorSettings.prefault({}),
  /** What is dropped beyond the product's own rules, and what becomes of addresses. */
  redaction: RedactionSettings.prefault({}),
  /** Databases that say of an address what system, country and kind of network it is of. */
  enrichment: EnrichmentSettings.prefault({}),
  keys: z
    .strictObject({
      /** Longest life of a token, days: how long two keys overlap in a rotation, at least. */
      token_life_days: z.number().int().min(1).max(3_650).default(30),
    })
    .prefault({}),
  retention: z
    .strictObject({
      events_days: z.number().int().min(1).max(3_650).default(90),
      traces_days: z.number().int().min(1).max(3_650).default(14),
      findings_days: z.number().int().min(1).max(3_650).default(730),
      /** Refused records, redacted, that wait for `grantscope replay-dead-letters`. */
      dead_letters_days: z.number().int().min(1).max(3_650).default(30),
    })
    .prefault({}),
});
export type YamlConfig = z.infer<typeof YamlFile>;

export interface Config extends YamlConfig {
  readonly dataDir: string;
  /** Undefined: half of what the process may use. */
  readonly engineMemoryBytesMax: number | undefined;
  readonly keyFile: string;
  readonly hashKey: string | undefined;
  readonly nextHashKey: { readonly key: string; readonly activeFromMs: number } | undefined;
  readonly previousHashKeys: readonly string[];
  readonly collectorListen: Listen;
  readonly apiListen: Listen;
  readonly publicUrl: string | undefined;
  readonly logLevel: (typeof LOG_LEVELS)[number];
  readonly tenant: string;
  readonly clickhouse:
    | {
        url: string;
        username: string | undefined;
        password: string | undefined;
        timeoutMs: number;
      }
    | undefined;
  readonly alertmanagerUrl: string | undefined;
  readonly alertmanagerTokenFile: string | undefined;
  readonly prometheusUrl: string | undefined;
  readonly otlpEndpoint: string | undefined;
  readonly bodyBytesMax: number;
  readonly requestsInFlightMax: number;
  readonly bodyBytesInFlightMax: number;
  readonly bodyDeadlineMs: number;
  readonly connectionsMax: number;
  readonly spoolBytesMax: number;
  readonly commitIntervalMs: number;
  readonly segmentAgeMsMax: number;
  readonly segmentRowsMax: number;
  readonly requestWindowHours: number;
  readonly deadLettersPerMinuteMax: number;
  readonly detectIntervalMs: number;
  readonly sloIntervalMs: number;
}

/**
 * Reads and checks the whole configuration once. Throws `config_invalid` with every wrong key, its
 * reason and what is allowed. Listening on an address that others can reach is refused: this version
 * has no authentication on its servers.
 */
export function loadConfig(environment: Readonly<Record<string, string | undefined>>): Config {
  const env = check(Environment, withoutEmpty(environment), 'environment');
  refuseUnknownKeys(environment);
  if (withoutEmpty(environment)['KAFKA_BROKERS'] !== undefined) {
    throw new GrantscopeError(
      'config_invalid',
      'environment: KAFKA_BROKERS: this version has no Kafka queue; leave it unset (the durable buffer hands segments straight to the store)',
      { stage: 'starting' },
    );
  }
  for (const key of ['GRANTSCOPE_COLLECTOR_LISTEN', 'GRANTSCOPE_API_LISTEN'] as const) {
    if (!isLoopback(env[key].host)) {
      throw new GrantscopeError(
        'config_invalid',
        `environment: ${key}: ${env[key].host} can be reached by others, and this version has no authentication; allowed: 127.0.0.0/8, ::1, localhost (put a proxy that authenticates in front)`,
        { stage: 'starting' },
      );
    }
  }
  const dataDir = resolve(env.GRANTSCOPE_DATA_DIR);
  const yaml = readYaml(env.GRANTSCOPE_CONFIG);
  return { ...yaml, ...fromEnvironment(env, dataDir) };
}

function fromEnvironment(
  env: z.infer<typeof Environment>,
  dataDir: string,
): Omit<Config, keyof YamlConfig> {
  return {
    dataDir,
    engineMemoryBytesMax: env.GRANTSCOPE_ENGINE_MEMORY_BYTES_MAX,
    keyFile: join(dataDir, 'keys.json'),
    ...hashKeysOf(env),
    collectorListen: env.GRANTSCOPE_COLLECTOR_LISTEN,
    apiListen: env.GRANTSCOPE_API_LISTEN,
    publicUrl: env.GRANTSCOPE_PUBLIC_URL,
    logLevel: env.GRANTSCOPE_LOG_LEVEL,
    tenant: env.GRANTSCOPE_TENANT,
    clickhouse:
      env.CLICKHOUSE_URL === undefined
        ? undefined
        : {
            url: env.CLICKHOUSE_URL,
            username: env.CLICKHOUSE_USER,
            password: env.CLICKHOUSE_PASSWORD,
            timeoutMs: env.CLICKHOUSE_TIMEOUT_SECONDS * 1_000,
          },
    alertmanagerUrl: env.ALERTMANAGER_URL,
    alertmanagerTokenFile: env.GRANTSCOPE_ALERTMANAGER_TOKEN_FILE,
    prometheusUrl: env.PROMETHEUS_URL,
    otlpEndpoint: env.OTEL_EXPORTER_OTLP_ENDPOINT,
    bodyBytesMax: env.GRANTSCOPE_BODY_BYTES_MAX,
    requestsInFlightMax: env.GRANTSCOPE_REQUESTS_IN_FLIGHT_MAX,
    bodyBytesInFlightMax: env.GRANTSCOPE_BODY_BYTES_IN_FLIGHT_MAX,
    bodyDeadlineMs: env.GRANTSCOPE_BODY_DEADLINE_MS,
    connectionsMax: env.GRANTSCOPE_CONNECTIONS_MAX,
    spoolBytesMax: env.GRANTSCOPE_SPOOL_BYTES_MAX,
    commitIntervalMs: env.GRANTSCOPE_COMMIT_INTERVAL_MS,
    segmentAgeMsMax: env.GRANTSCOPE_SEGMENT_AGE_MS_MAX,
    segmentRowsMax: env.GRANTSCOPE_SEGMENT_ROWS_MAX,
    requestWindowHours: env.GRANTSCOPE_REQUEST_WINDOW_HOURS,
    deadLettersPerMinuteMax: env.GRANTSCOPE_DEAD_LETTERS_PER_MINUTE_MAX,
    detectIntervalMs: env.GRANTSCOPE_DETECT_INTERVAL_MS,
    sloIntervalMs: env.GRANTSCOPE_SLO_INTERVAL_MS,
  };
}

function hashKeysOf(
  env: z.infer<typeof Environment>,
): Pick<Config, 'hashKey' | 'nextHashKey' | 'previousHashKeys'> {
  const hashKey = env.GRANTSCOPE_HASH_KEY;
  const next = env.GRANTSCOPE_HASH_KEY_NEXT;
  const from = env.GRANTSCOPE_HASH_KEY_NEXT_FROM;
  const previousHashKeys = (env.GRANTSCOPE_HASH_KEY_PREVIOUS ?? '')
    .split(',')
    .map((k) => k.trim())
    .filter((k) => k !== '');
  const refuse = (message: string): never => {
    throw new GrantscopeError('config_invalid', `environment: ${message}`, { stage: 'starting' });
  };
  if (hashKey === undefined && (next !== undefined || previousHashKeys.length > 0)) {
    refuse(
      'GRANTSCOPE_HASH_KEY_NEXT and GRANTSCOPE_HASH_KEY_PREVIOUS go with GRANTSCOPE_HASH_KEY; without it, the key file holds the keys: see grantscope keys',
    );
  }
  if ((next === undefined) !== (from === undefined)) {
    refuse('GRANTSCOPE_HASH_KEY_NEXT and GRANTSCOPE_HASH_KEY_NEXT_FROM: set both or neither');
  }
  if (previousHashKeys.some((k) => k.length < HASH_KEY_LENGTH_MIN)) {
    refuse(
      `GRANTSCOPE_HASH_KEY_PREVIOUS: each key must be at least ${HASH_KEY_LENGTH_MIN} characters`,
    );
  }
  return {
    hashKey,
    nextHashKey:
      next === undefined || from === undefined
        ? undefined
        : { key: next, activeFromMs: Date.parse(from) },
    previousHashKeys,
  };
}

function withoutEmpty(
  environment: Readonly<Record<string, string | undefined>>,
): Record<string, string> {
  return Object.fromEntries(
    Object.entries(environment).filter(
      (e): e is [string, string] => e[1] !== undefined && e[1] !== '',
    ),
  );
}

/** A misspelt GRANTSCOPE_ variable would otherwise be ignored in silence. */
function refuseUnknownKeys(environment: Readonly<Record<string, string | undefined>>): void {
  const known = new Set(Object.keys(Environment.shape));
  const unknown = Object.keys(environment).filter(
    (k) => k.startsWith('GRANTSCOPE_') && !known.has(k),
  );
  if (unknown.length > 0) {
    const allowed = [...known].filter((k) => k.startsWith('GRANTSCOPE_')).join(', ');
    throw new GrantscopeError(
      'config_invalid',
      `environment: unknown ${unknown.join(', ')}; allowed: ${allowed}`,
      { stage: 'starting' },
    );
  }
}

function readYaml(path: string | undefined): YamlConfig {
  const file = resolve(path ?? 'grantscope.yaml');
  if (!existsSync(file)) {
    if (path !== undefined)
      throw new GrantscopeError('config_invalid', `GRANTSCOPE_CONFIG: no file at ${file}`, {
        stage: 'starting',
      });
    return check(YamlFile, {}, file);
  }
  let raw: unknown;
  try {
    raw = parseYaml(readFileSync(file, 'utf8')) ?? {};
  } catch (error) {
    const where = error instanceof YAMLParseError ? error.message.split('\n')[0] : 'unreadable';
    throw new GrantscopeError('config_invalid', `${file}: ${where ?? ''}`, { stage: 'starting' });
  }
  return check(YamlFile, raw, file);
}

function check<T extends z.ZodType>(schema: T, value: unknown, origin: string): z.infer<T> {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const problems = parsed.error.issues.map(
    (i) => `${i.path.join('.') || '(top level)'}: ${i.message}`,
  );
  throw new GrantscopeError('config_invalid', `${origin}: ${problems.join('; ')}`, {
    stage: 'starting',
  });
}

export { isLoopback };

/** JSON Schemas of the environment and of grantscope.yaml, for the reference docs and for editors. */
export function configSchemas(): { environment: unknown; yaml: unknown } {
  const options = { io: 'input', unrepresentable: 'any' } as const;
  return {
    environment: z.toJSONSchema(Environment, options),
    yaml: z.toJSONSchema(YamlFile, options),
  };
}
