import type { ServerResponse } from 'node:http';
import type { Counter, Gauge } from 'prom-client';
import type { Runtime } from '../runtime/context.ts';
import { messageOf } from '../runtime/errors.ts';
import { findingsMark } from '../store/queries/findings.ts';
import { slosMark } from '../store/queries/slos.ts';
import type { Scope } from '../store/queries/scope.ts';
import {
  STREAM_BUFFER_BYTES_MAX,
  STREAM_CLIENTS_MAX,
  STREAM_HEARTBEAT_MS,
  STREAM_POLL_MS,
} from './limits.ts';
import { RequestProblem } from './problems.ts';

/** Finding ids named in one event; with more the reader loads the list anyway. */
const IDS_MAX = 100;

/**
 * Server-sent events for consoles: `findings_changed` with the ids where they are known, `slos_changed`.
 * Hints of this process pass on at once; a slow poll of the store finds what other processes wrote, while
 * anyone listens. An event only says "look again", so a lost one costs a poll interval, nothing more.
 */
export class EventStream {
  readonly #clients = new Set<ServerResponse>();
  readonly #runtime: Runtime;
  readonly #scope: Scope;
  readonly #unsubscribe: readonly (() => void)[];
  readonly #open: Gauge;
  readonly #limited: Counter<'limit'>;
  #heartbeat: NodeJS.Timeout | undefined;
  #poll: NodeJS.Timeout | undefined;
  #marks: { findings: string; slos: string } | undefined;
  #isStopped = false;

  constructor(runtime: Runtime, scope: Scope, limited: Counter<'limit'>) {
    this.#runtime = runtime;
    this.#scope = scope;
    this.#limited = limited;
    this.#open = runtime.metrics.gauge(
      'grantscope_api_stream_clients',
      'Open server-sent event streams.',
    );
    this.#unsubscribe = [
      runtime.hints.on('findings_changed', ({ ids }) =>
        this.#send('findings_changed', { ids: ids.slice(0, IDS_MAX) }),
      ),
      runtime.hints.on('slos_changed', () => this.#send('slos_changed', {})),
    ];
  }

  /** Takes over a response until its reader leaves or the server stops. Throws a problem when full. */
  attach(response: ServerResponse): void {
    if (this.#isStopped) throw new RequestProblem('shutting_down', 'the server is stopping');
    if (this.#clients.size >= STREAM_CLIENTS_MAX) {
      this.#limited.inc({ limit: 'stream_clients' });
      throw new RequestProblem(
        'rate_limited',
        `${STREAM_CLIENTS_MAX} streams are open, which is the most this server keeps`,
        undefined,
        { retryAfterSeconds: Math.ceil(STREAM_HEARTBEAT_MS / 1_000) },
      );
    }
    response.writeHead(200, {
      'content-type': 'text/event-stream; charset=utf-8',
      'x-accel-buffering': 'no',
    });
    this.#clients.add(response);
    this.#open.set(this.#clients.size);
    response.on('close', () => this.#detach(response));
    // A reader that reconnects must not wait longer than a poll would take.
    this.#write(response, `retry: ${STREAM_POLL_MS}\n\nevent: hello\ndata: {}\n\n`);
    this.#startTimers();
  }

  /** Ends every stream. Safe twice. */
  stop(): void {
    this.#isStopped = true;
    for (const unsubscribe of this.#unsubscribe) unsubscribe();
    for (const client of this.#clients) client.end();
    this.#clients.clear();
    this.#open.set(0);
    this.#stopTimers();
  }

  #detach(client: ServerResponse): void {
    this.#clients.delete(client);
    this.#open.set(this.#clients.size);
    if (this.#clients.size === 0) this.#stopTimers();
  }

  #send(event: string, data: object): void {
    const text = `event: ${event}\ndata: ${JSON.stringify(data)}\n\n`;
    for (const client of this.#clients) this.#write(client, text);
  }

  #write(client: ServerResponse, text: string): void {
    if (client.writableLength > STREAM_BUFFER_BYTES_MAX) {
      this.#limited.inc({ limit: 'stream_buffer' });
      client.destroy();
      return;
    }
    client.write(text);
  }

  #startTimers(): void {
    if (this.#heartbeat !== undefined) return;
    this.#heartbeat = setInterval(() => {
      for (const client of this.#clients) this.#write(client, ': alive\n\n');
    }, STREAM_HEARTBEAT_MS);
    this.#scheduleLook(0);
  }

  #stopTimers(): void {
    clearInterval(this.#heartbeat);
    clearTimeout(this.#poll);
    this.#heartbeat = undefined;
    this.#poll = undefined;
    this.#marks = undefined;
  }

  #scheduleLook(delayMs: number): void {
    this.#poll = setTimeout(() => {
      void this.#look().finally(() => {
        if (this.#heartbeat !== undefined) this.#scheduleLook(STREAM_POLL_MS);
      });
    }, delayMs);
  }

  async #look(): Promise<void> {
    try {
      const [findings, slos] = await Promise.all([
        findingsMark(this.#scope),
        slosMark(this.#scope),
      ]);
      const before = this.#marks;
      this.#marks = { findings, slos };
      if (before === undefined) return;
      if (before.findings !== findings) this.#send('findings_changed', { ids: [] });
      if (before.slos !== slos) this.#send('slos_changed', {});
    } catch (error) {
      this.#runtime.log.warn(
        { reason: messageOf(error) },
        'event stream: the store did not answer',
      );
    }
  }
}
