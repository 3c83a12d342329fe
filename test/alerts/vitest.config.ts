import { defineConfig } from 'vitest/config';

/** The suite that breaks the demo's authorization server under a real Prometheus and Alertmanager: minutes, which `npm test` is spared. */
export default defineConfig({
  test: {
    include: ['test/alerts/**/*.test.ts'],
    pool: 'forks',
    testTimeout: 120_000,
    hookTimeout: 120_000,
    reporters: ['default', './test/summary_reporter.ts'],
  },
});
