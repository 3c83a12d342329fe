import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { packageRoot } from '../../runtime/paths.ts';
import type { PayloadName } from './payloads.ts';

/** What the generator is to send; it runs as a process of its own, so that its CPU is not in the figure. */
export interface LoadPlan {
  /** The collector's address. */
  readonly url: string;
  readonly payload: PayloadName;
  /** Events a request. */
  readonly batch: number;
  readonly gzip: boolean;
  /** Requests in flight at most. */
  readonly clients: number;
  /** Closed loop, as fast as answers come: this many events. Bodies are built before the clock starts. */
  readonly events: number;
  /** Open loop: events a second, for `seconds`; latency counts from when a request was due. 0: closed loop. */
  readonly rate: number;
  readonly seconds: number;
}

/** What the generator saw. */
export interface LoadResult {
  readonly requests: number;
  readonly events: number;
  /** Requests by HTTP status; `error` for those without an answer. */
  readonly statuses: Readonly<Record<string, number>>;
  readonly seconds: number;
  readonly body_bytes: number;
  readonly ack_ms: { readonly p50: number; readonly p99: number; readonly max: number };
}

/** Runs one plan; `onStart` is called when bodies are built and the first request leaves. */
export async function runLoad(plan: LoadPlan, onStart?: () => void): Promise<LoadResult> {
  const file = join(packageRoot, 'bench', '_load_process.ts');
  const child = spawn(process.execPath, ['--import', 'tsx', file, JSON.stringify(plan)], {
    cwd: packageRoot,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let output = '';
  let isStarted = false;
  child.stdout.on('data', (chunk: Buffer) => {
    output += chunk.toString('utf8');
    if (isStarted || !output.includes('\n')) return;
    isStarted = true;
    onStart?.();
  });
  const [code] = (await once(child, 'close')) as [number | null];
  if (code !== 0) throw new Error(`the load generator ended with ${code}`);
  return JSON.parse(output.trim().split('\n').at(-1) ?? '') as LoadResult;
}
