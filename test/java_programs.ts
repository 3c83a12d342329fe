import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { packageRoot } from '../runtime/paths.ts';
import { findProgram } from './e2e/programs.ts';
import { cleanEnvironment } from './server_process.ts';

// Programs of Maven Central that run on this machine's Java.

/** Keycloak 26 and brokers of Kafka 4 run on Java 17 and later. */
const JAVA_MIN = 17;

export const java = findProgram('java');
export const maven = findProgram('mvn');

/** What the machine lacks to get and run them; empty where it has everything. */
export function missingForJava(): readonly string[] {
  const missing: string[] = [];
  if (javaVersion() < JAVA_MIN) missing.push(`Java ${JAVA_MIN} or later`);
  if (maven === undefined) missing.push('Maven');
  return missing;
}

function javaVersion(): number {
  if (java === undefined) return 0;
  const { stderr } = spawnSync(java, ['-version'], { encoding: 'utf8' });
  return Number(/version "(\d+)/.exec(stderr)?.[1] ?? 0);
}

/**
 * The folder `name` in the cache of `program`. Where it is not there yet, `make` fills a folder and says which part of it is
 * to be kept: whole or not at all, also where two runs meet.
 */
export function cached(program: string, name: string, make: (folder: string) => string): string {
  const cache = join(packageRoot, 'node_modules', '.cache', program);
  const kept = join(cache, name);
  if (existsSync(kept)) return kept;
  const folder = join(cache, `making-${process.pid}`);
  mkdirSync(folder, { recursive: true });
  try {
    const made = make(folder);
    if (!existsSync(kept)) renameSync(made, kept);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
  return kept;
}

/** Runs Maven's dependency plugin; throws with the end of its output where it fails. */
export function runDependencyPlugin(folder: string, goal: string, args: readonly string[]): void {
  const plugin = 'org.apache.maven.plugins:maven-dependency-plugin:3.8.1';
  runToEnd(folder, maven ?? 'mvn', ['-B', '-ntp', `${plugin}:${goal}`, ...args]);
}

/** Runs a program to its end; throws with the end of its output where it fails. */
export function runToEnd(cwd: string, program: string, args: readonly string[]): void {
  const result = spawnSync(program, args, {
    cwd,
    encoding: 'utf8',
    timeout: 300_000,
    env: cleanEnvironment({}),
  });
  if (result.status === 0) return;
  const output = `${result.stdout}${result.stderr}`.slice(-2_000);
  throw new Error(`${program} ended with ${result.status}:\n${output}`);
}
