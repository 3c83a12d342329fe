import { configDefaults, defineConfig } from 'vitest/config';
import { BaseSequencer, type TestSpecification } from 'vitest/node';

/** Files that take longest, longest first: begun last, one of them would keep a core waiting for the other. */
const LONG = [
  'property/order_invariance',
  'property/live_equals_backtest',
  'store/detectors_screens',
  'store/detection_corpus',
  'store/detectors_examples',
  'property/key_rotation',
  'e2e/demo_attacks',
  'browser/console',
  'store/detectors_watch',
  'store/detector_runbooks',
  'e2e/start',
  'e2e/crash',
  'e2e/key_rotation',
  'e2e/no_secret_at_rest',
  'e2e/pull',
  'simulation/exactly_once',
  'e2e/crash_server',
  'e2e/finding_life',
  'e2e/analyze',
  'e2e/import',
  'e2e/planted_secrets',
  'store/slo_compute',
];

class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const rank = ({ moduleId }: TestSpecification): number => {
      const place = LONG.findIndex((name) => moduleId.endsWith(`test/${name}.test.ts`));
      return place < 0 ? LONG.length : place;
    };
    return (await super.sort(files)).sort((a, b) => rank(a) - rank(b));
  }
}

/** Tests that need programs from outside (Prometheus, a browser, ...) skip themselves with a line that says what to install. */
export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    // Suites of their own: npm run test:keycloak, test:kafka, test:alerts.
    exclude: [...configDefaults.exclude, 'test/keycloak/**', 'test/kafka/**', 'test/alerts/**'],
    // The embedded engine is one per process, so files run in processes of their own.
    pool: 'forks',
    maxWorkers: 2,
    sequence: { sequencer: LongestFirst },
    testTimeout: 120_000,
    hookTimeout: 240_000,
    reporters: [process.env['CI'] === 'true' ? 'default' : 'default', './test/summary_reporter.ts'],
  },
});
