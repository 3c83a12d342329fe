import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-http';
import { diag, type Tracer } from '@opentelemetry/api';
import { GrantscopeError, messageOf } from '../runtime/errors.ts';
import { keysOfEnvironment, readKeyFile } from '../runtime/keyring_file.ts';
import { pollKeys } from '../runtime/keyring_watch.ts';
import { HASH_KEY_LENGTH_MIN, KeyRing } from '../runtime/keyring.ts';
import { ExportLedger, type ExportStatistics } from './counting_exporter.ts';
import { node, resources, tracing } from './otel_sdk.ts';
import { AuthRecorder } from './recorder.ts';
import { RedactingSpanProcessor } from './redacting_span_processor.ts';

/** Spans that wait for the collector; beyond it new ones are dropped and counted. About 20 MB. */
export const SPAN_QUEUE_LENGTH_MAX = 16_384;
/** Spans of one request to the collector. */
export const SPAN_BATCH_LENGTH_MAX = 512;
/** A batch that is not full is sent after this, ms. */
export const EXPORT_INTERVAL_MS = 1_000;
/** One export with its retries, ms; then the batch counts as failed. */
export const EXPORT_TIMEOUT_MS = 10_000;

/** Longest wait of `flush` and `shutdown` for a collector that is away, ms. */
export const FLUSH_TIMEOUT_MS = 5_000;

export interface TelemetryOptions {
  /** `service.name`: names the emitting system in every event. */
  serviceName: string;
  /** Base address of the collector, e.g. `http://127.0.0.1:4318`; spans go to `/v1/traces` below it. */
  endpoint: string;
  /** The installation's `GRANTSCOPE_HASH_KEY`: the same everywhere, or references will not join. */
  hashKey?: string | undefined;
  /**
   * With `hashKey`, while the key is being changed: the key that takes over, and when, ms since the epoch. The
   * same as `GRANTSCOPE_HASH_KEY_NEXT` and `GRANTSCOPE_HASH_KEY_NEXT_FROM` of the collector.
   */
  nextHashKey?: { readonly key: string; readonly activeFromMs: number } | undefined;
  /** In place of `hashKey`: the collector's key file, which is read again when it changes. */
  keyFile?: string | undefined;
  /** `service.instance.id`, e.g. the host or pod. */
  instanceId?: string | undefined;
  /** Longest wait before a batch is sent, ms; default `EXPORT_INTERVAL_MS`. */
  exportIntervalMs?: number | undefined;
  /**
   * Makes this the process's tracer provider, so that other instrumentations export through it (redacted)
   * and share its traces. For a process that is one service; at most one per process.
   */
  registerGlobally?: boolean | undefined;
  /** Headers of each export, e.g. for a proxy that authenticates in front of the collector. */
  headers?: Readonly<Record<string, string>> | undefined;
  /** Called once when exports begin to fail, and again after they have recovered and fail anew. */
  onExportFailure?: ((message: string) => void) | undefined;
  /** What sends the spans, in place of OTLP over HTTP to `endpoint`. */
  exporter?: tracing.SpanExporter | undefined;
}

export interface Telemetry {
  readonly recorder: AuthRecorder;
  /** For spans of the host's own; they leave redacted like all others. */
  readonly tracer: Tracer;
  readonly statistics: ExportStatistics;
  /** Sends what is queued; resolves also when the collector is away, after `FLUSH_TIMEOUT_MS` at most. */
  flush(): Promise<void>;
  /** Flushes, then closes; waits as long as `flush` does. Safe to call twice. */
  shutdown(): Promise<void>;
}

/**
 * Starts telemetry for one service. Every span is sampled: an auth event that sampling dropped would be a
 * blind spot of detection. Throws `config_invalid` for a short key or an address that is no http URL;
 * after that nothing throws, whether the collector answers or not.
 */
export function startTelemetry(options: TelemetryOptions): Telemetry {
  checkOptions(options);
  const ledger = new ExportLedger(SPAN_QUEUE_LENGTH_MAX, options.onExportFailure);
  const exporter = ledger.watch(options.exporter ?? otlpExporter(options));
  const provider = new node.NodeTracerProvider({
    resource: resources.resourceFromAttributes({
      'service.name': options.serviceName,
      ...(options.instanceId === undefined ? {} : { 'service.instance.id': options.instanceId }),
    }),
    sampler: new tracing.AlwaysOnSampler(),
    spanProcessors: [new RedactingSpanProcessor(boundedBatches(ledger, exporter, options))],
  });
  if (options.registerGlobally === true) provider.register();
  const tracer = provider.getTracer('grantscope');
  const keyRing = openKeys(options);
  const keys = pollKeys({
    ...{ keyRing, keyFile: options.keyFile, clock: { nowMs: () => Date.now() } },
    onFailure: (error) => diag.error('grantscope: the key file cannot be taken', messageOf(error)),
  });
  let closing: Promise<void> | undefined;
  return {
    recorder: new AuthRecorder({ tracer, keyRing }),
    tracer,
    get statistics() {
      return ledger.statistics;
    },
    flush: () => patiently(provider.forceFlush()),
    shutdown: () => {
      keys.stop();
      return (closing ??= patiently(provider.shutdown()));
    },
  };
}

function openKeys(options: TelemetryOptions): KeyRing {
  const { hashKey, nextHashKey, keyFile } = options;
  if (keyFile !== undefined) return new KeyRing(readKeyFile(keyFile));
  return new KeyRing(keysOfEnvironment({ hashKey, nextHashKey }));
}

/** Waits for the work, within reason; its failure is in the statistics already. */
async function patiently(work: Promise<void>): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const enough = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, FLUSH_TIMEOUT_MS);
  });
  await Promise.race([work.catch(() => undefined), enough]);
  clearTimeout(timer);
}

function checkOptions(options: TelemetryOptions): void {
  const refuse = (message: string): never => {
    throw new GrantscopeError('config_invalid', `telemetry: ${message}`, { stage: 'starting' });
  };
  if (options.serviceName === '') refuse('serviceName: is empty; allowed: any name');
  const { hashKey, nextHashKey, keyFile } = options;
  if ((hashKey === undefined) === (keyFile === undefined)) {
    refuse('hashKey, keyFile: give one of the two, the same as the collector has');
  }
  if (nextHashKey !== undefined && hashKey === undefined) {
    refuse('nextHashKey: goes with hashKey; a key file holds the next key itself');
  }
  for (const key of [hashKey, nextHashKey?.key]) {
    if (key !== undefined && key.length < HASH_KEY_LENGTH_MIN) {
      refuse(`hashKey: must be at least ${HASH_KEY_LENGTH_MIN} characters, as the collector's`);
    }
  }
  if (options.exporter === undefined && !isHttpUrl(options.endpoint)) {
    refuse('endpoint: must be an http or https URL, for instance http://127.0.0.1:4318');
  }
}

function isHttpUrl(text: string): boolean {
  return URL.canParse(text) && /^https?:$/.test(new URL(text).protocol);
}

function otlpExporter(options: TelemetryOptions): tracing.SpanExporter {
  return new OTLPTraceExporter({
    url: `${options.endpoint.replace(/\/+$/, '')}/v1/traces`,
    timeoutMillis: EXPORT_TIMEOUT_MS,
    ...(options.headers === undefined ? {} : { headers: { ...options.headers } }),
  });
}

/** The SDK's batch processor behind a gate that knows how many spans wait. */
function boundedBatches(
  ledger: ExportLedger,
  exporter: tracing.SpanExporter,
  options: TelemetryOptions,
): tracing.SpanProcessor {
  const batches = new tracing.BatchSpanProcessor(exporter, {
    // The ledger is the limit; this one only has to be wider.
    maxQueueSize: SPAN_QUEUE_LENGTH_MAX + SPAN_BATCH_LENGTH_MAX,
    maxExportBatchSize: SPAN_BATCH_LENGTH_MAX,
    scheduledDelayMillis: options.exportIntervalMs ?? EXPORT_INTERVAL_MS,
    exportTimeoutMillis: EXPORT_TIMEOUT_MS,
  });
  return {
    onStart: (span, context) => batches.onStart(span, context),
    onEnd: (span) => {
      if (ledger.admit()) batches.onEnd(span);
    },
    forceFlush: async () => {
      try {
        await batches.forceFlush();
      } finally {
        // What the timer had begun to send before.
        await exporter.forceFlush?.();
      }
    },
    shutdown: () => batches.shutdown(),
  };
}
