import type { Clock } from './clock.ts';
import type { Config } from './config.ts';
import type { KeyRing } from './keyring.ts';
import type { Lifecycle } from './lifecycle.ts';
import type { Log } from './log.ts';
import type { Metrics } from './metrics.ts';
import type { Operations } from './operations.ts';
import type { Hints } from './signals.ts';

/** What every feature's `start` receives beside the store. Built once, in `cli/main.ts`. */
export interface Runtime {
  readonly config: Config;
  readonly log: Log;
  readonly metrics: Metrics;
  readonly clock: Clock;
  readonly lifecycle: Lifecycle;
  readonly keyRing: KeyRing;
  readonly hints: Hints;
  readonly operations: Operations;
}
