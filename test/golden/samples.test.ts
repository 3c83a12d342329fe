import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import envoy from '../../collector/sources/envoy.ts';
import keycloak from '../../collector/sources/keycloak.ts';
import { AuthEvent } from '../../model/auth_event.ts';
import type { SourceRecord } from '../../model/define_source.ts';
import { packageRoot } from '../../runtime/paths.ts';
import { eventsOf, json, line } from './run_source.ts';

/** Real events, where the folder with them lies beside the project; they are not part of it. */
const folder = join(packageRoot, '..', 'shared', 'samples');
const present = existsSync(folder);
if (!present) process.stdout.write('skipped: no samples\n');

function records(file: string): SourceRecord[] {
  const lines = readFileSync(join(folder, file), 'utf8').trim().split('\n');
  if (file.endsWith('.log')) return lines.map(line);
  return lines.map((text) => {
    const row = JSON.parse(text) as Record<string, unknown>;
    const raw = 'raw' in row ? row['raw'] : row;
    return typeof raw !== 'string'
      ? json(raw)
      : raw.startsWith('{')
        ? json(JSON.parse(raw))
        : line(raw);
  });
}

describe.skipIf(!present)('real samples', () => {
  it.each([
    [keycloak, 'keycloak.ndjson', ['login_failed', 'login', 'userinfo_accessed']],
    [
      keycloak,
      'lines/keycloak_events.log',
      [
        ...[
          'authorization_failed',
          'login_failed',
          'login_failed',
          'login',
          'token_issued',
          'code_redeemed',
        ],
        ...['unclassified', 'session_ended'],
      ],
    ],
    [envoy, 'envoy_istio.ndjson', ['api_accessed', 'api_accessed']],
  ])('$id reads %s', (source, file, kinds) => {
    const events = records(file).flatMap((record) => eventsOf(source, record));
    for (const event of events) AuthEvent.parse(event);
    expect(events.map((e) => e.kind)).toEqual(kinds);
  });
});
