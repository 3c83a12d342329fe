import { spawn, type ChildProcess } from 'node:child_process';
import { join } from 'node:path';
import { packageRoot } from '../runtime/paths.ts';

export interface DemoProcess {
  readonly child: ChildProcess;
  /** Everything written so far. */
  output(): { stdout: string; stderr: string };
  /** Called with each line of stdout as it comes. */
  onLine(listener: (line: string) => void): void;
  /** The exit code. */
  readonly exited: Promise<number | null>;
}

/** Starts `demo/main.ts` from source in a process of its own; end it with `child.kill()`. */
export function startDemo(args: readonly string[]): DemoProcess {
  const listeners: ((line: string) => void)[] = [];
  const written = { stdout: '', stderr: '' };
  let rest = '';
  const child = spawn(process.execPath, ['--import', 'tsx', 'demo/main.ts', ...args], {
    cwd: join(packageRoot),
    env: { PATH: process.env['PATH'] ?? '', HOME: process.env['HOME'] ?? '' },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
    written.stdout += chunk;
    const lines = `${rest}${chunk}`.split('\n');
    rest = lines.pop() ?? '';
    for (const line of lines) for (const listener of listeners) listener(line);
  });
  child.stderr.setEncoding('utf8').on('data', (chunk: string) => {
    written.stderr += chunk;
  });
  return {
    child,
    output: () => ({ ...written }),
    onLine: (listener) => listeners.push(listener),
    exited: new Promise((resolve) => child.once('close', (code) => resolve(code))),
  };
}
