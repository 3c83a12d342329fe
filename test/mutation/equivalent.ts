/** Mutants of a rule that no events can tell from the rule, and why not. */
export interface Equivalence {
  readonly why: string;
  /** Names, as the program prints them. */
  readonly mutants: readonly string[];
}

/**
 * By rule. Only what is provably so belongs here: what nobody has found an example for is a survivor. The program fails
 * where a name is no mutant any more, or is killed after all.
 */
export const EQUIVALENT: Readonly<Record<string, readonly Equivalence[]>> = {};
