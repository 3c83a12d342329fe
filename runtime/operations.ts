import { GrantscopeError } from './errors.ts';

/**
 * Long commands that need the process which holds the store (`backtest`, ...). Features register them at
 * start; the command line calls them through the API when a server runs, or directly when none does.
 */
export type Operation = (
  input: unknown,
  progress: (done: number, total: number) => void,
) => Promise<unknown>;

export class Operations {
  readonly #operations = new Map<string, Operation>();

  register(name: string, operation: Operation): void {
    if (this.#operations.has(name)) {
      throw new GrantscopeError('definition_invalid', `operation ${name} is registered twice`);
    }
    this.#operations.set(name, operation);
  }

  get names(): readonly string[] {
    return [...this.#operations.keys()].sort();
  }

  get(name: string): Operation | undefined {
    return this.#operations.get(name);
  }
}
