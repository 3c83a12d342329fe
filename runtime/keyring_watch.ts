import { statSync } from 'node:fs';
import type { Clock } from './clock.ts';
import { messageOf } from './errors.ts';
import { readKeyFile } from './keyring_file.ts';
import type { KeyRing } from './keyring.ts';
import type { Component } from './lifecycle.ts';
import type { Log } from './log.ts';
import type { Metrics } from './metrics.ts';

/** How often the key file is looked at and a waiting key's time is checked, ms. */
export const KEY_POLL_MS = 1_000;

export interface KeyFollower {
  readonly keyRing: KeyRing;
  /** Undefined where the keys come from the environment: then only the time decides. */
  readonly keyFile: string | undefined;
  readonly clock: Pick<Clock, 'nowMs'>;
  /** The keys or their states changed. */
  readonly onChange?: () => void;
  /** A changed file could not be taken: the ring stays as it is. Called once for each version of the file. */
  readonly onFailure?: (error: unknown) => void;
}

/**
 * Keeps a ring in step with its key file and the time: `look` takes a changed file and lets a waiting key
 * take over. Polled rather than watched, since a rename and a network file system escape a watch.
 */
export function followKeys(options: KeyFollower): { look(): void } {
  const { keyRing, keyFile, clock } = options;
  // Unknown at first, so that a change between the opening of the ring and now is not missed.
  let taken: string | undefined;
  let refused: string | undefined;
  const takeFile = (file: string): boolean => {
    const version = versionOf(file);
    if (version === taken) return false;
    const before = describe(keyRing);
    try {
      keyRing.replace(readKeyFile(file), clock.nowMs());
    } catch (error) {
      // Tried again at each look, since it may be a passing failure; told once.
      if (version !== refused) options.onFailure?.(error);
      refused = version;
      return false;
    }
    taken = version;
    refused = undefined;
    return describe(keyRing) !== before;
  };
  return {
    look: () => {
      const isFileTaken = keyFile !== undefined && takeFile(keyFile);
      if (keyRing.advance(clock.nowMs()) || isFileTaken) options.onChange?.();
    },
  };
}

function versionOf(file: string): string {
  const stat = statSync(file, { throwIfNoEntry: false });
  return stat === undefined ? 'missing' : `${stat.ino} ${stat.mtimeMs} ${stat.size}`;
}

function describe(keyRing: KeyRing): string {
  return JSON.stringify(keyRing.keys);
}

/** Looks at once and then every `KEY_POLL_MS`; the timer keeps no process alive. */
export function pollKeys(options: KeyFollower): { stop(): void } {
  const follower = followKeys(options);
  follower.look();
  const timer = setInterval(() => follower.look(), KEY_POLL_MS);
  timer.unref();
  return { stop: () => clearInterval(timer) };
}

/**
 * The part of a server that takes a rotation up by itself: every process with the same key file changes
 * within `KEY_POLL_MS`. Each change is logged; metrics tell the age of the current key and what is to come.
 */
export function watchKeys(parts: {
  readonly keyRing: KeyRing;
  readonly keyFile: string | undefined;
  readonly clock: Clock;
  readonly log: Log;
  readonly metrics: Metrics;
}): Component {
  const { keyRing, clock, log, metrics } = parts;
  const age = metrics.gauge(
    'grantscope_hash_key_age_seconds',
    'Seconds that the current hash key has been making references; absent where nobody knows since when.',
    ['key_id'],
  );
  const takeover = metrics.gauge(
    'grantscope_hash_key_takeover_seconds',
    'Seconds until the next hash key takes over; absent while no rotation is in progress.',
    ['key_id'],
  );
  const incomplete = metrics.counter(
    'grantscope_hash_key_next_missing_total',
    'Events of instrumented services that do not know the next hash key: until they do, their tokens are lost sight of when it takes over.',
  );
  let counted = 0;
  const failures = metrics.counter(
    'grantscope_hash_key_file_failures_total',
    'Changed key files that could not be taken; the keys stay as they were.',
  );
  const measure = (): void => {
    const nowMs = clock.nowMs();
    incomplete.inc(keyRing.incomplete - counted);
    counted = keyRing.incomplete;
    age.reset();
    takeover.reset();
    for (const key of keyRing.keys) {
      const since = key.activeFromMs ?? key.createdAtMs;
      if (key.state === 'current' && since !== undefined)
        age.set({ key_id: key.id }, (nowMs - since) / 1_000);
      if (key.state === 'next' && key.activeFromMs !== undefined)
        takeover.set({ key_id: key.id }, (key.activeFromMs - nowMs) / 1_000);
    }
  };
  const follower = followKeys({
    ...parts,
    onChange: () => log.info({ keys: keyRing.keys.map(shown) }, 'hash keys changed'),
    onFailure: (error) => {
      failures.inc();
      log.error(
        { reason: messageOf(error) },
        'the changed key file cannot be taken: the keys stay as they were',
      );
    },
  });
  const tick = (): void => {
    follower.look();
    measure();
  };
  tick();
  const timer = setInterval(tick, KEY_POLL_MS);
  timer.unref();
  return {
    name: 'hash keys',
    stop: () => {
      clearInterval(timer);
      return Promise.resolve();
    },
  };
}

function shown(key: KeyRing['keys'][number]): Record<string, string> {
  return {
    id: key.id,
    state: key.state,
    ...(key.activeFromMs === undefined ? {} : { from: new Date(key.activeFromMs).toISOString() }),
  };
}
