import { defineConfig } from 'vitest/config';

/** Tests that need programs from outside (Prometheus, a browser, ...) skip themselves with a line that says what to install. */
export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    // The embedded engine is one per process, so files run in processes of their own.
    pool: 'forks',
    maxWorkers: 2,
    testTimeout: 120_000,
    hookTimeout: 240_000,
    reporters: [process.env['CI'] === 'true' ? 'default' : 'default', './test/summary_reporter.ts'],
  },
});
