import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { packageRoot } from '../../runtime/paths.ts';

export interface RunningServer {
  readonly pid: number;
  readonly collector: string;
  /** Where the API listens; of a server without it never known, until that ends. */
  api(): Promise<string>;
  /** From spawn until it listens, ms. */
  readonly readyMs: number;
  /** Sum of a metric's series, from /metrics; with `label`, of those that carry it (`table="x"`). */
  metric(name: string, label?: string): Promise<number>;
  /** All metrics as they are at one moment; reading them costs the server some milliseconds. */
  metrics(): Promise<Metrics>;
  /** Auth events that the store has confirmed. */
  stored(): Promise<number>;
  /** SIGTERM, then the end of its drain. */
  stop(): Promise<void>;
}

/** What /metrics said at one moment. */
export interface Metrics {
  /** Values of a metric's series; with `label`, of those that carry it. */
  series(name: string, label?: string): readonly number[];
  /** Their sum; 0 where there is none. */
  sum(name: string, label?: string): number;
  /** The largest of them, at least 0. */
  max(name: string): number;
  /** Events that the store has confirmed. */
  stored(): number;
}

/** As `npm start` gives them: room for the objects of some requests, so that few outlive a collection of garbage. */
const NODE_FLAGS = ['--max-semi-space-size=64'];
/** As the command and the container give them: freed buffers go back to the kernel, so that the heap has no growing holes (glibc). */
const ALLOCATOR = { MALLOC_ARENA_MAX: '2', MALLOC_MMAP_THRESHOLD_: '131072' };

/** The built product (`npm run build:server` first) as its users start it, on free ports. */
export async function startServer(
  dataDir: string,
  options: {
    readonly arguments?: readonly string[];
    readonly env?: Readonly<Record<string, string>>;
  } = {},
): Promise<RunningServer> {
  const began = performance.now();
  const main = join(packageRoot, 'dist', 'cli', 'main.js');
  const child = spawn(
    process.execPath,
    [...NODE_FLAGS, main, 'serve', ...(options.arguments ?? [])],
    {
      env: {
        PATH: process.env['PATH'],
        ...ALLOCATOR,
        GRANTSCOPE_DATA_DIR: dataDir,
        GRANTSCOPE_COLLECTOR_LISTEN: '127.0.0.1:0',
        GRANTSCOPE_API_LISTEN: '127.0.0.1:0',
        GRANTSCOPE_LOG_LEVEL: 'warn',
        ...options.env,
      },
      stdio: ['ignore', 'pipe', 'inherit'],
    },
  );
  const api = announced(child, /(?:api|console)\s+(http:\S+)/i);
  // Who does not ask for it is not told that a server without an API ended.
  api.catch(() => undefined);
  const collector = await announced(child, /collector\s+(http:\S+)/);
  const readyMs = Math.round(performance.now() - began);
  const { pid } = child;
  if (pid === undefined) throw new Error('the server has no process id');
  return {
    pid,
    collector,
    api: () => api,
    readyMs,
    metric: async (name, label) => (await readMetrics(collector)).sum(name, label),
    metrics: () => readMetrics(collector),
    stored: async () => (await readMetrics(collector)).stored(),
    stop: async () => {
      if (child.exitCode !== null || child.signalCode !== null) return;
      const ended = once(child, 'close');
      child.kill('SIGTERM');
      await ended;
    },
  };
}

/** The first group of `pattern` in what a child prints; throws where it ends before. */
export async function announced(child: ChildProcess, pattern: RegExp): Promise<string> {
  let output = '';
  return new Promise<string>((resolve, reject) => {
    child.stdout?.on('data', (chunk: Buffer) => {
      if (output.length > 65_536) return;
      output += chunk.toString('utf8');
      const found = pattern.exec(output)?.[1];
      if (found !== undefined) resolve(found);
    });
    child.once('close', (code) =>
      reject(new Error(`a process ended with ${code}; built? (npm run build:server)\n${output}`)),
    );
  });
}

async function readMetrics(collector: string): Promise<Metrics> {
  const lines = (await (await fetch(`${collector}/metrics`)).text()).split('\n');
  const series = (name: string, label = ''): readonly number[] =>
    lines
      .filter((line) => line.startsWith(`${name} `) || line.startsWith(`${name}{`))
      .filter((line) => line.includes(label))
      .map((line) => Number(line.split(' ').at(-1)));
  const sum = (name: string, label?: string): number =>
    series(name, label).reduce((total, v) => total + v, 0);
  return {
    series,
    sum,
    max: (name) => Math.max(0, ...series(name)),
    stored: () => sum('grantscope_writer_rows_stored_total', 'table="grantscope.auth_events"'),
  };
}

/** Linux counts a process's CPU time in hundredths of a second. */
const TICKS_PER_SECOND = 100;

/** User and system time of a process and all its threads so far, s. */
export function cpuSeconds(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  // The command's name, in parentheses, may hold spaces.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
}

/**
 * The same by what a thread does, s: `main` is Node's own loop (requests, parsing, redaction), `merges` the engine's
 * background merges, `engine` its other threads (inserts, queries), `node` those that V8 and libuv keep.
 */
export function cpuSecondsByThread(pid: number): Readonly<Record<string, number>> {
  const sums: Record<string, number> = { main: 0, merges: 0, engine: 0, node: 0 };
  for (const tid of readdirSync(`/proc/${pid}/task`)) {
    const stat = readFileSync(`/proc/${pid}/task/${tid}/stat`, 'utf8');
    const name = stat.slice(stat.indexOf('(') + 1, stat.lastIndexOf(')'));
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    const seconds = (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
    const role = threadRole(Number(tid) === pid, name);
    sums[role] = (sums[role] ?? 0) + seconds;
  }
  return sums;
}

function threadRole(isMain: boolean, name: string): string {
  if (isMain) return 'main';
  if (name.startsWith('Merge')) return 'merges';
  return /^(node|V8Worker|libuv|DelayedTask|SignalInspector)/.test(name) ? 'node' : 'engine';
}

/** Resident memory of a process now, the part of it that is not mapped from files, and at its highest, MB. */
export function memoryMb(pid: number): {
  readonly now: number;
  readonly anonymous: number;
  readonly peak: number;
} {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  const read = (name: string): number =>
    Math.round((Number(new RegExp(`${name}:\\s+(\\d+) kB`).exec(status)?.[1] ?? 0) * 1_024) / 1e6);
  return { now: read('VmRSS'), anonymous: read('RssAnon'), peak: read('VmHWM') };
}

/** Bytes of all files below a folder; 0 where it does not exist. Files that vanish meanwhile count nothing. */
export function folderBytes(path: string): number {
  if (!existsSync(path)) return 0;
  let sum = 0;
  for (const entry of readdirSync(path, { withFileTypes: true, recursive: true })) {
    if (entry.isFile())
      sum += statSync(join(entry.parentPath, entry.name), { throwIfNoEntry: false })?.size ?? 0;
  }
  return sum;
}
