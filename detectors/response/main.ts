import { readFileSync } from 'node:fs';
import { importPKCS8, type CryptoKey } from 'jose';
import { riskLevel } from '../../model/risk.ts';
import type { Runtime } from '../../runtime/context.ts';
import { GrantscopeError, messageOf } from '../../runtime/errors.ts';
import type { Component } from '../../runtime/lifecycle.ts';
import type { CaepSettings, OcsfSettings } from '../../runtime/response_settings.ts';
import type { Store } from '../../store/client.ts';
import { readRaisedSubjects, readToldLevel } from '../../store/queries/deliveries.ts';
import { readRisk } from '../../store/queries/risk.ts';
import type { Scope } from '../../store/queries/scope.ts';
import { caepSink } from './caep.ts';
import { ocsfSink } from './ocsf.ts';
import { DeliveryQueue, type QueueMetrics } from './queue.ts';
import type { Sink } from './sink.ts';

/** Longest pause between two rounds, ms; a hint shortens it. */
const RESPONSE_INTERVAL_MS = 5_000;
/** Shortest pause, ms: several steps of one moment share a round. */
const RESPONSE_PAUSE_MS = 500;

/**
 * Starts to tell findings to the receivers of `response` in grantscope.yaml; does nothing where it names none. Throws
 * `config_invalid` where a file of it cannot be read or a key is none. Stopping waits for the messages under way; what is
 * left is told after the next start.
 */
export async function startResponse(runtime: Runtime, store: Store): Promise<Component> {
  const scope = { store, tenant: runtime.config.tenant };
  const { clock, log } = runtime;
  const metrics: QueueMetrics = {
    deliveries: runtime.metrics.counter(
      'grantscope_response_deliveries_total',
      'Steps of findings that were told, refused for good, skipped as no news, or that are tried again.',
      ['kind', 'status'],
    ),
    retryingSince: runtime.metrics.gauge(
      'grantscope_response_retrying_since_seconds',
      'When a receiver began to take nothing, Unix time; 0 while it takes what it is told.',
      ['sink'],
    ),
  };
  const sinks = await sinksOf(runtime, scope);
  const queues = sinks.map((sink) => new DeliveryQueue({ scope, sink, clock, log, metrics }));
  return new ResponseLoop(runtime, queues);
}

/** The sinks of the configuration; a CAEP receiver has one per event type. */
async function sinksOf(runtime: Runtime, scope: Scope): Promise<readonly Sink[]> {
  const { ocsf, caep } = runtime.config.response;
  const sinks: Sink[] = ocsf.map((settings, i) => ocsfOf(runtime, settings, `response.ocsf.${i}`));
  for (const [i, settings] of caep.entries()) {
    const path = `response.caep.${i}`;
    const key = await readKey(settings, path);
    for (const event of settings.events)
      sinks.push(
        caepSink({
          id: settings.id,
          event,
          severityMin: settings.severity_min,
          url: settings.url,
          issuer: settings.issuer,
          audience: settings.audience,
          key,
          keyId: settings.key_id,
          algorithm: settings.algorithm,
          token: secretOf(settings.token_file, `${path}.token_file`),
          ca: textOf(settings.ca_file, `${path}.ca_file`),
          revokeUpon: settings.revoke_upon,
          clock: runtime.clock,
          levelOf: async (subjectRef) => {
            const options = { atMs: runtime.clock.nowMs(), limit: 1, entityRef: subjectRef };
            const [risk] = await readRisk(scope, 'subject', options);
            return riskLevel(risk?.score ?? 0);
          },
          toldLevelOf: (sink, subjectRef) => readToldLevel(scope, sink, subjectRef),
          raisedSubjects: (sink) => readRaisedSubjects(scope, sink),
        }),
      );
  }
  return sinks;
}

function ocsfOf(runtime: Runtime, settings: OcsfSettings, path: string): Sink {
  const { id, severity_min, include_hidden, file, url, token_file, ca_file } = settings;
  const to =
    url === undefined
      ? { file: file ?? '' }
      : {
          url,
          token: secretOf(token_file, `${path}.token_file`),
          ca: textOf(ca_file, `${path}.ca_file`),
        };
  const consoleUrl =
    runtime.config.publicUrl ??
    `http://${runtime.config.apiListen.host}:${runtime.config.apiListen.port}`;
  const common = { id, severityMin: severity_min, includeHidden: include_hidden };
  return ocsfSink({ ...common, consoleUrl: consoleUrl.replace(/\/$/, ''), to });
}

async function readKey(settings: CaepSettings, path: string): Promise<CryptoKey> {
  const pem = textOf(settings.key_file, `${path}.key_file`) ?? '';
  try {
    return await importPKCS8(pem, settings.algorithm);
  } catch {
    // The reason could quote the key.
    throw invalid(`${path}.key_file`, `no PKCS #8 PEM key for ${settings.algorithm}`);
  }
}

function secretOf(file: string | undefined, path: string): string | undefined {
  const text = textOf(file, path)?.trim();
  if (text !== undefined && !/^[\x21-\x7e]+$/.test(text))
    throw invalid(path, 'must hold one token and nothing else');
  return text;
}

function textOf(file: string | undefined, path: string): string | undefined {
  if (file === undefined) return undefined;
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? String(error.code) : 'unreadable';
    throw invalid(path, `cannot be read (${code})`);
  }
}

function invalid(path: string, reason: string): GrantscopeError {
  return new GrantscopeError('config_invalid', `${path}: ${reason}`, { stage: 'starting' });
}

/** Rounds of all queues side by side, so that a receiver that is away keeps back no other. */
class ResponseLoop implements Component {
  readonly name = 'response';
  readonly #runtime: Runtime;
  readonly #queues: readonly DeliveryQueue[];
  readonly #unsubscribe: () => void;
  #timer: NodeJS.Timeout | undefined;
  #running: Promise<void> | undefined;
  #isWoken = false;
  #isStopped = false;

  constructor(runtime: Runtime, queues: readonly DeliveryQueue[]) {
    this.#runtime = runtime;
    this.#queues = queues;
    this.#unsubscribe = runtime.hints.on('findings_changed', () => {
      this.#isWoken = true;
      this.#schedule(RESPONSE_PAUSE_MS);
    });
    this.#schedule(0);
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    this.#unsubscribe();
    clearTimeout(this.#timer);
    await this.#running;
  }

  #schedule(delayMs: number): void {
    if (this.#isStopped || this.#running !== undefined || this.#queues.length === 0) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      this.#isWoken = false;
      this.#running = this.#round().finally(() => {
        this.#running = undefined;
        this.#schedule(this.#isWoken ? RESPONSE_PAUSE_MS : RESPONSE_INTERVAL_MS);
      });
    }, delayMs);
  }

  async #round(): Promise<void> {
    const rounds = await Promise.allSettled(this.#queues.map((q) => q.round()));
    for (const { reason } of rounds.filter((r) => r.status === 'rejected'))
      this.#runtime.log.error({ err: reason as unknown }, `response failed: ${messageOf(reason)}`);
  }
}
