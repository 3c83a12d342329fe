import { describe, expect, it } from 'vitest';
import ping from '../../collector/sources/ping_federate.ts';
import { AuthEvent } from '../../model/auth_event.ts';
import { filledFields } from './filled_fields.ts';
import { eventsOf, expected, json, line, RECEIVED_AT, ring, withoutId } from './run_source.ts';
import { hasSamples, recordsOf, sampleRows } from './sample_records.ts';

const at = 1_767_225_600_123_000_000n;
const track = 'aB3dE5fG7hJ9kL1mN2pQ4rS6tU8';
const one = (text: string) => {
  const events = eventsOf(ping, line(text));
  expect(events.length).toBe(1);
  return events[0]!;
};
/** A line in the pattern for Splunk; later names replace earlier ones. */
const pairs = (more: Record<string, string> = {}) => {
  const fields = {
    ...{ trackingid: `tid:${track}`, transactionid: 'tx1', event: 'OAuth', subject: 'ada' },
    ...{ ip: '203.0.113.9', connectionid: 'shop', protocol: 'OAuth20', pfhost: 'pf-1', role: 'AS' },
    ...{ status: 'success', responsetime: '88', connectionname: 'Shop', requestid: 'rq-1' },
    ...more,
  };
  const text = Object.entries(fields).map(([k, v]) => `${k}="${v}"`);
  return `2026-01-01 00:00:00,123 ${text.join(' ')}`;
};
const subject = { ref: ring.ref('subject', 'ada'), type: 'user' as const };

describe('name="value" pairs', () => {
  it('a token request', () => {
    const text = pairs({
      granttype: 'authorization_code',
      attributes: 'SAML_SUBJECT=ada, SAML_AUTHN_CTX=urn:example:strong, SAML_NAME_FORMAT=x',
    });
    expect(withoutId(one(text))).toEqual(
      expected(ping, {
        ...{ time: at, kind: 'token_issued', outcome: 'success', endpoint: 'token' },
        ...{ source: { instance: 'pf-1', raw_type: 'OAuth' }, grant_type: 'authorization_code' },
        ...{ client: { id: 'shop', name: 'Shop' }, subject, acr: 'urn:example:strong' },
        session_ref: ring.ref('session', track),
        net: { client_ip: '203.0.113.9', network: '203.0.113.0/24' },
        http: { duration_ms: 88 },
        corr: { transaction_id: 'tx1', request_id: 'rq-1' },
        ext: { protocol: 'OAuth20', role: 'AS' },
        redaction: { fields: ['session_ref', 'subject.ref'] },
      }),
    );
  });

  it.each([
    ['refresh_token', 'success', 'token_refreshed', 'unknown'],
    ['urn:ietf:params:oauth:grant-type:token-exchange', 'success', 'token_exchanged', 'unknown'],
    ['password', 'success', 'token_issued', 'unknown'],
    ['client_credentials', 'success', 'token_issued', 'client_backend'],
    ['refresh_token', 'failure', 'token_request_failed', 'unknown'],
    [
      'urn:pingidentity.com:oauth2:grant_type:validate_bearer',
      'success',
      'token_introspected',
      'client_backend',
    ],
    [
      'urn:pingidentity.com:oauth2:grant_type:validate_bearer',
      'failure',
      'token_introspected',
      'client_backend',
    ],
    ['__proto__', 'success', 'token_issued', 'unknown'],
    ['', 'success', 'unclassified', 'unknown'],
    ['', 'failure', 'unclassified', 'unknown'],
  ])('OAuth %s %s: %s', (granttype, status, kind, role) => {
    const event = one(pairs({ granttype, status }));
    expect([event.kind, event.outcome, event.net.ip_role]).toEqual([kind, status, role]);
  });

  it('a service is its own subject', () => {
    const ofService = one(pairs({ granttype: 'client_credentials', subject: '' }));
    expect(ofService.subject).toEqual({ ref: ring.ref('subject', 'shop'), type: 'client' });
    expect(one(pairs({ subject: '' })).subject.ref).toBe('');
  });

  it.each([
    [
      'invalid_grant: unknown, invalid, or expired refresh token',
      'refresh_token',
      'token_request_failed',
      'failure',
      'invalid_grant',
    ],
    ['invalid_grant: unknown code', '', 'token_request_failed', 'failure', 'invalid_grant'],
    [
      'invalid_client: Invalid client or client credentials.',
      '',
      'unclassified',
      'failure',
      'invalid_client',
    ],
    ['invalid_client', 'client_credentials', 'token_request_failed', 'failure', 'invalid_client'],
    ['access_denied', 'authorization_code', 'token_request_failed', 'denied', 'access_denied'],
    [
      'authorization_pending',
      'urn:ietf:params:oauth:grant-type:device_code',
      'token_request_failed',
      'pending',
      'authorization_pending',
    ],
    ['Something else broke.', 'refresh_token', 'token_request_failed', 'failure', ''],
  ])('refused with "%s", grant "%s"', (description, granttype, kind, outcome, oauth) => {
    const event = one(pairs({ granttype, status: 'failure', description }));
    expect([event.kind, event.outcome, event.error.oauth_error]).toEqual([kind, outcome, oauth]);
    expect(event.error.detail).toBe(description);
  });

  it.each([
    ['AUTHN_ATTEMPT', 'success', 'login', 'success', 'end_user'],
    ['AUTHN_ATTEMPT', 'failure', 'login_failed', 'failure', 'end_user'],
    ['AUTHN_ATTEMPT', 'inprogress', 'login', 'pending', 'end_user'],
    ['AUTHN_REQUEST', 'inprogress', 'federation_handshake', 'pending', 'end_user'],
    ['SSO', 'success', 'federation_handshake', 'success', 'end_user'],
    ['SSO', 'failure', 'federation_handshake', 'failure', 'end_user'],
    ['SLO', 'success', 'session_ended', 'success', 'end_user'],
    ['AUTHN_SESSION_CREATED', 'success', 'session_started', 'success', 'end_user'],
    ['AUTHN_SESSION_DELETED', 'success', 'session_ended', 'success', 'unknown'],
    ['AUTHN_SESSIONS_DELETED', 'success', 'session_ended', 'success', 'unknown'],
    ['SRI_REVOKED', 'success', 'session_revoked', 'success', 'unknown'],
    ['AUTHN_SESSION_USED', '', 'unclassified', 'unknown', 'unknown'],
    ['USER_KEY_AND_SRI_ASSOCIATED', 'success', 'unclassified', 'success', 'unknown'],
    ['STS', 'failure', 'unclassified', 'failure', 'unknown'],
    ['constructor', 'success', 'unclassified', 'success', 'unknown'],
  ])('%s %s', (event, status, kind, outcome, role) => {
    const read = one(pairs({ event, status, protocol: 'SAML20' }));
    expect([read.kind, read.outcome, read.net.ip_role]).toEqual([kind, outcome, role]);
    expect(read.source.raw_type).toBe(event);
  });

  it('a session is the same by tracking id and by session reference', () => {
    const bySri = one(pairs({ trackingid: '', sri: `${track}..a1B2` }));
    expect(bySri.session_ref).toBe(ring.ref('session', track));
    expect(one(pairs({ trackingid: '' })).session_ref).toBe('');
  });

  it('what stands in a name does not rewrite what stood before it', () => {
    const forged = one(pairs({ subject: 'x" event="SSO" trackingid="tid:y' }));
    expect([forged.source.raw_type, forged.session_ref]).toEqual([
      ...['OAuth', ring.ref('session', track)],
    ]);
  });

  it('takes the first of several addresses; an hour without its zero', () => {
    const [, rest] = pairs({ ip: '203.0.113.9, 10.0.0.1' }).split(',123 ');
    const event = one(`2026-01-01 0:00:00,123 ${rest!},123`);
    expect([event.net.client_ip, event.time]).toEqual(['203.0.113.9', at]);
  });
});

describe('CEF', () => {
  const header = 'CEF:0|Ping Identity|PingFederate|12.1|AUTHN_ATTEMPT|AUTHN_ATTEMPT|0|';
  const rest =
    'rt=Jan 01 2026 00:00:00.123 duid=ada src=203.0.113.9 msg=failure cs1Label=Target Application URL cs1=https://shop.example.com/?a\\=b cs2Label=Connection ID cs2=shop cs3Label=Protocol cs3=OAuth20 dvchost=pf-1 cs4Label=Role cs4=IdP externalId=tid:' +
    `${track} cs5Label=SP Local User ID cs5= cs6Label=Attributes cs6=SAML_AUTHN_CTX=urn:example:strong`;

  it.each(['', '<134>Jan  1 00:00:00 pf-1 '])('is read behind "%s"', (prefix) => {
    expect(withoutId(one(`${prefix}${header}${rest}`))).toEqual(
      expected(ping, {
        ...{ time: at, kind: 'login_failed', outcome: 'failure', endpoint: 'authorization' },
        source: { instance: 'pf-1', raw_type: 'AUTHN_ATTEMPT' },
        ...{ client: { id: 'shop' }, subject, session_ref: ring.ref('session', track) },
        net: { client_ip: '203.0.113.9', network: '203.0.113.0/24', ip_role: 'end_user' },
        acr: 'urn:example:strong',
        ext: { protocol: 'OAuth20', role: 'IdP', application: 'https://shop.example.com/?a=b' },
        redaction: { fields: ['session_ref', 'subject.ref'] },
      }),
    );
  });

  it('a label says what a custom string is', () => {
    const text = `${header.replaceAll('AUTHN_ATTEMPT', 'OAuth')}rt=May. 18 2026 11:41:48.452 msg=success cs1Label=Grant Type cs1=refresh_token cs2=shop`;
    expect(one(text)).toMatchObject({
      ...{ kind: 'token_refreshed', grant_type: 'refresh_token', client: { id: 'shop' } },
      time: BigInt(Date.parse('2026-05-18T11:41:48.452Z')) * 1_000_000n,
    });
  });

  it('of another product is refused', () => {
    expect(
      ping.parse(line(`CEF:0|Example|Other|1|SSO|SSO|0|${rest}`), { received_at: RECEIVED_AT }),
    ).toMatchObject({
      ...{ ok: false, code: 'unrecognised_record' },
    });
  });
});

describe('columns', () => {
  const columns = (first: string[], last: string) =>
    `2026-01-01 00:00:00,123| ${[...first, 'ada', '203.0.113.9', '', 'shop', 'OAuth20', 'pf-1', 'AS', 'failure', 'form', 'invalid_grant: no', last].join('| ')} `;

  it.each([
    [[`tid:${track}`, 'OAuth'], ''],
    [[`tid:${track}`, 'tX1', 'OAuth'], 'tX1'],
  ])('%j', (first, transaction) => {
    expect(one(columns(first, '12'))).toMatchObject({
      ...{ kind: 'token_request_failed', outcome: 'failure', subject, client: { id: 'shop' } },
      ...{ error: { oauth_error: 'invalid_grant' }, http: { duration_ms: 12 } },
      corr: { transaction_id: transaction },
      session_ref: ring.ref('session', track),
    });
  });
});

describe('JSON', () => {
  it('a line that a shipper wrapped, and the fields by their names', () => {
    const events = eventsOf(ping, json({ message: pairs(), host: 'a' }));
    expect(events).toEqual([one(pairs())]);
    const named = {
      ...{ timestamp: '2026-01-01T00:00:00.123Z', event: 'SLO', status: 'success', subject: 'ada' },
      ...{ trackingId: `tid:${track}`, responsetime: 5 },
    };
    expect(eventsOf(ping, json(named))[0]).toMatchObject({
      ...{ kind: 'session_ended', time: at, subject, http: { duration_ms: 5 } },
    });
  });
});

describe('refusals', () => {
  const unrecognised =
    'record: no line of the audit log; event, and trackingid, protocol or status, are needed';
  const notime =
    'time: not a time; allowed: ISO 8601, or epoch seconds, ms, µs or ns, MMM dd yyyy HH:mm:ss.SSS';

  it.each([
    [
      '2026-01-01 00:00:00,123 tid:x DEBUG [a.b.C] GET: https://pf.example.com/pf/heartbeat.ping',
      'unrecognised_record',
      unrecognised,
    ],
    ['2026-01-01 00:00:00,123 event="" status="success"', 'unrecognised_record', unrecognised],
    ['2026-01-01 00:00:00,123 event="x"', 'unrecognised_record', unrecognised],
    ['2026-01-01 00:00:00,123| a| b| c', 'unrecognised_record', unrecognised],
    ['event="SSO" status="success"', 'missing_field', 'time: is required at the start of the line'],
    ['2026-13-01 00:00:00 event="SSO" status="success"', 'invalid_time', notime],
    [
      'CEF:0|Ping Identity|PingFederate|1|SSO|SSO|0|rt=Foo 01 2026 00:00:00.123 msg=success',
      'invalid_time',
      notime,
    ],
    [
      `2026-01-01 00:00:00 event="SSO" status="${'x'.repeat(70_000)}"`,
      'too_large',
      'line: longer than 65536 characters',
    ],
  ])('%.60s', (text, code, message) => {
    expect(ping.parse(line(text), { received_at: RECEIVED_AT })).toEqual({
      ok: false,
      code,
      message,
    });
  });

  it('values of foreign types', () => {
    for (const value of [
      { event: {}, status: [] },
      { message: 7 },
      { message: 'x', event: 'SSO' },
    ]) {
      expect(ping.parse(json(value), { received_at: RECEIVED_AT })).toMatchObject({
        code: 'unrecognised_record',
      });
    }
  });
});

it('provides what it says', () => {
  const events = [
    one(pairs({ granttype: 'client_credentials', attributes: 'SAML_AUTHN_CTX=a' })),
    one(pairs({ granttype: 'refresh_token', status: 'failure', description: 'invalid_grant' })),
  ];
  expect(filledFields(events)).toEqual([...ping.provides, 'event_id', 'phase'].sort());
});

describe.skipIf(!hasSamples)('real records', () => {
  it('are read; lines of the server log are not of the audit log', () => {
    const records = sampleRows('pingfederate.ndjson').flatMap((row) => recordsOf(ping, row));
    const results = records.map((record) => ping.parse(record, { received_at: RECEIVED_AT }));
    const events = records
      .filter((_, i) => results[i]!.ok)
      .flatMap((record) => eventsOf(ping, record));
    for (const event of events) AuthEvent.parse(event);
    process.stdout.write(
      `samples ping_federate: ${records.length} records, ${events.length} events\n`,
    );
    expect(events.map((e) => [e.source.raw_type, e.kind, e.outcome])).toEqual([
      ['AUTHN_ATTEMPT', 'login', 'success'],
      ['AUTHN_SESSION_USED', 'unclassified', 'unknown'],
      ['OAuth', 'unclassified', 'failure'],
      ['SSO', 'federation_handshake', 'failure'],
    ]);
    expect(results.filter((r) => !r.ok)).toMatchObject(
      Array.from({ length: 2 }, () => ({ code: 'unrecognised_record' })),
    );
  });
});
