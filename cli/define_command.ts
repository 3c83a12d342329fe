import type { Command } from 'commander';
import type { Config } from '../runtime/config.ts';
import type { Runtime } from '../runtime/context.ts';
import type { Store } from '../store/client.ts';

/** What a command may use beside its own arguments. */
export interface CliContext {
  /** Writes a result to stdout: pretty text, or JSON when `--json` was given. */
  print(result: { readonly text: string; readonly json: unknown }, asJson: boolean): void;
  /** Progress to stderr, one line that rewrites itself on a terminal; silent when not a terminal. */
  progress(label: string, done: number, total: number): void;
  /** The checked configuration alone: no key, no log, nothing is made. */
  config(): Config;
  /** Configuration and runtime parts without a store. */
  runtime(): Runtime;
  /** Opens the store for this command alone; throws `data_dir_locked` when a server holds it. */
  withStore<T>(work: (store: Store, runtime: Runtime) => Promise<T>): Promise<T>;
  /**
   * Runs a registered operation (`runtime/operations.ts`): through the API of the server that holds the data
   * directory, or in this process when none does.
   */
  operation<T>(name: string, input: unknown): Promise<T>;
}

/** One command = one file in `cli/commands/`, this as default export; `id` = file name = first word. */
export interface CommandDefinition {
  readonly id: string;
  /** Builds the commander command (with description, options, `--json` where it prints a result). */
  readonly build: (cli: CliContext) => Command;
}

export function defineCommand(definition: CommandDefinition): CommandDefinition {
  return definition;
}
