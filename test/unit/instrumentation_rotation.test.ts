/** The change of the hash key, told by an instrumented service: its events join before, during and after. */
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { processDraft } from '../../collector/processors/process_draft.ts';
import { createScrubber } from '../../collector/processors/scrub.ts';
import otlp from '../../collector/sources/otlp.ts';
import { eventAttributes } from '../../instrumentation/event_attributes.ts';
import { startTelemetry, type RecordedAuthEvent } from '../../instrumentation/index.ts';
import { tracing } from '../../instrumentation/otel_sdk.ts';
import { ATTR } from '../../model/attributes.ts';
import type { AuthEvent } from '../../model/auth_event.ts';
import { addNextKey } from '../../runtime/keyring_file.ts';
import { KEY_POLL_MS } from '../../runtime/keyring_watch.ts';
import { keyIdOf, KeyRing } from '../../runtime/keyring.ts';
import { TEST_KEY, temporaryFolder } from '../harness.ts';

const T = 1_000;
const OLD = { id: keyIdOf(TEST_KEY), key: TEST_KEY };
const NEXT_KEY = 'n'.repeat(32);
const NEW = { id: keyIdOf(NEXT_KEY), key: NEXT_KEY, activeFromMs: T };
const old = new KeyRing([OLD], 0);
const rotating = new KeyRing([NEW, OLD], T - 1);
const rotated = new KeyRing([NEW, OLD], T);

const UUID = '6d1f0f3a-5a53-4a3c-8d8e-9a4b51d4c001';
const jwt = (claims: object): string =>
  ['{"alg":"RS256"}', JSON.stringify(claims), 'sig']
    .map((part) => Buffer.from(part).toString('base64url'))
    .join('.');

const recorded: RecordedAuthEvent = {
  kind: 'token_refreshed',
  outcome: 'success',
  subject: { id: 'bob', type: 'user' },
  actor: { id: 'svc-a', type: 'service' },
  session: { id: 'session-1' },
  grant: { id: 'grant-1' },
  tokens: [
    { role: 'consumed', type: 'refresh', value: 'opaque-refresh-1', family: { id: 'family-1' } },
    {
      ...{ role: 'issued', type: 'refresh', value: 'opaque-refresh-2' },
      ...{ family: { id: 'family-1' }, parent: { value: 'opaque-refresh-1' } },
    },
    {
      role: 'issued',
      type: 'access',
      value: jwt({ jti: UUID }),
      parent: { value: 'opaque-refresh-1' },
    },
    // Attributes have no place for a second of one role and type: it must not lend its name to the first.
    { role: 'issued', type: 'access', value: 'another' },
    { role: 'issued', type: 'id', value: jwt({ jti: 'no uuid' }) },
  ],
};

/** The event as the collector stores it, from what the service sends. */
function stored(service: KeyRing, collector: KeyRing): AuthEvent {
  const value = {
    time_unix_nano: '1767225600000000000',
    attributes: eventAttributes(recorded, service),
  };
  const parsed = otlp.parse({ form: 'json', value }, { received_at: 1_767_225_600_000_000_000n });
  const draft = parsed.ok ? parsed.events[0] : undefined;
  if (draft === undefined) throw new Error('not read');
  const result = processDraft(draft, {
    ...{ source: otlp, tenant: 't', receivedAt: 1_767_225_600_000_000_000n },
    ...{ scrubber: createScrubber(), contentSeed: 's', subIndex: 0, clientIp: 'keep' },
    keyRing: collector,
  });
  if (!result.ok) throw new Error(result.message);
  return result.event;
}

const mentions = (event: AuthEvent, isNext: boolean): unknown[] =>
  event.tokens
    .filter((t) => (t.ref_kind === 'hmac_next') === isNext)
    .map((t) => [t.role, t.type, t.ref, t.family_ref, t.parent_ref]);

describe('an instrumented service during a rotation', () => {
  it.each([
    ['the collector rotates too', rotating],
    ['the collector does not know yet', old],
    ['the collector has changed already', rotated],
  ])('sends both names of everything: %s', (_, collector) => {
    const during = stored(rotating, collector);
    const before = stored(old, old);
    const after = stored(rotated, rotated);
    expect(mentions(during, false)).toEqual(mentions(before, false));
    // All but none: the UUID token has one name, and stands here for its parent's other name.
    expect(mentions(during, true)).toEqual(mentions(after, false));
    expect(during.subject.ref).toBe(before.subject.ref);
    expect(during.ext).toEqual({
      'grantscope.next.key_id': NEW.id,
      'grantscope.next.subject_ref': after.subject.ref,
      'grantscope.next.actor_ref': after.actor.ref,
      'grantscope.next.session_ref': after.session_ref,
      'grantscope.next.grant_ref': after.grant_ref,
    });
    expect([before, during, after].map((e) => e.redaction.key_id)).toEqual([
      OLD.id,
      OLD.id,
      NEW.id,
    ]);
    expect(before.tokens).toHaveLength(4);
    expect(after.tokens).toHaveLength(4);
    expect(before.ext).toEqual({});
    expect(after.ext).toEqual({});
  });

  it('is counted where it does not know the next key, and not where it is ahead', () => {
    const collector = new KeyRing([NEW, OLD], T - 1);
    stored(rotating, collector);
    stored(rotated, collector);
    expect(collector.incomplete).toBe(0);
    stored(old, collector);
    expect(collector.incomplete).toBe(1);
  });
});

describe('startTelemetry', () => {
  const ends: (() => Promise<void>)[] = [];
  afterEach(async () => {
    for (const end of ends.splice(0)) await end();
  });
  const start = (keys: Partial<Parameters<typeof startTelemetry>[0]>) => {
    const telemetry = startTelemetry({
      serviceName: 'as',
      endpoint: 'http://127.0.0.1:9',
      exporter: new tracing.InMemorySpanExporter(),
      ...keys,
    });
    ends.push(() => telemetry.shutdown());
    return telemetry.recorder.keyRing;
  };

  it('takes a next key with its time', () => {
    const activeFromMs = Date.now() + 3_600_000;
    const ring = start({ hashKey: TEST_KEY, nextHashKey: { key: NEXT_KEY, activeFromMs } });
    expect([ring.currentId, ring.next?.currentId]).toEqual([OLD.id, NEW.id]);
    const past = start({ hashKey: TEST_KEY, nextHashKey: { key: NEXT_KEY, activeFromMs: 1 } });
    expect([past.currentId, past.next]).toEqual([NEW.id, undefined]);
  });

  it('follows the key file', async () => {
    const folder = temporaryFolder();
    const keyFile = join(folder.path, 'keys.json');
    const content = { keys: [{ ...OLD, created_at: '2026-01-01T00:00:00.000Z' }] };
    writeFileSync(keyFile, JSON.stringify(content));
    const ring = start({ keyFile });
    expect(ring.currentId).toBe(OLD.id);
    const nowMs = Date.now();
    const { id } = addNextKey(keyFile, { nowMs, activeFromMs: nowMs + 3_600_000 });
    await expect.poll(() => ring.next?.currentId, { timeout: 10 * KEY_POLL_MS }).toBe(id);
    rmSync(folder.path, { recursive: true });
  });

  it.each([
    [{}, 'hashKey, keyFile: give one of the two'],
    [{ hashKey: TEST_KEY, keyFile: '/x' }, 'hashKey, keyFile: give one of the two'],
    [{ keyFile: '/x', nextHashKey: { key: NEXT_KEY, activeFromMs: 1 } }, 'nextHashKey: goes with'],
    [{ hashKey: TEST_KEY, nextHashKey: { key: 'short', activeFromMs: 1 } }, 'at least 32'],
    [{ hashKey: TEST_KEY, nextHashKey: { key: TEST_KEY, activeFromMs: 1 } }, 'must all differ'],
    [{ keyFile: '/nowhere/keys.json' }, 'not a key file of Grantscope'],
  ])('refuses %j', (keys, message) => {
    expect(() => start(keys)).toThrow(message);
  });

  it('writes no next attributes outside of a rotation', () => {
    const names = Object.keys(eventAttributes(recorded, old));
    expect(names.filter((n) => n.includes('next'))).toEqual([]);
    expect(eventAttributes(recorded, rotating)[ATTR.nextKeyId]).toBe(NEW.id);
  });
});
