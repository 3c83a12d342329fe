import type { Log } from './log.ts';

/**
 * A part of the process with a life. `stop` is safe before `start`, safe twice, and flushes: when it
 * resolves, everything that was accepted is durable and no timer or socket of the part is left.
 */
export interface Component {
  readonly name: string;
  stop(): Promise<void>;
  /** What of the part is under strain though it works, one short sentence each; `/readyz` shows them. */
  strains?(): readonly string[];
}

/** npm passes a Ctrl-C on to a process that got it from the terminal already: within this time it is one signal, ms. */
export const ECHO_MS = 500;

/** Stops components in reverse order of their registration, one after the other. */
export class Lifecycle {
  readonly #components: Component[] = [];
  readonly #log: Log;
  #stopping: Promise<void> | undefined;

  constructor(log: Log) {
    this.#log = log;
  }

  get isStopping(): boolean {
    return this.#stopping !== undefined;
  }

  /** Strains of all parts, by their names; parts without any are left out. */
  get strains(): Readonly<Record<string, readonly string[]>> {
    const all = this.#components.map((c) => [c.name, c.strains?.() ?? []] as const);
    return Object.fromEntries(all.filter(([, strains]) => strains.length > 0));
  }

  add(component: Component): void {
    this.#components.push(component);
  }

  /** Safe to call twice: the second call awaits the first. */
  stop(): Promise<void> {
    this.#stopping ??= this.#stopAll();
    return this.#stopping;
  }

  async #stopAll(): Promise<void> {
    for (const component of [...this.#components].reverse()) {
      try {
        await component.stop();
      } catch (error) {
        this.#log.error({ err: error, component: component.name }, 'component failed to stop');
      }
    }
  }

  /** First SIGTERM or SIGINT drains, a later one ends at once (exit code 130). */
  handleSignals(onStopped: () => void): void {
    let firstAtMs = 0;
    const onSignal = (signal: string): void => {
      if (this.isStopping) {
        if (performance.now() - firstAtMs > ECHO_MS) process.exit(130);
        return;
      }
      firstAtMs = performance.now();
      this.#log.info({ signal }, 'draining; a second signal ends at once');
      void this.stop().then(onStopped);
    };
    process.on('SIGTERM', onSignal);
    process.on('SIGINT', onSignal);
  }
}
