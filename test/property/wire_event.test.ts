import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { isPlainWireEvent, WireEvent } from '../../collector/sources/_wire_event.ts';
import grantscope from '../../collector/sources/grantscope.ts';
import { EVENT_KINDS, TOKEN_ROLES, TOKEN_TYPES } from '../../model/kinds.ts';

// The hand-written check of our own events decides as the zod contract does.

const text = fc.oneof(fc.string(), fc.constantFrom('', '-', 'https://as.example'));
const time = fc.oneof(
  fc
    .date({ noInvalidDate: true, min: new Date(0), max: new Date('2100-01-01') })
    .map((d) => d.toISOString()),
  fc.integer({ min: 1, max: 2_000_000_000_000 }),
  fc.constantFrom('1767614400', '2026-01-05 12:00:00+02:00', '1767614400.123'),
);
const anything = fc.oneof(
  fc.constantFrom<unknown>(
    null,
    undefined,
    '',
    'x',
    0,
    -1,
    Infinity,
    Number.NaN,
    true,
    [],
    {},
    [1],
    ['a'],
    ['a', null],
  ),
  fc.jsonValue(),
);
const group = (...names: string[]) =>
  fc.record(Object.fromEntries(names.map((n) => [n, text])), { requiredKeys: [] });
const identity = { value: text, jti: text, vendor_id: text, vendor_hash: text, ref: text };
const token = fc.record(
  {
    ...identity,
    role: fc.constantFrom(...TOKEN_ROLES),
    type: fc.constantFrom(...TOKEN_TYPES),
    ref_kind: fc.constantFrom('jti', 'hmac'),
    family: fc.record(identity, { requiredKeys: [] }),
    parent: fc.record(identity, { requiredKeys: [] }),
    family_ref: text,
    parent_ref: text,
    counter: fc.integer(),
    issued_at: time,
    expires_at: time,
    kid: text,
    alg: text,
  },
  { requiredKeys: ['role', 'type'] },
);
const principal = fc.record(
  { id: text, ref: text, type: fc.constantFrom('user', 'service') },
  { requiredKeys: [] },
);
const lists = fc.oneof(text, fc.array(text, { maxLength: 3 }));
const event = fc.record(
  {
    kind: fc.constantFrom(...EVENT_KINDS),
    time,
    event_id: text,
    observed_time: time,
    source: group('instance', 'tenant', 'raw_type'),
    phase: fc.constantFrom('attempt', 'outcome', 'single'),
    outcome: fc.constantFrom('success', 'failure'),
    error: group('code', 'oauth_error', 'detail'),
    grant_type: text,
    client: group('id', 'name', 'auth_method'),
    subject: principal,
    actor: principal,
    issuer: text,
    audience: lists,
    scopes_granted: lists,
    pkce: fc.constantFrom('S256', 'plain'),
    binding: fc.constantFrom('none', 'dpop'),
    tokens: fc.array(token, { maxLength: 3 }),
    session: group('id', 'ref'),
    session_ref: text,
    net: fc.record(
      { client_ip: text, ip_role: fc.constantFrom('end_user', 'proxy'), user_agent: text },
      { requiredKeys: [] },
    ),
    http: fc.record(
      {
        method: text,
        status: fc.integer(),
        duration_ms: fc.double({ noNaN: true, noDefaultInfinity: true }),
      },
      { requiredKeys: [] },
    ),
    corr: group('trace_id', 'span_id'),
    redaction: fc.record({ upstream: fc.boolean(), key_id: text }, { requiredKeys: [] }),
    ext: fc.dictionary(fc.string(), fc.oneof(text, fc.integer(), fc.boolean())),
  },
  { requiredKeys: ['kind', 'time'] },
);

type Json = Readonly<Record<string, unknown>>;

/** Puts something else in the place of one member, at any depth. */
function withMember(value: unknown, path: readonly number[], other: unknown): unknown {
  const [step, ...rest] = path;
  if (step === undefined || typeof value !== 'object' || value === null) return other;
  const keys = Object.keys(value);
  const key = keys[step % Math.max(1, keys.length)];
  if (key === undefined) return other;
  const inner = withMember((value as Json)[key], rest, other);
  return Array.isArray(value)
    ? value.map((item: unknown, i) => (String(i) === key ? inner : item))
    : { ...value, [key]: inner };
}

describe('isPlainWireEvent', () => {
  it('accepts every well-formed event, as zod does', () => {
    fc.assert(
      fc.property(event, (e) => {
        expect(WireEvent.safeParse(e).success).toBe(true);
        expect(isPlainWireEvent(e)).toBe(true);
      }),
      { numRuns: 500 },
    );
  });

  it('decides as zod does where one member is anything else', () => {
    let refused = 0;
    fc.assert(
      fc.property(
        event,
        fc.array(fc.nat(40), { minLength: 1, maxLength: 4 }),
        anything,
        (e, path, other) => {
          const broken = withMember(e, path, other) as Json;
          const expected = WireEvent.safeParse(broken).success;
          if (!expected) refused += 1;
          expect(isPlainWireEvent(broken)).toBe(expected);
          expect(grantscope.parse({ form: 'json', value: broken }, { received_at: 0n }).ok).toBe(
            expected,
          );
        },
      ),
      { numRuns: 3_000 },
    );
    expect(refused).toBeGreaterThan(300);
  });
});
