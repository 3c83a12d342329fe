import { spawnSync } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';

/** The first of these programs that PATH holds, under any of its names. */
export function findProgram(...names: readonly string[]): string | undefined {
  const folders = (process.env['PATH'] ?? '').split(delimiter);
  for (const name of names) {
    for (const folder of folders) {
      const file = join(folder, name);
      try {
        accessSync(file, constants.X_OK);
        return file;
      } catch {
        continue;
      }
    }
  }
  return undefined;
}

export const programs = {
  promtool: findProgram('promtool'),
  amtool: findProgram('amtool'),
  prometheus: findProgram('prometheus'),
  /** Debian prefixes it, since the name alone is taken. */
  alertmanager: findProgram('prometheus-alertmanager', 'alertmanager'),
};

/** Says what is missing on standard error, once per file, so that a skipped test is not mistaken for a passed one. */
export function hasMonitoringPrograms(): boolean {
  const isComplete = Object.values(programs).every((p) => p !== undefined);
  if (!isComplete) {
    process.stderr.write(
      'skipped: prometheus not installed (apt-get install prometheus prometheus-alertmanager)\n',
    );
  }
  return isComplete;
}

/** Runs a program to its end; never throws for a non-zero exit. */
export function run(
  program: string | undefined,
  args: readonly string[],
  input?: string,
): { readonly code: number | null; readonly output: string } {
  if (program === undefined) throw new Error('the program is not installed');
  const result = spawnSync(program, args, {
    encoding: 'utf8',
    timeout: 50_000,
    ...(input === undefined ? {} : { input }),
  });
  return { code: result.status, output: `${result.stdout}${result.stderr}` };
}
