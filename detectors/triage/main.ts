import type { Runtime } from '../../runtime/context.ts';
import { GrantscopeError, messageOf } from '../../runtime/errors.ts';
import type { Component } from '../../runtime/lifecycle.ts';
import type { Store } from '../../store/client.ts';
import { expiryProblem } from '../../store/queries/suppressions.ts';
import { FULL_ROUND_INTERVAL_MS, Triage } from './triage.ts';

/** Ids that are remembered between two rounds; beyond, the next round looks at everything that is open. */
const PENDING_IDS_MAX = 10_000;

/**
 * Starts the triage of findings: a round whenever findings change, and at least every `FULL_ROUND_INTERVAL_MS`. Emits
 * `findings_changed` with what it decided about. Throws `config_invalid` where a suppression of grantscope.yaml is to
 * last too long. Stopping runs a last round: add it before the detectors, so that it stops after them.
 */
export function startTriage(runtime: Runtime, store: Store): Component {
  checkConfigured(runtime);
  const { tenant, suppressions } = runtime.config;
  const { clock, metrics } = runtime;
  return new TriageLoop(
    runtime,
    new Triage({ store, tenant, clock, metrics, configured: suppressions }),
  );
}

function checkConfigured({ config, clock, log }: Runtime): void {
  const nowMs = clock.nowMs();
  for (const [i, { expires_at }] of config.suppressions.entries()) {
    // One that has ended is history, not a mistake: it must not stop a restart.
    if (Date.parse(expires_at) <= nowMs) {
      log.warn({ suppression: i }, `suppressions.${i}: ended at ${expires_at}; it hides nothing`);
      continue;
    }
    const problem = expiryProblem(expires_at, nowMs);
    if (problem !== undefined)
      throw new GrantscopeError('config_invalid', `suppressions.${i}.expires_at: ${problem}`, {
        stage: 'starting',
      });
  }
}

class TriageLoop implements Component {
  readonly name = 'triage';
  readonly #runtime: Runtime;
  readonly #triage: Triage;
  readonly #unsubscribe: () => void;
  readonly #pending = new Set<string>();
  #timer: NodeJS.Timeout | undefined;
  #running: Promise<void> | undefined;
  #isStopped = false;

  constructor(runtime: Runtime, triage: Triage) {
    this.#runtime = runtime;
    this.#triage = triage;
    this.#unsubscribe = runtime.hints.on('findings_changed', ({ ids }) => {
      // What is left out here, the next look at everything finds.
      for (const id of ids) if (this.#pending.size < PENDING_IDS_MAX) this.#pending.add(id);
      if (ids.length > 0) this.#schedule(0);
    });
    this.#schedule(0);
  }

  async stop(): Promise<void> {
    if (this.#isStopped) return;
    this.#isStopped = true;
    this.#unsubscribe();
    clearTimeout(this.#timer);
    await this.#running;
    await this.#round();
  }

  #schedule(delayMs: number): void {
    if (this.#isStopped || this.#running !== undefined) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      this.#running = this.#round().finally(() => {
        this.#running = undefined;
        this.#schedule(this.#pending.size > 0 ? 0 : FULL_ROUND_INTERVAL_MS);
      });
    }, delayMs);
  }

  async #round(): Promise<void> {
    const ids = [...this.#pending];
    this.#pending.clear();
    try {
      const steps = await this.#triage.round(ids);
      const changed = steps.map((s) => s.finding_id);
      if (changed.length > 0) this.#runtime.hints.emit('findings_changed', { ids: changed });
      // Its own hint is no news to it.
      for (const id of changed) this.#pending.delete(id);
    } catch (error) {
      // The next look at everything finds what this round did not decide about.
      this.#runtime.log.error({ err: error }, `triage failed: ${messageOf(error)}`);
    }
  }
}
