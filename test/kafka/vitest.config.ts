import { defineConfig } from 'vitest/config';

/** The suite that runs a real Kafka broker: minutes of Java, which `npm test` is spared. */
export default defineConfig({
  test: {
    include: ['test/kafka/**/*.test.ts'],
    pool: 'forks',
    testTimeout: 180_000,
    hookTimeout: 240_000,
    reporters: ['default', './test/summary_reporter.ts'],
  },
});
