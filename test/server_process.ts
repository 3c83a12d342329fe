import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { packageRoot } from '../runtime/paths.ts';

/** A real Grantscope process (`grantscope serve`, as built) on free ports. */
export interface ServerProcess {
  readonly child: ChildProcess;
  readonly collectorUrl: string;
  readonly apiUrl: string;
  /** Everything it has printed, both streams. */
  output(): string;
  /** Ends it by SIGTERM; gives its exit code. */
  stop(): Promise<number | null>;
  /** Ends it by SIGKILL, in the middle of whatever it does. */
  kill(): Promise<void>;
}

/** The environment of a child: ours without anything that would configure it. */
export function cleanEnvironment(extra: Readonly<Record<string, string>>): Record<string, string> {
  const inherited = Object.entries(process.env).filter(
    (e): e is [string, string] =>
      e[1] !== undefined &&
      !/^(GRANTSCOPE_|CLICKHOUSE_|OTEL_|ALERTMANAGER_|KAFKA_|NODE_OPTIONS|VITEST)/.test(e[0]),
  );
  return { ...Object.fromEntries(inherited), ...extra };
}

/** Runs `grantscope ARGS` as built: `npm test` builds first. */
export function spawnGrantscope(
  args: readonly string[],
  env: Readonly<Record<string, string>>,
): ChildProcess {
  return spawn(
    process.execPath,
    ['--import', 'tsx', join(packageRoot, 'cli', 'main.ts'), ...args],
    {
      cwd: packageRoot,
      env: cleanEnvironment(env),
      stdio: ['ignore', 'pipe', 'pipe'],
    },
  );
}

/** Runs a command to its end. */
export async function runGrantscope(
  args: readonly string[],
  env: Readonly<Record<string, string>>,
): Promise<{ code: number | null; stdout: string; stderr: string }> {
  const child = spawnGrantscope(args, env);
  let stdout = '';
  let stderr = '';
  child.stdout?.on('data', (chunk: Buffer) => (stdout += chunk.toString('utf8')));
  child.stderr?.on('data', (chunk: Buffer) => (stderr += chunk.toString('utf8')));
  const [code] = (await once(child, 'close')) as [number | null];
  return { code, stdout, stderr };
}

/** Starts a server and waits until it says that it is ready; rejects with its output when it ends before. */
export async function startServer(
  dataDir: string,
  extra: Readonly<Record<string, string>> = {},
): Promise<ServerProcess> {
  const child = spawnGrantscope(['serve'], {
    GRANTSCOPE_DATA_DIR: dataDir,
    GRANTSCOPE_COLLECTOR_LISTEN: '127.0.0.1:0',
    GRANTSCOPE_API_LISTEN: '127.0.0.1:0',
    ...extra,
  });
  let output = '';
  const addresses = await new Promise<{ collectorUrl: string; apiUrl: string }>(
    (resolve, reject) => {
      const onData = (chunk: Buffer): void => {
        output += chunk.toString('utf8');
        const collectorUrl = /collector\s+(http:\S+)/.exec(output)?.[1];
        const apiUrl = /console and API\s+(http:\S+)/.exec(output)?.[1];
        if (collectorUrl !== undefined && apiUrl !== undefined) resolve({ collectorUrl, apiUrl });
      };
      child.stdout?.on('data', onData);
      child.stderr?.on('data', onData);
      child.once('close', (code) => reject(new Error(`the server ended with ${code}:\n${output}`)));
    },
  );
  return {
    child,
    ...addresses,
    output: () => output,
    stop: () => end(child, 'SIGTERM'),
    kill: async () => {
      await end(child, 'SIGKILL');
    },
  };
}

async function end(child: ChildProcess, signal: NodeJS.Signals): Promise<number | null> {
  if (child.exitCode !== null || child.signalCode !== null) return child.exitCode;
  const closed = once(child, 'close') as Promise<[number | null]>;
  child.kill(signal);
  const [code] = await closed;
  return code;
}
