import { fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { packageRoot } from '../../runtime/paths.ts';
import { cleanEnvironment } from '../server_process.ts';
import type { Command, Fault, Reply } from './faults.ts';

/** A ClickHouse server for tests: see main.ts. It keeps its port over restarts. */
export class StandIn {
  readonly #dataDir: string;
  #child: ChildProcess | undefined;
  #port = 0;
  #met: Readonly<Record<string, number>> = {};

  private constructor(dataDir: string) {
    this.#dataDir = dataDir;
  }

  static async start(dataDir: string): Promise<StandIn> {
    const standIn = new StandIn(dataDir);
    await standIn.start();
    return standIn;
  }

  get url(): string {
    return `http://127.0.0.1:${this.#port}`;
  }

  /** Requests that each fault met, since the last start. */
  get met(): Readonly<Record<string, number>> {
    return this.#met;
  }

  async start(): Promise<void> {
    this.#child = fork(
      join(packageRoot, 'test', 'clickhouse_stand_in', 'main.ts'),
      [this.#dataDir, String(this.#port)],
      { execArgv: ['--import', 'tsx'], env: cleanEnvironment({}), stdio: 'inherit' },
    );
    await this.#reply(this.#child);
  }

  /** Each request meets, with this probability, one of the faults. */
  async fail(faults: readonly Fault[], probability: number, seed = 1): Promise<void> {
    await this.#command({ do: 'fault', faults, probability, seed });
  }

  async heal(): Promise<void> {
    await this.fail([], 0);
  }

  /** Nothing listens any more. */
  away(): Promise<void> {
    return this.#command({ do: 'away' });
  }

  back(): Promise<void> {
    return this.#command({ do: 'back' });
  }

  /** Ends it by SIGKILL, in the middle of whatever it does. */
  async kill(): Promise<void> {
    const child = this.#child;
    this.#child = undefined;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const ended = once(child, 'exit');
    child.kill('SIGKILL');
    await ended;
  }

  async #command(command: Command): Promise<void> {
    if (this.#child === undefined) throw new Error('the stand-in does not run');
    const reply = this.#reply(this.#child);
    this.#child.send(command);
    await reply;
  }

  async #reply(child: ChildProcess): Promise<void> {
    const answered = new AbortController();
    const { signal } = answered;
    const ended = once(child, 'exit', { signal }).then(([code]) => {
      throw new Error(`the stand-in ended with ${String(code)}`);
    });
    // Aborted below, once it is not waited for any more.
    ended.catch(() => undefined);
    try {
      const [message] = (await Promise.race([once(child, 'message', { signal }), ended])) as [
        Reply,
      ];
      this.#port = message.port;
      this.#met = message.met;
    } finally {
      answered.abort();
    }
  }
}
