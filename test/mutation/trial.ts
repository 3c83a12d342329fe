import { backtest } from '../../detectors/backtest.ts';
import {
  bindExample,
  canonical,
  exampleEvents,
  shownExpectation,
  shownFinding,
} from '../../detectors/examples.ts';
import { toFinding } from '../../detectors/finding_identity.ts';
import type {
  BoundDetector,
  Detector,
  DetectorExample,
  EvaluateInput,
} from '../../model/define_detector.ts';
import type { Store } from '../../store/client.ts';
import { insertEvents } from '../../store/insert.ts';
import { loadMutated, resetSteps } from './mutated_module.ts';
import type { Mutant } from './mutants.ts';
import { RememberingStore } from './remembering_store.ts';

const ALL_TIME = { from: 0n, to: 4_102_444_800_000_000_000n };

const NO_CHANGE: Omit<Mutant, 'needsEngine'> = {
  ...{ name: 'unchanged', line: 1, before: '', after: '' },
  ...{ start: 0, end: 0, mayBreakTypes: false },
};

type Input = Omit<EvaluateInput<unknown>, 'params'>;

/** An example as the unchanged rule saw it. */
interface Seen {
  readonly example: DetectorExample;
  readonly tenant: string;
  /** What it must find, in canonical form. */
  readonly expected: string;
  /** What reached `evaluate`. */
  readonly inputs: readonly Input[];
}

/** The examples of one rule, stored once; each mutant is tried against them. */
export class Trial {
  readonly #store: Store;
  readonly #rulesFolder: string;
  readonly #folder: string;
  readonly #seen: Seen[];

  private constructor(store: Store, rulesFolder: string, folder: string, seen: Seen[]) {
    this.#store = store;
    this.#rulesFolder = rulesFolder;
    this.#folder = folder;
    this.#seen = seen;
  }

  /** Stores the examples and runs the unchanged rule. Throws where an example fails without any change. */
  static async open(
    store: Store,
    detector: Detector,
    rulesFolder: string,
    folder: string,
  ): Promise<Trial> {
    const seen: Seen[] = [];
    const tenantOf = (i: number): string => `${detector.id}-${i}`;
    for (const [i, example] of detector.examples.entries())
      await insertEvents(store, exampleEvents(example, tenantOf(i)));
    // From here on nothing is written for this rule.
    const memory = new RememberingStore(store);
    for (const [i, example] of detector.examples.entries()) {
      const tenant = tenantOf(i);
      const inputs: Input[] = [];
      const bound = bindExample(detector, example);
      const watched: BoundDetector = {
        ...bound,
        evaluate: (input) => {
          inputs.push(input);
          return bound.evaluate(input);
        },
      };
      const expected = sorted(example.expect.map((e) => shownExpectation(detector, tenant, e)));
      const actual = await findingsOf(memory, watched, example, tenant);
      if (actual !== expected)
        throw new Error(`${detector.id}: example fails unchanged: ${example.name}`);
      seen.push({ example, tenant, expected, inputs });
    }
    // Those that fire notice most changes, and the first to notice ends a trial.
    seen.sort((a, b) => b.example.expect.length - a.example.expect.length);
    return new Trial(memory, rulesFolder, folder, seen);
  }

  /**
   * Throws where the source fails its own examples on the way that mutants go: then each would count as killed. So it is
   * where a file was changed since this process began.
   */
  async checkUnchanged(source: string): Promise<void> {
    for (const needsEngine of [true, false])
      if (await this.isKilled(source, { ...NO_CHANGE, needsEngine }))
        throw new Error('the rule fails its own examples when it is loaded anew');
  }

  async isKilled(source: string, mutant: Mutant): Promise<boolean> {
    let changed: Detector;
    try {
      changed = await loadMutated(this.#rulesFolder, source, mutant, this.#folder);
    } catch {
      return true;
    }
    for (const [i, seen] of this.#seen.entries())
      if (await this.#notices(changed, seen, mutant)) {
        // The next mutant is likely to be noticed by the same.
        this.#seen.splice(i, 1);
        this.#seen.unshift(seen);
        return true;
      }
    return false;
  }

  async #notices(changed: Detector, seen: Seen, mutant: Mutant): Promise<boolean> {
    try {
      const bound = bindExample(changed, seen.example);
      resetSteps();
      const actual = mutant.needsEngine
        ? await findingsOf(this.#store, bound, seen.example, seen.tenant)
        : evaluated(bound, seen);
      return actual !== seen.expected;
    } catch {
      return true;
    }
  }
}

async function findingsOf(
  store: Store,
  detector: BoundDetector,
  example: DetectorExample,
  tenant: string,
): Promise<string> {
  const clients = example.clients ?? [];
  const input = { store, tenant, detectors: [detector], clients, range: ALL_TIME };
  const { findings } = await backtest(input);
  return sorted(findings.map(shownFinding));
}

/** The findings of the inputs that the unchanged rule had. */
function evaluated(detector: BoundDetector, seen: Seen): string {
  const findings = seen.inputs.flatMap((input) =>
    detector.evaluate(input).map((s) => toFinding(detector, seen.tenant, input.entity, s)),
  );
  return sorted(findings.map(shownFinding));
}

function sorted(shown: readonly Record<string, unknown>[]): string {
  return shown.map(canonical).sort().join('\n');
}
