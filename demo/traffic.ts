import { createRandom } from './random.ts';
import { setTimeout as wait } from 'node:timers/promises';
import { messageOf } from '../runtime/errors.ts';
import { createTown, FLOWS, FLOW_WEIGHTS, type FlowName, type Town } from './flows.ts';
import type { World } from './world.ts';

/** Flows a minute unless `--rate` says otherwise: every screen has data within a minute. */
export const FLOWS_PER_MINUTE = 90;
/** Flows at the same time; one that would exceed it is skipped and counted. */
export const CONCURRENT_FLOWS_MAX = 40;
/** The same when honest traffic is compressed in time. */
const COMPRESSED_CONCURRENCY = 8;
/** Different failures kept for the summary. */
const FAILURE_KINDS_MAX = 50;

export interface TrafficStatistics {
  /** Flows that ended as they should, trouble included. */
  readonly done: ReadonlyMap<FlowName, number>;
  /** Flows that broke off with an error of the demo itself, by flow and message. */
  readonly failures: ReadonlyMap<string, number>;
  /** Flows that were due while `CONCURRENT_FLOWS_MAX` were running. */
  readonly skipped: number;
}

class Tally implements TrafficStatistics {
  readonly done = new Map<FlowName, number>();
  readonly failures = new Map<string, number>();
  skipped = 0;

  async count(name: FlowName, town: Town): Promise<void> {
    try {
      await FLOWS[name](town);
      this.done.set(name, (this.done.get(name) ?? 0) + 1);
    } catch (error) {
      const key = `${name}: ${messageOf(error)}`;
      const known = this.failures.has(key) || this.failures.size < FAILURE_KINDS_MAX;
      const slot = known ? key : 'others';
      this.failures.set(slot, (this.failures.get(slot) ?? 0) + 1);
    }
  }
}

export interface Traffic {
  readonly statistics: TrafficStatistics;
  /** Starts no more flows and waits for those that run. Safe to call twice. */
  stop(): Promise<void>;
}

/** Steady honest traffic: flows arrive at random moments, as independent people make them. */
export function startTraffic(
  world: World,
  options: { readonly flowsPerMinute: number } = { flowsPerMinute: FLOWS_PER_MINUTE },
): Traffic {
  const tally = new Tally();
  const town = createTown(world);
  const running = new Set<Promise<void>>();
  const stopping = new AbortController();
  const isStopping = (): boolean => stopping.signal.aborted;
  const arrive = async (): Promise<void> => {
    while (!isStopping()) {
      const gapMs = world.random.exponential(60_000 / options.flowsPerMinute);
      await wait(gapMs, undefined, { signal: stopping.signal }).catch(() => undefined);
      if (isStopping()) return;
      if (running.size >= CONCURRENT_FLOWS_MAX) {
        tally.skipped += 1;
        continue;
      }
      const flow = tally.count(world.random.weighted(FLOW_WEIGHTS), town);
      running.add(flow);
      void flow.finally(() => running.delete(flow));
    }
  };
  const arrivals = arrive();
  return {
    statistics: tally,
    stop: async () => {
      stopping.abort();
      await arrivals;
      await Promise.all(running);
    },
  };
}

/** The same traffic as fast as it goes: `flows` of them, a few at a time, until `signal` fires. */
export async function runTraffic(
  world: World,
  flows: number,
  signal?: AbortSignal,
  onProgress: (done: number) => void = () => undefined,
): Promise<TrafficStatistics> {
  const tally = new Tally();
  const town = createTown(world);
  // A generator of its own: which flows a seed gives must not hang on how they overtake each other.
  const choices = createRandom(world.random.seed);
  let started = 0;
  let done = 0;
  const worker = async (): Promise<void> => {
    while (started < flows && signal?.aborted !== true) {
      started += 1;
      await tally.count(choices.weighted(FLOW_WEIGHTS), town);
      done += 1;
      onProgress(done);
    }
  };
  await Promise.all(Array.from({ length: COMPRESSED_CONCURRENCY }, worker));
  return tally;
}
