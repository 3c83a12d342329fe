import { defineConfig } from 'vitest/config';

/** The suite that runs a real Keycloak: minutes of Java, which `npm test` is spared. */
export default defineConfig({
  test: {
    include: ['test/keycloak/**/*.test.ts'],
    pool: 'forks',
    testTimeout: 60_000,
    reporters: ['default', './test/summary_reporter.ts'],
  },
});
