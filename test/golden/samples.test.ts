import { describe, expect, it } from 'vitest';
import envoy from '../../collector/sources/envoy.ts';
import keycloak from '../../collector/sources/keycloak.ts';
import { AuthEvent } from '../../model/auth_event.ts';
import { eventsOf } from './run_source.ts';
import { hasSamples, recordsOf, sampleRows } from './sample_records.ts';

describe.skipIf(!hasSamples)('real samples', () => {
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
    const events = sampleRows(file)
      .flatMap((row) => recordsOf(source, row))
      .flatMap((record) => eventsOf(source, record));
    for (const event of events) AuthEvent.parse(event);
    expect(events.map((e) => e.kind)).toEqual(kinds);
  });
});
