import { describe, expect, it } from 'vitest';
import { TIME_ALLOWED } from '../../collector/sources/_reading.ts';
import ssf from '../../collector/sources/ssf.ts';
import type { AuthEvent } from '../../model/auth_event.ts';
import { filledFields } from './filled_fields.ts';
import { eventsOf, expected, json, line, RECEIVED_AT, ring, withoutId } from './run_source.ts';

const at = 1_767_225_600_000_000_000n;
const setId = '6b7c8d9e-1f2a-4b3c-8d4e-5f6a7b8c0001';
const tokenId = '6b7c8d9e-1f2a-4b3c-8d4e-5f6a7b8c0002';
const uri = (profile: string, type: string): string =>
  `https://schemas.openid.net/secevent/${profile}/event-type/${type}`;
const ada = { format: 'iss_sub', iss: 'https://login.example.com', sub: 'u1' };

const setOf = (profile: string, type: string, event: object = {}, more: object = {}) => ({
  ...{ iss: 'https://signals.example.com', jti: setId, iat: 1_767_225_600 },
  ...{ aud: 'https://grantscope.example.com', sub_id: ada },
  events: { [uri(profile, type)]: event },
  ...more,
});
const compact = (claims: object): string =>
  [{ alg: 'RS256', typ: 'secevent+jwt' }, claims]
    .map((part) => Buffer.from(JSON.stringify(part)).toString('base64url'))
    .concat('c2lnbmF0dXJl')
    .join('.');
const all = (...args: Parameters<typeof setOf>): AuthEvent[] => eventsOf(ssf, json(setOf(...args)));
const one = (...args: Parameters<typeof setOf>): AuthEvent => {
  const events = all(...args);
  expect(events).toHaveLength(1);
  return events[0]!;
};

describe('a revoked session', () => {
  const event = {
    ...{ event_timestamp: 1_767_225_590, initiating_entity: 'policy' },
    reason_admin: { en: 'Landing speed above the limit', de: 'Zu schnell' },
  };
  const subject = {
    format: 'complex',
    user: ada,
    session: { format: 'opaque', id: 'sess-7' },
    device: { format: 'opaque', id: 'laptop-1' },
    tenant: { format: 'opaque', id: 'acme' },
    application: { format: 'opaque', id: 'web' },
  };
  const claims = setOf('caep', 'session-revoked', event, { sub_id: subject, txn: 'txn-9' });
  const wanted = expected(ssf, {
    time: at - 10_000_000_000n,
    kind: 'session_revoked',
    outcome: 'success',
    source: {
      instance: 'https://signals.example.com',
      tenant: 'acme',
      raw_type: 'caep session-revoked',
    },
    client: { id: 'web' },
    subject: { ref: ring.ref('subject', 'u1'), type: 'user' },
    issuer: 'https://login.example.com',
    audience: ['https://grantscope.example.com'],
    session_ref: ring.ref('session', 'sess-7'),
    corr: { transaction_id: 'txn-9' },
    ext: { initiating_entity: 'policy', reason_admin: 'Landing speed above the limit' },
    redaction: { fields: ['session_ref', 'subject.ref'] },
  });

  it.each([
    ['decoded', json(claims)],
    ['in compact form', line(compact(claims))],
  ])('%s', (_, record) => {
    const events = eventsOf(ssf, record);
    expect(events.map(withoutId)).toEqual([wanted]);
    expect(events[0]?.event_id).toBe(setId);
  });

  it('that is named by its token revokes the token too', () => {
    const events = all(
      'caep',
      'session-revoked',
      {},
      { sub_id: { format: 'jwt_id', iss: ada.iss, jti: tokenId } },
    );
    expect(
      events.map((e) => [e.kind, e.tokens.map((t) => [t.role, t.type, t.ref, t.ref_kind])]),
    ).toEqual([
      ['session_revoked', [['revoked', 'access', tokenId, 'jti']]],
      ['token_revoked', [['revoked', 'access', tokenId, 'jti']]],
    ]);
    expect(events[0]?.subject.ref).toBe('');
    expect(events[0]?.event_id).not.toBe(events[1]?.event_id);
  });
});

describe('every type', () => {
  it.each([
    ['caep', 'session-revoked', 'session_revoked'],
    ['caep', 'session-established', 'session_started'],
    ['caep', 'session-presented', 'unclassified'],
    ...[
      'token-claims-change',
      'credential-change',
      'assurance-level-change',
      'device-compliance-change',
      'risk-level-change',
    ].map((t) => ['caep', t, 'risk_signal']),
    ['risc', 'sessions-revoked', 'session_revoked'],
    ['risc', 'account-disabled', 'account_locked'],
    ...[
      'account-credential-change-required',
      'account-enabled',
      'account-purged',
      'credential-compromise',
      'identifier-changed',
      'identifier-recycled',
      'recovery-activated',
      'recovery-information-changed',
    ].map((t) => ['risc', t, 'risk_signal']),
    ['risc', 'opt-in', 'unclassified'],
    ['oauth', 'token-revoked', 'token_revoked'],
    ['oauth', 'tokens-revoked', 'grant_revoked'],
    ['ssf', 'stream-updated', 'unclassified'],
  ])('%s %s is %s', (profile, type, kind) => {
    const event = one(profile, type);
    expect([event.kind, event.source.raw_type, event.outcome]).toEqual([
      kind,
      `${profile} ${type}`,
      'success',
    ]);
  });

  it('an event of another profile keeps its URI', () => {
    const events = { 'https://events.example.com/toString': {} };
    expect(one('x', 'x', {}, { events })).toMatchObject({
      kind: 'unclassified',
      source: { raw_type: 'https://events.example.com/toString' },
    });
  });

  it('a verification of the stream is about nobody', () => {
    expect(all('ssf', 'verification', { state: 'abc' })).toEqual([]);
    expect(all('risc', 'verification')).toEqual([]);
  });

  it.each([
    [
      'risk-level-change',
      {
        principal: 'USER',
        current_level: 'HIGH',
        previous_level: 'LOW',
        risk_reason: 'PASSWORD_FOUND_IN_DATA_BREACH',
      },
      'high',
    ],
    [
      'assurance-level-change',
      {
        namespace: 'NIST-AAL',
        current_level: 'nist-aal1',
        previous_level: 'nist-aal2',
        change_direction: 'decrease',
      },
      '',
    ],
    [
      'device-compliance-change',
      { current_status: 'not-compliant', previous_status: 'compliant' },
      '',
    ],
    ['credential-change', { credential_type: 'fido2-roaming', change_type: 'create' }, ''],
  ])('%s says what changed', (type, event, risk) => {
    const made = one('caep', type, event);
    expect(made.ext).toEqual(event);
    expect(made.risk).toBe(risk);
  });

  it('the names of changed claims are kept, their values not', () => {
    const made = one('caep', 'token-claims-change', {
      claims: { role: 'ro-admin-hidden', trusted_network: 'false' },
    });
    expect(made.ext).toEqual({ claims_changed: 'role trusted_network' });
  });

  it('a session that began says from where', () => {
    expect(
      one('caep', 'session-established', {
        ips: ['203.0.113.9'],
        fp_ua: 'curl/8.5.0',
        acr: 'aal2',
        amr: ['pwd', 'otp'],
        ext_id: 'sess-7',
      }),
    ).toMatchObject({
      ...{ acr: 'aal2', amr: ['otp', 'pwd'], session_ref: ring.ref('session', 'sess-7') },
      net: { client_ip: '203.0.113.9', ip_role: 'end_user', ua_family: 'curl' },
    });
  });
});

describe('subject identifiers', () => {
  const subjectOf = (sub_id: unknown, event: object = {}) =>
    one('caep', 'risk-level-change', event, { sub_id }).subject;
  it.each([
    [{ format: 'account', uri: 'acct:ada@example.com' }, 'acct:ada@example.com'],
    [{ format: 'email', email: 'ada@example.com' }, 'ada@example.com'],
    [ada, 'u1'],
    [{ format: 'opaque', id: 'x-1' }, 'x-1'],
    [{ format: 'phone_number', phone_number: '+15550100' }, '+15550100'],
    [{ format: 'did', url: 'did:example:123' }, 'did:example:123'],
    [{ format: 'uri', uri: 'https://example.com/u/1' }, 'https://example.com/u/1'],
    [
      { format: 'aliases', identifiers: [{ format: 'email', email: 'ada@example.com' }, ada] },
      'u1',
    ],
    [{ subject_type: 'iss-sub', iss: 'https://login.example.com', sub: 'u1' }, 'u1'],
    [{ user: ada, device: { format: 'opaque', id: 'd' } }, 'u1'],
  ])('%j', (subject, id) => {
    expect(subjectOf(subject)).toEqual({ ref: ring.ref('subject', id), type: 'user' });
  });

  it('a device alone is one', () => {
    expect(subjectOf({ device: { format: 'opaque', id: 'd' } })).toEqual({
      ref: ring.ref('subject', 'd'),
      type: 'device',
    });
  });

  it('within the event, or as claims of the token, where drafts put it', () => {
    expect(
      subjectOf(undefined, { subject: { subject_type: 'email', email: 'a@example.com' } }).ref,
    ).toBe(ring.ref('subject', 'a@example.com'));
    expect(one('caep', 'risk-level-change', {}, { sub_id: undefined, sub: 'u1' }).subject.ref).toBe(
      ring.ref('subject', 'u1'),
    );
  });

  it.each([
    { format: 'constructor' },
    { format: 'aliases', identifiers: [{ format: 'aliases' }] },
    {},
    7,
    { format: 'email', email: {} },
  ])('nobody: %j', (subject) => {
    expect(subjectOf(subject).ref).toBe('');
  });

  it('a token by its hash, its text or its assertion', () => {
    const tokenOf = (subject: object) =>
      one('oauth', 'token-revoked', {}, { sub_id: subject }).tokens;
    const oauth = {
      subject_type: 'oauth_token',
      token_type: 'refresh_token',
      token: 'abcdef0123456789',
    };
    expect(tokenOf({ ...oauth, token_identifier_alg: 'hash_SHA512_double' })).toMatchObject([
      {
        role: 'revoked',
        type: 'refresh',
        ref: ring.ref('token', 'abcdef0123456789'),
        ref_kind: 'vendor_hash',
      },
    ]);
    expect(tokenOf({ ...oauth, token_identifier_alg: 'plain' })).toMatchObject([
      { ref_kind: 'hmac' },
    ]);
    expect(
      tokenOf({ format: 'saml_assertion_id', issuer: 'x', assertion_id: '_a1' }),
    ).toMatchObject([{ role: 'revoked', type: 'assertion', ref_kind: 'vendor_id' }]);
    expect(tokenOf({ format: 'jwt_id', iss: 'x' })).toEqual([]);
  });
});

it('several events of one token have ids of their own', () => {
  const events = { [uri('caep', 'session-revoked')]: {}, [uri('risc', 'account-disabled')]: {} };
  const made = all('x', 'x', {}, { events });
  expect(made.map((e) => e.kind)).toEqual(['session_revoked', 'account_locked']);
  expect(new Set(made.map((e) => e.event_id)).size).toBe(2);
});

describe('containers and what is no SET', () => {
  it('a poll response is opened', () => {
    const claims = setOf('caep', 'session-revoked');
    expect(ssf.unwrap?.({ sets: { a: compact(claims), b: 'x' }, moreAvailable: false })).toEqual([
      claims,
      'x',
    ]);
    expect(ssf.unwrap?.(claims)).toBeUndefined();
  });

  const needed = 'record: no security event token; the claims events, iss and jti are needed';
  it.each([
    ['no events', setOf('a', 'b', {}, { events: {} }), 'unrecognised_record', needed],
    [
      'events that are no object',
      setOf('a', 'b', {}, { events: ['x'] }),
      'unrecognised_record',
      needed,
    ],
    ['no issuer', setOf('a', 'b', {}, { iss: undefined }), 'unrecognised_record', needed],
    ['no id', setOf('a', 'b', {}, { jti: '' }), 'unrecognised_record', needed],
    ['no time', setOf('caep', 'b', {}, { iat: undefined }), 'missing_field', 'iat: is required'],
    [
      'a bad time',
      setOf('caep', 'b', {}, { iat: 'x' }),
      'invalid_time',
      `iat: not a time; ${TIME_ALLOWED}`,
    ],
    ['a list', [], 'not_an_object', 'record: must be a JSON object'],
  ])('%s', (_, value, code, message) => {
    expect(ssf.parse(json(value), { received_at: RECEIVED_AT })).toEqual({
      ok: false,
      code,
      message,
    });
  });

  const noJwt = 'line: no signed JWT (three parts of base64url, at most 65536 characters)';
  it.each(['', 'x', 'a.b', 'a.b.c', 'a.W10.c', 'a.b.c.d.e', `a.${'b'.repeat(70_000)}.c`])(
    'text %#',
    (text) => {
      expect(ssf.parse(line(text), { received_at: RECEIVED_AT })).toEqual({
        ok: false,
        code: 'unrecognised_record',
        message: noJwt,
      });
    },
  );

  it('foreign names and types do no harm', () => {
    const set = JSON.parse(
      '{"iss":"x","jti":"y","iat":1767225600,"aud":{},"sub_id":{"format":"complex","user":7,"session":[]},' +
        '"events":{"__proto__":{"claims":[],"ips":{},"reason_admin":[]},"constructor":7}}',
    ) as object;
    expect(eventsOf(ssf, json(set)).map((e) => [e.kind, e.source.raw_type])).toEqual([
      ['unclassified', '__proto__'],
      ['unclassified', 'constructor'],
    ]);
  });
});

it('provides what it says', () => {
  const complex = {
    format: 'complex',
    ...{
      user: ada,
      session: { format: 'jwt_id', iss: 'x', jti: tokenId },
      tenant: { format: 'opaque', id: 't' },
    },
    application: { format: 'opaque', id: 'web' },
  };
  const events = [
    ...all(
      'caep',
      'session-established',
      { ips: ['203.0.113.9'], fp_ua: 'curl/8', acr: 'a', amr: ['pwd'], ext_id: 's' },
      { txn: 't' },
    ),
    ...all('caep', 'session-revoked', { initiating_entity: 'user' }, { sub_id: complex }),
    ...all('caep', 'risk-level-change', { current_level: 'HIGH' }),
  ];
  expect(filledFields(events)).toEqual([...ssf.provides].sort());
});
