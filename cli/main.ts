#!/usr/bin/env -S MALLOC_ARENA_MAX=2 MALLOC_MMAP_THRESHOLD_=131072 node --max-semi-space-size=64
import { Command, CommanderError } from 'commander';
import { loadDefinitions } from '../runtime/registry.ts';
import { GrantscopeError, messageOf } from '../runtime/errors.ts';
import { VERSION } from '../runtime/version.ts';
import { createCliContext } from './context.ts';
import type { CommandDefinition } from './define_command.ts';

/** Exit codes: 0 done, 1 the answer is "no" or the work failed, 2 wrong input or configuration. */
const EXIT_FAILED = 1;
const EXIT_USAGE = 2;
const USAGE_CODES: readonly string[] = [
  'config_invalid',
  'invalid_argument',
  'unknown_source',
  'not_found',
  'data_dir_locked',
  'definition_invalid',
  'listen_failed',
];

function checkCommand(candidate: unknown): CommandDefinition {
  if (
    typeof candidate !== 'object' ||
    candidate === null ||
    !('id' in candidate) ||
    !('build' in candidate)
  ) {
    throw new TypeError('default export must be defineCommand({ id, build })');
  }
  return candidate as CommandDefinition;
}

async function main(argv: readonly string[]): Promise<number> {
  const program = new Command('grantscope')
    .description('Observability and security analytics for OAuth')
    .version(VERSION)
    .showHelpAfterError('(add --help for what is allowed)')
    .exitOverride();
  const cli = createCliContext(process.env);
  for (const command of await loadDefinitions(
    new URL('./commands/', import.meta.url),
    checkCommand,
  )) {
    program.addCommand(command.build(cli).exitOverride());
  }
  try {
    await program.parseAsync([...argv]);
    return typeof process.exitCode === 'number' ? process.exitCode : 0;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : EXIT_USAGE;
    process.stderr.write(`grantscope: ${messageOf(error)}\n`);
    return error instanceof GrantscopeError && USAGE_CODES.includes(error.code)
      ? EXIT_USAGE
      : EXIT_FAILED;
  }
}

process.exitCode = await main(process.argv);
