import { describe, expect, it } from 'vitest';
import otlp from '../../collector/sources/otlp.ts';
import { eventsOf, expected, json, RECEIVED_AT, ring, withoutId } from './run_source.ts';

const ref = (n: number): string => `6d1f0f3a-5a53-4a3c-8d8e-9a4b51d4c00${n}`;
const record = (attributes: Record<string, unknown>, more: Record<string, unknown> = {}) =>
  json({
    attributes: { 'oauth.event.kind': 'token_refreshed', ...attributes },
    time_unix_nano: '1767225600000000001',
    name: 'oauth.auth_event',
    trace_id: '4BF92F3577B34DA6A3CE929D0E0E4736',
    span_id: '00f067aa0ba902b7',
    resource: { 'service.name': 'as', 'service.instance.id': 'as-1' },
    ...more,
  });

describe('otlp', () => {
  it('reads the attributes of our instrumentation', () => {
    const [event] = eventsOf(
      otlp,
      record({
        'oauth.event.id': ref(9),
        'oauth.event.outcome': 'success',
        'oauth.grant_type': 'refresh_token',
        'oauth.client_id': 'web',
        'oauth.subject.ref': ref(1),
        'oauth.subject.type': 'user',
        'oauth.scopes_granted': ['b', 'a'],
        'oauth.pkce': 'S256',
        'oauth.token.consumed.refresh.ref': ref(2),
        'oauth.token.consumed.refresh.family_ref': ref(3),
        'oauth.token.issued.access.ref': ref(4),
        'oauth.token.issued.access.ref_kind': 'jti',
        'oauth.token.issued.access.parent_ref': ref(2),
        'oauth.token.issued.access.expires_at': 1_767_225_900n,
        'oauth.token.nonsense.access.ref': ref(5),
        'oauth.grant.ref': ref(6),
        'client.address': '2001:DB8:1:2::3',
        'oauth.client_ip_role': 'end_user',
        'http.response.status_code': 200n,
        'oauth.duration_ms': 3.5,
        'oauth.redaction.key_id': 'k2',
        'oauth.client.metadata.redirect_uris': ['https://a/cb', 'https://b/cb'],
        'oauth.ext.active': true,
        'some.other': 'x',
      }),
    );
    expect(event!.event_id).toBe(ref(9));
    expect(withoutId(event!)).toEqual(
      expected(otlp, {
        time: 1_767_225_600_000_000_001n,
        kind: 'token_refreshed',
        outcome: 'success',
        source: { instance: 'as/as-1', raw_type: 'oauth.auth_event' },
        grant_type: 'refresh_token',
        client: { id: 'web' },
        subject: { ref: ref(1), type: 'user' },
        scopes_granted: ['a', 'b'],
        pkce: 'S256',
        tokens: [
          { role: 'consumed', type: 'refresh', ref: ref(2), family_ref: ref(3) },
          {
            ...{
              role: 'issued' as const,
              type: 'access' as const,
              ref: ref(4),
              ref_kind: 'jti' as const,
            },
            ...{ parent_ref: ref(2), expires_at: 1_767_225_900_000_000_000n },
          },
        ],
        grant_ref: ref(6),
        net: { client_ip: '2001:db8:1:2::3', network: '2001:db8:1::/48', ip_role: 'end_user' },
        http: { status: 200, duration_ms: 3.5 },
        corr: { trace_id: '4bf92f3577b34da6a3ce929d0e0e4736', span_id: '00f067aa0ba902b7' },
        ext: { redirect_uris: 'https://a/cb https://b/cb', active: 'true' },
        redaction: { fields: ['tokens.ref'], key_id: 'k2' },
      }),
    );
  });

  it('stores no raw value where a reference belongs', () => {
    const raw = 'raw-token-value-1';
    const [event] = eventsOf(
      otlp,
      record({
        'oauth.token.issued.access.ref': raw,
        'oauth.subject.ref': raw,
        'oauth.grant.ref': raw,
      }),
    );
    expect([event!.tokens[0]!.ref, event!.subject.ref, event!.grant_ref]).toEqual(['', '', '']);
    expect(event!.redaction.key_id).toBe(ring.currentId);
  });

  it('keeps an unknown kind as unclassified, and refuses a record without kind or time', () => {
    const [event] = eventsOf(otlp, record({ 'oauth.event.kind': 'moon_landed' }));
    expect([event!.kind, event!.source.raw_type]).toEqual(['unclassified', 'moon_landed']);
    const refused = (value: unknown) => otlp.parse(json(value), { received_at: RECEIVED_AT });
    expect(refused({ attributes: {} })).toMatchObject({ ok: false, code: 'missing_field' });
    const attributes = { 'oauth.event.kind': 'login' };
    expect(refused({ attributes })).toMatchObject({ ok: false, code: 'missing_field' });
    expect(refused({ attributes, time_unix_nano: 'x' })).toMatchObject({
      ok: false,
      code: 'invalid_time',
    });
  });
});
