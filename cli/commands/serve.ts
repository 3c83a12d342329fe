import { Command, InvalidArgumentError } from 'commander';
import { defineCommand, type CliContext } from '../define_command.ts';
import { ROLES, type Role } from '../roles.ts';
import type { Served } from '../serve.ts';

function parseRoles(text: string): readonly Role[] {
  const names = text.split(',').map((n) => n.trim());
  const unknown = names.filter((n) => !ROLES.some((r) => r === n));
  if (unknown.length > 0 || names.length === 0) {
    throw new InvalidArgumentError(
      `unknown role ${unknown.join(', ')}; allowed: ${ROLES.join(', ')}`,
    );
  }
  return ROLES.filter((r) => names.includes(r));
}

export default defineCommand({
  id: 'serve',
  build: (cli) =>
    new Command('serve')
      .description(
        'run the collector, the detectors, the API and the console (what npm start does)',
      )
      .option('--roles <list>', `comma-separated: ${ROLES.join(', ')}`, parseRoles, ROLES)
      .action(async (options: { roles: readonly Role[] }) => {
        await run(cli, options.roles);
      }),
});

async function run(cli: CliContext, roles: readonly Role[]): Promise<void> {
  const { serve } = await import('../serve.ts');
  const runtime = cli.runtime();
  const stopped = new Promise<void>((resolve) => runtime.lifecycle.handleSignals(resolve));
  const served = await serve(runtime, roles);
  process.stdout.write(welcome(served));
  await stopped;
}

/** What listens where, and what to do next. */
function welcome({ collectorUrl, apiUrl, runtime }: Served): string {
  const lines = ['', 'Grantscope is ready.'];
  if (apiUrl !== undefined) lines.push(`  console and API   ${apiUrl}`);
  if (collectorUrl !== undefined)
    lines.push(`  collector         ${collectorUrl}   (OTLP/HTTP, and POST /v1/events/{source})`);
  lines.push(
    `  data              ${runtime.config.clickhouse === undefined ? runtime.config.dataDir : 'ClickHouse server'}`,
    '',
  );
  if (collectorUrl !== undefined) {
    lines.push(
      'Next:',
      `  npm run demo                  live traffic and attacks from a real authorization server (stop this first)`,
      `  curl ${collectorUrl}/v1/events/keycloak -H 'Content-Type: application/json' --data-binary @events.ndjson`,
      `  OTEL_EXPORTER_OTLP_ENDPOINT=${collectorUrl}   in any OpenTelemetry SDK`,
      '',
    );
  }
  return `${lines.join('\n')}\n`;
}
