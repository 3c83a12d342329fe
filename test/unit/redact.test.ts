import { describe, expect, it } from 'vitest';
import { networkOf, normaliseIp, uaFamily } from '../../collector/processors/enrich.ts';
import {
  normaliseIssuer,
  normaliseScopes,
  normaliseText,
} from '../../collector/processors/normalise.ts';
import { processDraft, type ProcessContext } from '../../collector/processors/process_draft.ts';
import { EXT_ENTRIES_MAX, NAME_LENGTH_MAX, TOKENS_MAX } from '../../collector/processors/redact.ts';
import { createScrubber } from '../../collector/processors/scrub.ts';
import type { AuthEventDraft } from '../../model/draft.ts';
import { defineSource } from '../../model/define_source.ts';
import { Secret } from '../../model/secret.ts';
import { KeyRing } from '../../runtime/keyring.ts';
import { TEST_KEY } from '../harness.ts';

const keyRing = KeyRing.fromKey(TEST_KEY);
const uuid = '6d1f0f3a-5a53-4a3c-8d8e-9a4b51d4c001';
const source = defineSource({
  ...{ id: 'test', title: 'Test', vendor: 'v', product: 'p', description: 'd', forms: ['json'] },
  ...{ provides: ['time'], confirmed_by: 'documents', references: ['x'] },
  parse: () => ({ ok: true, events: [] }),
});
const context: ProcessContext = {
  ...{ source, tenant: 't1', receivedAt: 1_767_225_600_000_000_000n, keyRing, clientIp: 'keep' },
  ...{ scrubber: createScrubber(), contentSeed: 'seed', subIndex: 0 },
};
const draft = (more: Partial<AuthEventDraft> = {}): AuthEventDraft => ({
  kind: 'login',
  time: 1_767_225_600_000_000_000n,
  ...more,
});
function processed(more: Partial<AuthEventDraft>, changes: Partial<ProcessContext> = {}) {
  const result = processDraft(draft(more), { ...context, ...changes });
  if (!result.ok) throw new Error(result.message);
  return result;
}
const event = (more: Partial<AuthEventDraft>, changes: Partial<ProcessContext> = {}) =>
  processed(more, changes).event;

describe('client addresses', () => {
  const net = { client_ip: '203.0.113.77' };
  it('are kept, truncated or keyed; keyed networks still compare', () => {
    expect(event({ net }).net).toMatchObject({
      client_ip: '203.0.113.77',
      network: '203.0.113.0/24',
    });
    const truncated = event({ net }, { clientIp: 'truncate' });
    expect(truncated.net).toMatchObject({ client_ip: '203.0.113.0', network: '203.0.113.0/24' });
    expect(truncated.redaction.fields).toEqual(['net.client_ip']);
    const hashed = event({ net }, { clientIp: 'hash' });
    expect(hashed.net).toMatchObject({
      client_ip: keyRing.ref('text', '203.0.113.77'),
      network: keyRing.ref('text', '203.0.113.0/24'),
    });
    expect(hashed.redaction.fields).toEqual(['net.client_ip', 'net.network']);
  });

  it.each([
    ['203.0.113.9', '203.0.113.9', '203.0.113.0/24'],
    ['203.0.113.9:4711', '203.0.113.9', '203.0.113.0/24'],
    ['::ffff:203.0.113.9', '203.0.113.9', '203.0.113.0/24'],
    ['::FFFF:cb00:7109', '203.0.113.9', '203.0.113.0/24'],
    ['[2001:DB8:1:2::3]:443', '2001:db8:1:2::3', '2001:db8:1::/48'],
    ['2001:db8::1', '2001:db8::1', '2001:db8::/48'],
    ['fe80::1%eth0', 'fe80::1', 'fe80::/48'],
    ['::1', '::1', '::/48'],
    ['1.2.3', '', ''],
    ['code=abc', '', ''],
    ['', '', ''],
  ])('%s', (text, ip, network) => {
    expect([normaliseIp(text), networkOf(text)]).toEqual([ip, network]);
  });
});

describe('event ids', () => {
  it('are the vendor id where it is a UUID, else a hash of source and id or content', () => {
    const id = (more: Partial<AuthEventDraft>, changes: Partial<ProcessContext> = {}) =>
      event(more, changes).event_id;
    expect(id({ vendor_event_id: uuid.toUpperCase() })).toBe(uuid);
    const named = id({ vendor_event_id: 'e-1' });
    expect(id({ vendor_event_id: 'e-1' }, { contentSeed: 'other' })).toBe(named);
    expect(id({ vendor_event_id: 'e-2' })).not.toBe(named);
    expect(id({ vendor_event_id: 'e-1' }, { source: { ...source, id: 'b' } })).not.toBe(named);
    expect(id({ vendor_event_id: uuid }, { subIndex: 1 })).not.toBe(uuid);
    expect(id({ vendor_event_id: uuid, sub_id: 'x' })).not.toBe(uuid);
    const content = id({});
    expect(content).toBe(id({}));
    const others = [
      id({}, { contentSeed: 'b' }),
      id({}, { subIndex: 1 }),
      id({ sub_id: 'x' }),
      named,
    ];
    expect(new Set([content, ...others]).size).toBe(5);
  });
});

describe('time', () => {
  it.each([0n, 946_684_799_999_999_999n, 4_102_444_800_000_000_000n, -1n, 10n ** 30n])(
    '%s is refused',
    (time) => {
      const result = processDraft(draft({ time }), context);
      expect(result).toMatchObject({ ok: false, code: 'invalid_time' });
    },
  );
  it('is taken from 2000 to 2100, and a wild observed time is replaced by the clock', () => {
    expect(event({ time: 946_684_800_000_000_000n }).time).toBe(946_684_800_000_000_000n);
    expect(event({ observed_time: 5n }).observed_time).toBe(context.receivedAt);
    expect(event({ observed_time: context.receivedAt - 1n }).observed_time).toBe(
      context.receivedAt - 1n,
    );
  });
});

describe('references', () => {
  it('hash people, sessions and grants each in their own domain', () => {
    const e = event({
      subject: { id: 'x' },
      actor: { id: 'x' },
      session: { id: 'x' },
      grant: { id: 'x' },
    });
    expect([e.subject.ref, e.actor.ref, e.session_ref, e.grant_ref]).toEqual([
      keyRing.ref('subject', 'x'),
      keyRing.ref('subject', 'x'),
      keyRing.ref('session', 'x'),
      keyRing.ref('grant', 'x'),
    ]);
    expect(e.redaction).toEqual({
      fields: ['actor.ref', 'grant_ref', 'session_ref', 'subject.ref'],
      upstream: false,
      key_id: keyRing.currentId,
    });
  });

  it('are not made of masks or of words for nothing', () => {
    const masked = event({ subject: { id: 'HIDDEN_DUE_TO_SECURITY_REASONS' } });
    expect([masked.subject.ref, masked.redaction.upstream]).toEqual(['', true]);
    const token = event({
      tokens: [{ role: 'issued', type: 'access', secret: new Secret('****VM-') }],
    });
    expect([token.tokens[0]!.ref, token.redaction.upstream]).toEqual(['', true]);
    const absent = event({ subject: { id: 'null' }, client: { id: '-' }, session: { id: '' } });
    expect([absent.subject.ref, absent.client.id, absent.session_ref]).toEqual(['', '', '']);
    expect(absent.redaction).toMatchObject({ upstream: false, fields: [] });
  });
});

describe('limits', () => {
  it('cut texts and lists and say so', () => {
    const tokens = Array.from(
      { length: TOKENS_MAX + 1 },
      () => ({ role: 'issued', type: 'access', jti: uuid }) as const,
    );
    const ext = Object.fromEntries(
      Array.from({ length: EXT_ENTRIES_MAX + 1 }, (_, i) => [`k${i}`, 'v']),
    );
    const { event: e, cut } = processed({
      tokens,
      ext,
      client: { name: 'n'.repeat(NAME_LENGTH_MAX + 1) },
    });
    expect(e.tokens).toHaveLength(TOKENS_MAX);
    expect(Object.keys(e.ext)).toHaveLength(EXT_ENTRIES_MAX);
    expect(e.client.name).toHaveLength(NAME_LENGTH_MAX);
    expect([...cut].sort()).toEqual(['client.name', 'ext', 'tokens']);
    expect(processed({ client: { name: 'n'.repeat(NAME_LENGTH_MAX) } }).cut).toEqual([]);
  });

  it('keep numbers within their range', () => {
    const http = (status: number, duration_ms: number) => {
      const e = event({ http: { status, duration_ms } }).http;
      return [e.status, e.duration_ms];
    };
    expect(http(200, 0.5)).toEqual([200, 0.5]);
    expect(http(99, -1)).toEqual([null, null]);
    expect(http(600, Infinity)).toEqual([null, null]);
    expect(http(200.5, NaN)).toEqual([null, null]);
    const counter = (n: number) =>
      event({ tokens: [{ role: 'issued', type: 'refresh', counter: n }] }).tokens[0]!.counter;
    expect([counter(0), counter(-1), counter(1.5), counter(2 ** 60)]).toEqual([
      0,
      null,
      null,
      null,
    ]);
  });
});

describe('free text and extras', () => {
  it('are scrubbed, and secret keys of ext lose their value', () => {
    const e = event({
      error: { detail: 'bad code=abcdef for bob@example.com' },
      ext: { client_secret: 'hush', note: 'state=abcdef', plain: 'ok' },
      client: { name: 'a\u0000b\nc' },
    });
    expect(e.error.detail).toBe('bad code=[redacted] for [redacted]');
    expect(e.ext).toEqual({ client_secret: '[redacted]', note: 'state=[redacted]', plain: 'ok' });
    expect(e.client.name).toBe('a b c');
    expect(e.redaction.fields).toEqual(['error.detail', 'ext.client_secret', 'ext.note']);
  });

  it('keep `none` where it is an authentication method, and nowhere else', () => {
    const e = event({
      client: { id: 'app', auth_method: 'none', name: 'none' },
      ext: { token_endpoint_auth_method: 'none', other: 'none' },
    });
    expect(e.client).toEqual({ id: 'app', auth_method: 'none', name: '' });
    expect(e.ext).toEqual({ token_endpoint_auth_method: 'none', other: '' });
    expect(event({ client: { auth_method: 'None' } }).client.auth_method).toBe('');
    expect(event({ client: { auth_method: 'private_key_jwt' } }).client.auth_method).toBe(
      'private_key_jwt',
    );
  });
  it('normalise literals, scopes and issuers', () => {
    expect(['null', '-', ' None ', '<null>', 'unknown', ' x '].map(normaliseText)).toEqual([
      '',
      '',
      '',
      '',
      '',
      'x',
    ]);
    expect(normaliseScopes(['b a', 'c, b', '', '-'])).toEqual(['a', 'b', 'c']);
    expect(normaliseIssuer('HTTPS://As.Example.com:8443/Realms/X')).toBe(
      'https://as.example.com:8443/Realms/X',
    );
    expect(normaliseIssuer('Accounts')).toBe('Accounts');
  });
});

describe('user agents', () => {
  const chrome =
    'Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36';
  it.each([
    [chrome, 'Chrome'],
    ['Mozilla/5.0 (X11; Linux x86_64; rv:127.0) Gecko/20100101 Firefox/127.0', 'Firefox'],
    ['curl/8.5.0', 'curl'],
    ['node', 'node'],
    ['python-requests/2.32.0', 'python-requests'],
    ['go-http-client/2.0', 'Go-http-client'],
    ['okhttp/4.12.0', 'okhttp'],
    ['AcmeSync/3.1 (+https://acme.example)', 'AcmeSync'],
    [`${'x'.repeat(60)}/1`, ''],
    ['', ''],
  ])('%s', (agent, family) => {
    expect(uaFamily(agent)).toBe(family);
  });
});
