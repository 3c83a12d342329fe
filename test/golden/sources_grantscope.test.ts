import { describe, expect, it } from 'vitest';
import grantscope from '../../collector/sources/grantscope.ts';
import { eventsOf, expected, json, RECEIVED_AT, ring, withoutId } from './run_source.ts';

const id = '6d1f0f3a-5a53-4a3c-8d8e-9a4b51d4c001';
const ref = '6d1f0f3a-5a53-4a3c-8d8e-9a4b51d4c0aa';
const at = 1_767_225_600_000_000_000n;

describe('grantscope', () => {
  it('reads the whole wire form', () => {
    const [event] = eventsOf(
      grantscope,
      json({
        event_id: id,
        kind: 'token_refreshed',
        time: '2026-01-01T01:00:00+01:00',
        outcome: 'success',
        source: { instance: 'as-1', tenant: 't1', raw_type: 'refresh' },
        grant_type: 'refresh_token',
        client: { id: 'web', name: ' Web ', auth_method: null },
        subject: { id: 'alice', type: 'user' },
        issuer: 'https://AS.example.com/Tenant',
        audience: 'api',
        scopes_granted: 'write, read read',
        redirect_uri: 'https://web/cb?code=abcdef#x',
        tokens: [
          {
            role: 'consumed',
            type: 'refresh',
            value: 'opaque-1',
            family: { vendor_id: 'f1' },
            counter: 3,
          },
          { role: 'issued', type: 'access', jti: ref, parent: { value: 'Bearer opaque-1' } },
          { role: 'issued', type: 'refresh', ref, family_ref: ref, expires_at: 1_767_225_900 },
        ],
        session: { id: 's1' },
        grant_ref: ref,
        net: { client_ip: '::ffff:198.51.100.7', user_agent: 'curl/8.5.0', country: 'de' },
        http: { method: 'post', route: '/token?x=1', status: 200, duration_ms: 12.5 },
        ext: { plan: 'pro', tries: 2 },
        unknown_key: 'ignored',
      }),
    );
    expect(event!.event_id).toBe(id);
    expect(withoutId(event!)).toEqual(
      expected(grantscope, {
        time: at,
        kind: 'token_refreshed',
        outcome: 'success',
        source: { instance: 'as-1', tenant: 't1', raw_type: 'refresh' },
        grant_type: 'refresh_token',
        client: { id: 'web', name: 'Web' },
        subject: { ref: ring.ref('subject', 'alice'), type: 'user' },
        issuer: 'https://as.example.com/Tenant',
        audience: ['api'],
        scopes_granted: ['read', 'write'],
        redirect_uri: 'https://web/cb',
        tokens: [
          {
            ...{
              role: 'consumed' as const,
              type: 'refresh' as const,
              ref: ring.ref('token', 'opaque-1'),
            },
            ...{ family_ref: ring.ref('token', 'f1'), counter: 3 },
          },
          {
            ...{ role: 'issued' as const, type: 'access' as const, ref, ref_kind: 'jti' as const },
            parent_ref: ring.ref('token', 'opaque-1'),
          },
          {
            ...{ role: 'issued' as const, type: 'refresh' as const, ref, family_ref: ref },
            expires_at: 1_767_225_900_000_000_000n,
          },
        ],
        session_ref: ring.ref('session', 's1'),
        grant_ref: ref,
        net: {
          ...{ client_ip: '198.51.100.7', network: '198.51.100.0/24', country: 'DE' },
          ...{ user_agent: 'curl/8.5.0', ua_family: 'curl' },
        },
        http: { method: 'POST', route: '/token', status: 200, duration_ms: 12.5 },
        ext: { plan: 'pro', tries: '2', redirect_uri_had: 'query fragment' },
        redaction: {
          fields: [
            ...['http.route', 'redirect_uri', 'session_ref', 'subject.ref'],
            ...['tokens.family_ref', 'tokens.parent_ref', 'tokens.ref'],
          ],
        },
      }),
    );
  });

  it.each([
    ['2026-01-01T00:00:00Z', at],
    ['2026-01-01T00:00:00.123456789Z', at + 123_456_789n],
    ['2026-01-01 00:00:00', at],
    [1_767_225_600, at],
    ['1767225600', at],
    [1_767_225_600.5, at + 500_000_000n],
    [1_767_225_600_123, at + 123_000_000n],
    ['1767225600123456', at + 123_456_000n],
    ['1767225600123456789', at + 123_456_789n],
  ])('reads the time %j', (time, ns) => {
    expect(eventsOf(grantscope, json({ kind: 'login', time }))[0]!.time).toBe(ns);
  });

  it.each([
    [{ time: 1 }, 'missing_field', 'kind: is required'],
    [{ kind: 'login' }, 'missing_field', 'time: is required'],
    [{ kind: 'login', time: 'soon' }, 'invalid_time', /^time: not a time; allowed: ISO 8601/],
    [{ kind: 'logon', time: at.toString() }, 'invalid_field', /^kind: .*expected one of/],
    [
      { kind: 'login', time: 1, tokens: [{ type: 'access' }] },
      'missing_field',
      'tokens.0.role: is required',
    ],
    [{ kind: 'login', time: 1, client: 'web' }, 'invalid_field', /^client: /],
    [{ kind: 'login', time: 1, ext: { 'hush-key': {} } }, 'invalid_field', /^ext: (?!.*hush)/],
  ])('refuses %j and names the field', (value, code, message) => {
    const refused = grantscope.parse(json(value), { received_at: RECEIVED_AT });
    expect(refused).toMatchObject({ ok: false, code });
    if (!refused.ok && typeof message === 'string') expect(refused.message).toBe(message);
    else if (!refused.ok) expect(refused.message).toMatch(message);
  });
});
