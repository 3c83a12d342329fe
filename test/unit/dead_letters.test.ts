import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  DeadLetters,
  LETTER_CHARS_PER_MINUTE_MAX,
} from '../../collector/dead_letters/dead_letters.ts';
import { Markers } from '../../collector/dead_letters/marker.ts';
import {
  LETTER_CHARS_MAX,
  redactRecord,
  sizeOfRecord,
} from '../../collector/dead_letters/redact_record.ts';
import { restoreDraft } from '../../collector/dead_letters/restore_draft.ts';
import { identifyToken } from '../../collector/processors/canonical_token.ts';
import { createScrubber } from '../../collector/processors/scrub.ts';
import grantscope from '../../collector/sources/grantscope.ts';
import keycloak from '../../collector/sources/keycloak.ts';
import type { SourceRecord } from '../../model/define_source.ts';
import { Secret } from '../../model/secret.ts';
import { ManualClock } from '../../runtime/clock.ts';
import { KeyRing } from '../../runtime/keyring.ts';
import { Metrics } from '../../runtime/metrics.ts';
import { TEST_KEY } from '../harness.ts';

const keyRing = KeyRing.fromKey(TEST_KEY);
const markers = new Markers(keyRing);
const scrubber = createScrubber();

function redacted(value: unknown, clientIp: 'keep' | 'truncate' | 'hash' = 'keep'): unknown {
  const { text } = redactRecord({ form: 'json', value }, { scrubber, markers, clientIp });
  return JSON.parse(text);
}
function redactedLine(line: string, clientIp: 'keep' | 'truncate' | 'hash' = 'keep'): string {
  return redactRecord({ form: 'text', line }, { scrubber, markers, clientIp }).text;
}

// Assembled at run time, so that no scanner of this repository takes them for real.
const opaque = ['ory', 'at', 'q9Zt', '7xK2'].join('_');
const jwt = [
  Buffer.from('{"alg":"RS256"}').toString('base64url'),
  Buffer.from('{"jti":"6f1c1e8a-6f6e-4a39-9d2a-3f3d3c3b3a39","sub":"alice"}').toString('base64url'),
  'c2lnbmF0dXJlLXZhbHVl',
].join('.');

describe('markers', () => {
  it('carry the reference of each domain, and read only what the key has sealed', () => {
    const marker = markers.make(opaque);
    expect(markers.read(marker)).toEqual({
      isJti: false,
      refs: {
        token: identifyToken(keyRing, { secret: new Secret(opaque) }).ref,
        subject: keyRing.ref('subject', opaque),
        session: keyRing.ref('session', opaque),
        grant: keyRing.ref('grant', opaque),
      },
    });
    const flipped = marker.replace(/.$/, (c) => (c === '0' ? '1' : '0'));
    expect(markers.read(flipped)).toBeUndefined();
    const other = new Markers(KeyRing.fromKey(`${TEST_KEY}-another`));
    expect(other.read(marker)).toBeUndefined();
    expect(markers.read(`gsref:h:${'a'.repeat(128)}:${'b'.repeat(32)}`)).toBeUndefined();
  });

  it('are read after a rotation of keys, and by nobody without the old one', () => {
    const marker = markers.make(opaque);
    const next = `${TEST_KEY}-next`;
    const ring = (keys: { id: string; key: string }[]) => new Markers(new KeyRing(keys));
    const both = ring([
      { id: 'new', key: next },
      { id: 'old', key: TEST_KEY },
    ]);
    expect(both.read(marker)).toEqual(markers.read(marker));
    expect(ring([{ id: 'new', key: next }]).read(marker)).toBeUndefined();
  });

  it('know a JWT by its jti', () => {
    expect(markers.read(markers.make(`Bearer ${jwt}`))).toMatchObject({
      isJti: true,
      refs: { token: '6f1c1e8a-6f6e-4a39-9d2a-3f3d3c3b3a39' },
    });
  });
});

describe('redaction of a refused record', () => {
  it('replaces secrets, people, sessions and grants, and keeps what adapters need', () => {
    const record = {
      kind: 'token_issued',
      client: { id: 'orders-web' },
      subject: { id: 'alice', type: 'user' },
      session: { id: 's-1' },
      tokens: [{ role: 'issued', type: 'access', value: opaque, counter: 3, kid: 'k1' }],
      error: { code: 'invalid_grant' },
      password: 'hunter2',
      otp: 123456,
      user_email: 'bob@example.org',
      note: 'mail bob@example.org about it',
    };
    expect(redacted(record)).toEqual({
      kind: 'token_issued',
      client: { id: 'orders-web' },
      subject: { id: markers.make('alice'), type: 'user' },
      session: { id: markers.make('s-1') },
      tokens: [
        { role: 'issued', type: 'access', value: markers.make(opaque), counter: 3, kid: 'k1' },
      ],
      error: { code: 'invalid_grant' },
      password: markers.make('hunter2'),
      otp: markers.make('123456'),
      user_email: markers.make('bob@example.org'),
      note: 'mail [redacted] about it',
    });
  });

  it.each<[string, unknown, string]>([
    ['a secret where an object was expected', { tokens: opaque }, opaque],
    ['a name beside its value', { headers: [{ name: 'authorization', value: opaque }] }, opaque],
    [
      'a key beside its typed value',
      { kv: [{ key: 'user.id', value: { stringValue: 'zoe.q' } }] },
      'zoe.q',
    ],
    ['names and values in turn', { rawHeaders: ['Cookie', opaque, 'Host', 'a'] }, opaque],
    ['JSON in a string', { body: JSON.stringify({ user: 'zoe.q', id: 1 }) }, 'zoe.q'],
    [
      'JSON in JSON in a string',
      { a: JSON.stringify({ b: JSON.stringify({ password: 'zoe.q' }) }) },
      'zoe.q',
    ],
    ['a form', { body: `grant_type=password&username=zoe.q&x=1` }, 'zoe.q'],
    ['a URL with userinfo', { to: `https://zoe:${opaque}@as.example/x` }, opaque],
    ['a JWT anywhere', { note: `got ${jwt} from there` }, jwt.split('.')[1] ?? ''],
    ['a path to a person', { resourcePath: 'users/zoe.q/role-mappings' }, 'zoe.q'],
    ['a key that is a secret', { [jwt]: 1 }, jwt.split('.')[1] ?? ''],
    ['an opaque token as jti', { model: { jti: opaque, format: 'opaque' } }, opaque],
    ['a token in an array', { refresh_token: [opaque, opaque] }, opaque],
    [
      'the name in a profile',
      { claims: { email_verified: true, given_name: 'Z', name: 'zoe.q' } },
      'zoe.q',
    ],
    ['a deep one', { a: { b: { c: [[{ client_secret: opaque }]] } } }, opaque],
  ])('leaves nothing of %s', (_name, record, secret) => {
    expect(JSON.stringify(redacted(record))).not.toContain(secret);
  });

  it('keeps UUIDs that are references or names of tokens, and words for nothing and for masked', () => {
    const record = {
      tokens: [
        {
          jti: '6f1c1e8a-6f6e-4a39-9d2a-3f3d3c3b3a39',
          ref: '7f1c1e8a-6f6e-4a39-9d2a-3f3d3c3b3a39',
        },
      ],
      details: { token_id: 'onrtac:8f1c1e8a-6f6e-4a39-9d2a-3f3d3c3b3a39' },
      access_token: '***',
      userId: 'null',
      trace_id: '0af7651916cd43dd8448eb211c80319c',
    };
    expect(redacted(record)).toEqual(record);
  });

  it('keeps the pairs of a log line apart', () => {
    const line =
      '2026-01-02 03:04:05,678 WARN  [org.keycloak.events] type="LOGIN_ERROR", realmId="m", clientId="web", userId="u-1", ipAddress="203.0.113.7", error="invalid_user_credentials", username="Zoe Q", code_id="c-9"';
    expect(redactedLine(line)).toBe(
      line
        .replace('u-1', markers.make('u-1'))
        .replace('Zoe Q', markers.make('Zoe Q'))
        .replace('c-9', markers.make('c-9')),
    );
    const bare = 'type=LOGIN, userId=u-1, username=Zoe Q, ipAddress=203.0.113.7';
    expect(redactedLine(bare)).toBe(
      `type=LOGIN, userId=${markers.make('u-1')}, username=${markers.make('Zoe Q')}, ipAddress=203.0.113.7`,
    );
  });

  it('treats addresses as the configuration says, wherever they stand', () => {
    const line = 'from 203.0.113.77 and 2001:db8:1:2::9 at 12:30:45, ip=198.51.100.9';
    expect(redactedLine(line)).toBe(line);
    expect(redactedLine(line, 'truncate')).toBe(
      'from 203.0.113.0 and 2001:db8:1:: at 12:30:45, ip=198.51.100.0',
    );
    expect(redacted({ net: { client_ip: '203.0.113.77' } }, 'hash')).toEqual({
      net: { client_ip: markers.make('203.0.113.77') },
    });
  });

  it('keeps no planted value, whatever the shape of the record (printed seed on failure)', () => {
    const canary = ['zq', 'canary', '8kPq3vXw0LmN5tRb', 'Jd7Y2hGs'].join('-');
    const secretKey = fc.constantFrom(
      'access_token',
      'password',
      'userId',
      'sub',
      'sessionId',
      'code',
      'client_secret',
      'email',
      'Authorization',
    );
    const leaf = fc.oneof(
      fc.record({ name: secretKey }).map(({ name }) => ({ [name]: canary })),
      fc.tuple(secretKey, fc.constantFrom('=', '="', '":"')).map(([name, by]) => ({
        line: `a=1, ${by.startsWith('"') ? '"' : ''}${name}${by}${canary}${by.endsWith('"') ? '"' : ''}, b=2`,
      })),
      fc.constant({ text: `token ${jwt.slice(0, 20)}... Bearer ${canary}` }),
      fc.record({ key: secretKey }).map(({ key }) => ({ key, value: canary })),
      fc.constant(JSON.stringify({ password: canary })),
    );
    const { tree } = fc.letrec((tie) => ({
      tree: fc.oneof(
        { maxDepth: 4 },
        leaf,
        fc.array(tie('tree'), { maxLength: 3 }),
        fc.dictionary(fc.string({ maxLength: 5 }), tie('tree'), { maxKeys: 3 }),
      ),
    }));
    fc.assert(
      fc.property(tree, (value) => {
        expect(JSON.stringify(redacted({ value }))).not.toContain(canary);
      }),
      { numRuns: 500 },
    );
  });

  it('is linear: hostile texts of the largest size cost milliseconds', () => {
    const n = LETTER_CHARS_MAX;
    const hostile = [
      'a'.repeat(n),
      'a="'.repeat(n / 3),
      ' '.repeat(n),
      'user='.repeat(n / 5),
      'users/'.repeat(n / 6),
      '"a":"'.repeat(n / 5),
      '1:'.repeat(n / 2),
      '['.repeat(n),
      '=\\"'.repeat(n / 3),
      'gsref:h:'.repeat(n / 8),
    ];
    const started = performance.now();
    for (const line of hostile) redactedLine(line, 'truncate');
    expect((performance.now() - started) / hostile.length).toBeLessThan(500);
  });
});

describe('restoring a draft', () => {
  const parse = (source: typeof grantscope, record: SourceRecord) => {
    const parsed = source.parse(record, { received_at: 1n });
    if (!parsed.ok) throw new Error(parsed.message);
    const [draft] = parsed.events;
    if (draft === undefined) throw new Error('no event');
    return draft;
  };

  it('puts back what an adapter has found, each in its domain', () => {
    const record = {
      time: '2026-01-02T03:04:05Z',
      kind: 'token_issued',
      subject: { id: 'alice', type: 'user' },
      session: { id: 's-1' },
      grant: { id: 'g-1' },
      client: { id: 'web', name: 'alice@example.org' },
      tokens: [
        { role: 'issued', type: 'access', value: opaque },
        { role: 'issued', type: 'id', value: jwt },
        { role: 'consumed', type: 'refresh', jti: opaque, family: { value: opaque } },
      ],
    };
    const draft = parse(grantscope, { form: 'json', value: redacted(record) });
    const ref = keyRing.ref('token', opaque);
    expect(restoreDraft(draft, markers, 'k9')).toMatchObject({
      subject: { ref: keyRing.ref('subject', 'alice'), type: 'user' },
      session: { ref: keyRing.ref('session', 's-1') },
      grant: { ref: keyRing.ref('grant', 'g-1') },
      client: { id: 'web', name: '[redacted]' },
      tokens: [
        { role: 'issued', type: 'access', ref },
        { role: 'issued', type: 'id', jti: '6f1c1e8a-6f6e-4a39-9d2a-3f3d3c3b3a39' },
        { role: 'consumed', type: 'refresh', jti: ref, family: { ref } },
      ],
      reference_key_id: 'k9',
    });
  });

  it('leaves out an id that was made of a marker and something else', () => {
    const line = redactedLine(
      '2026-01-02 03:04:05,678 INFO  [org.keycloak.events] type="LOGIN", realmId="m", clientId="web", userId="u-1", sessionId="s-1", ipAddress="203.0.113.7"',
    );
    const draft = restoreDraft(parse(keycloak, { form: 'text', line }), markers, 'k9');
    expect(draft.subject).toMatchObject({ ref: keyRing.ref('subject', 'u-1') });
    expect(draft.session).toEqual({ ref: keyRing.ref('session', 's-1') });
    expect(draft.grant).toEqual({});
    expect(
      JSON.stringify(draft, (_, v: unknown) => (typeof v === 'bigint' ? String(v) : v)),
    ).not.toContain('gsref');
  });

  it('gives a forged marker no reference', () => {
    const forged = `gsref:h:${keyRing.ref('token', opaque).replaceAll('-', '').repeat(4)}:${'0'.repeat(32)}`;
    const draft = parse(grantscope, {
      form: 'json',
      value: {
        time: '2026-01-02T03:04:05Z',
        kind: 'login',
        subject: { id: forged },
        tokens: [{ role: 'presented', type: 'access', value: forged }],
      },
    });
    const restored = restoreDraft(draft, markers, 'k9');
    expect(restored.subject).not.toHaveProperty('ref');
    expect(restored.subject).not.toHaveProperty('id');
    expect(restored.tokens).toEqual([{ role: 'presented', type: 'access' }]);
    expect(restored.reference_key_id).toBeUndefined();
  });
});

describe('limits of dead letters', () => {
  function open(perMinuteMax: number) {
    const clock = new ManualClock(1_700_000_000_000);
    const metrics = new Metrics({ processMetrics: false });
    const letters = new DeadLetters({
      keyRing,
      scrubber,
      clock,
      metrics,
      tenant: 't',
      clientIp: 'keep',
      perMinuteMax,
    });
    const take = (value: unknown, n = 0) =>
      letters.letterOf({
        source: grantscope,
        record: { form: 'json', value },
        code: 'missing_field',
        message: 'time: is required',
        receivedAt: 7n,
        contentSeed: `hash:${n}`,
      });
    const notKept = async (): Promise<Record<string, number>> => {
      const metric = await metrics.registry
        .getSingleMetric('grantscope_dead_letters_not_kept_total')
        ?.get();
      return Object.fromEntries(
        (metric?.values ?? []).map((v) => [String(v.labels['limit']), v.value]),
      );
    };
    return { clock, take, notKept };
  }

  it('keeps so many a minute, and goes on when the minute has passed', async () => {
    const { clock, take, notKept } = open(2);
    expect([take({ a: 1 }, 1), take({ a: 1 }, 2), take({ a: 1 }, 3)].map((l) => l?.record)).toEqual(
      ['{"a":1}', '{"a":1}', undefined],
    );
    clock.advance(30_000);
    expect([take({}, 4), take({}, 5)].map((l) => l === undefined)).toEqual([false, true]);
    expect(await notKept()).toEqual({ letters_per_minute: 2 });
  });

  it('keeps no record beyond the size, whatever makes it large', async () => {
    const { take, notKept } = open(1_000);
    const many = Object.fromEntries(Array.from({ length: 100_000 }, (_, i) => [`k${i}`, i]));
    expect(take({ text: 'x'.repeat(LETTER_CHARS_MAX + 1) })).toBeUndefined();
    expect(take(many)).toBeUndefined();
    expect(take(Array.from({ length: 10_000 }, () => []))).toBeUndefined();
    expect(take({ text: 'x'.repeat(LETTER_CHARS_MAX - 100) })).toBeDefined();
    expect(await notKept()).toEqual({ record_chars: 3 });
  });

  it('keeps so much text a minute', async () => {
    const { take, notKept } = open(1_000_000);
    const record = { text: '-'.repeat(16_000) };
    const each = sizeOfRecord({ form: 'json', value: record });
    const most = Math.floor(LETTER_CHARS_PER_MINUTE_MAX / each);
    for (let i = 0; i < most; i += 1) expect(take(record, i)).toBeDefined();
    expect(take(record, most)).toBeUndefined();
    expect(await notKept()).toEqual({ chars_per_minute: 1 });
  });

  it('names a letter by tenant, source and content seed alone', () => {
    const { take } = open(10);
    const [first, again, other] = [take({ a: 1 }, 1), take({ a: 2 }, 1), take({ a: 1 }, 2)];
    expect(first?.letterId).toBe(again?.letterId);
    expect(first?.letterId).not.toBe(other?.letterId);
    expect(first).toMatchObject({
      tenant: 't',
      sourceId: 'grantscope',
      reason: 'missing_field',
      receivedAt: 7n,
      form: 'json',
      contentSeed: 'hash:1',
      keyId: keyRing.currentId,
    });
  });
});
