import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { processDraft, type ProcessContext } from '../../collector/processors/process_draft.ts';
import grantscope from '../../collector/sources/grantscope.ts';
import { createScrubber } from '../../collector/processors/scrub.ts';
import type { AuthEvent } from '../../model/auth_event.ts';
import { defineSource } from '../../model/define_source.ts';
import type { AuthEventDraft, TokenDraft, TokenIdentity } from '../../model/draft.ts';
import { exampleRef } from '../../model/example_ref.ts';
import { TOKEN_ROLES, TOKEN_TYPES } from '../../model/kinds.ts';
import { NEXT_EXT_PREFIX, NEXT_REFERENCES_FIELD } from '../../model/next_references.ts';
import { Secret } from '../../model/secret.ts';
import { KeyRing } from '../../runtime/keyring.ts';

/** While a key waits for its time, an event is what it was, and beside it what the next key would have made of it. */

const T = 1_000;
const OLD = { id: 'old', key: 'o'.repeat(32) };
const NEW = { id: 'new', key: 'n'.repeat(32), activeFromMs: T };
const old = new KeyRing([OLD], 0);
const rotating = new KeyRing([NEW, OLD], T - 1);
const rotated = new KeyRing([NEW, OLD], T);

const source = defineSource({
  ...{ id: 'test', title: 'Test', vendor: 'v', product: 'p', description: 'd', forms: ['json'] },
  ...{ provides: ['time'], confirmed_by: 'documents', references: ['x'] },
  parse: () => ({ ok: true, events: [] }),
});
const scrubber = createScrubber();
function processed(
  draft: AuthEventDraft,
  keyRing: KeyRing,
  clientIp: ProcessContext['clientIp'],
): AuthEvent {
  const result = processDraft(draft, {
    ...{ source, tenant: 't1', receivedAt: 1_767_225_600_000_000_000n, scrubber },
    ...{ contentSeed: 'seed', subIndex: 0, keyRing, clientIp },
  });
  if (!result.ok) throw new Error(result.message);
  return result.event;
}

/** An event without anything that was added for the next key. */
function withoutNext(event: AuthEvent): AuthEvent {
  return {
    ...event,
    tokens: event.tokens.filter((t) => t.ref_kind !== 'hmac_next'),
    ext: Object.fromEntries(
      Object.entries(event.ext).filter(([name]) => !name.startsWith(NEXT_EXT_PREFIX)),
    ),
    redaction: {
      ...event.redaction,
      fields: event.redaction.fields.filter((f) => f !== NEXT_REFERENCES_FIELD),
    },
  };
}

/** What the next key calls everything in an event that was made during a rotation. */
function nextNames(event: AuthEvent): Record<string, unknown> {
  const names = (name: string, now: string): string =>
    event.ext[`${NEXT_EXT_PREFIX}${name}`] ?? now;
  return {
    tokens: event.tokens.flatMap((t, i) => {
      if (t.ref_kind === 'hmac_next') return [];
      const second = event.tokens[i + 1];
      const it = second?.ref_kind === 'hmac_next' ? second : t;
      return [[it.role, it.type, it.ref, it.family_ref, it.parent_ref, it.expires_at]];
    }),
    subject: names('subject_ref', event.subject.ref),
    actor: names('actor_ref', event.actor.ref),
    session: names('session_ref', event.session_ref),
    grant: names('grant_ref', event.grant_ref),
    client_ip: names('client_ip', event.net.client_ip),
    network: names('network', event.net.network),
  };
}

const name = fc.oneof(
  fc.constantFrom('', '-', '***', '[redacted]', '6D1F0F3A-5a53-4a3c-8d8e-9a4b51d4c001'),
  fc.string({ minLength: 1, maxLength: 40 }),
);
const identity: fc.Arbitrary<TokenIdentity> = fc.oneof(
  name.map((v) => ({ secret: new Secret(v) })),
  name.map((jti) => ({ jti })),
  name.map((vendor_id) => ({ vendor_id })),
  name.map((vendor_hash) => ({ vendor_hash })),
);
const token: fc.Arbitrary<TokenDraft> = fc
  .record({
    identity,
    role: fc.constantFrom(...TOKEN_ROLES),
    type: fc.constantFrom(...TOKEN_TYPES),
    family: fc.option(identity, { nil: undefined }),
    parent: fc.option(identity, { nil: undefined }),
  })
  .map(({ identity: own, role, type, family, parent }) => ({
    ...own,
    ...{ role, type, expires_at: 1_767_225_600_000_000_000n },
    ...(family === undefined ? {} : { family }),
    ...(parent === undefined ? {} : { parent }),
  }));
const id = fc.option(name, { nil: undefined }).map((v) => (v === undefined ? {} : { id: v }));
const draft: fc.Arbitrary<AuthEventDraft> = fc
  .record({
    tokens: fc.array(token, { maxLength: 5 }),
    subject: id,
    actor: id,
    session: id,
    grant: id,
    client_ip: fc.constantFrom('', '203.0.113.77', '2001:db8::1', 'no address'),
    ext: fc.dictionary(
      fc.constantFrom('a', `${NEXT_EXT_PREFIX}subject_ref`, `${NEXT_EXT_PREFIX}forged`),
      fc.constantFrom('x', exampleRef('forged')),
    ),
  })
  .map(({ client_ip, ...more }) => ({
    ...more,
    ...{ kind: 'login', time: 1_767_225_600_000_000_000n, net: { client_ip } },
  }));

describe('next references', () => {
  it('are what the next key makes after it took over, and change nothing else', () => {
    fc.assert(
      fc.property(draft, fc.constantFrom('keep', 'truncate', 'hash'), (d, clientIp) => {
        const during = processed(d, rotating, clientIp);
        const before = processed(d, old, clientIp);
        expect(withoutNext(during)).toEqual(withoutNext(before));
        // Without a forged name, since outside of a rotation `ext` is the sender's.
        const after = withoutNext(processed(d, rotated, clientIp));
        expect(nextNames(during)).toEqual(nextNames(after));
        expect(during.redaction.fields).toContain(NEXT_REFERENCES_FIELD);
        expect(before.redaction.fields).not.toContain(NEXT_REFERENCES_FIELD);
        expect(Object.keys(during.ext)).not.toContain(`${NEXT_EXT_PREFIX}forged`);
        expect(during.ext[`${NEXT_EXT_PREFIX}key_id`]).toBe('new');
      }),
      { numRuns: 500 },
    );
  });

  it('of references that were made elsewhere come along; without them the event is counted', () => {
    const made = {
      ...({ kind: 'token_refreshed', time: 1_767_225_600_000_000_000n } as const),
      reference_key_id: 'old',
      next_reference_key_id: 'new',
      subject: { ref: exampleRef('s'), next_ref: exampleRef('next s') },
      grant: { ref: exampleRef('g'), next_ref: exampleRef('next g') },
      tokens: [
        {
          ...({ role: 'issued', type: 'access' } as const),
          ref: exampleRef('t'),
          next_ref: exampleRef('next t'),
          family: { ref: exampleRef('f'), next_ref: exampleRef('next f') },
        },
      ],
    };
    // Also where this process has not heard of the rotation yet.
    for (const ring of [new KeyRing([OLD], 0), new KeyRing([NEW, OLD], T - 1)]) {
      const event = processed(made, ring, 'keep');
      expect(event.tokens.map((t) => [t.ref_kind, t.ref, t.family_ref])).toEqual([
        ['hmac', exampleRef('t'), exampleRef('f')],
        ['hmac_next', exampleRef('next t'), exampleRef('next f')],
      ]);
      expect(event.ext).toEqual({
        'grantscope.next.key_id': 'new',
        'grantscope.next.subject_ref': exampleRef('next s'),
        'grantscope.next.grant_ref': exampleRef('next g'),
      });
      expect(ring.incomplete).toBe(0);
    }
    const ring = new KeyRing([NEW, OLD], T - 1);
    const unaware = { ...made, next_reference_key_id: undefined };
    const event = processed(
      { ...unaware, subject: { ref: exampleRef('s') }, tokens: [] },
      ring,
      'keep',
    );
    expect(event.ext).toEqual({
      'grantscope.next.key_id': 'new',
      'grantscope.next.grant_ref': exampleRef('next g'),
    });
    expect(ring.incomplete).toBe(1);
  });

  it('survive when a stored event is sent in again, whatever the keys are by then', () => {
    fc.assert(
      fc.property(draft, fc.constantFrom(old, rotating, rotated), (d, ring) => {
        const stored = processed(d, rotating, 'keep');
        const value: unknown = JSON.parse(
          JSON.stringify(stored, (_key, v: unknown) => (typeof v === 'bigint' ? v.toString() : v)),
        );
        const parsed = grantscope.parse(
          { form: 'json', value },
          { received_at: 1_767_225_600_000_000_000n },
        );
        if (!parsed.ok) throw new Error(parsed.message);
        const again = processed(parsed.events[0]!, ring, 'keep');
        expect(nextNames(again)).toEqual(nextNames(stored));
        const names = (e: AuthEvent) => e.tokens.map((t) => [t.ref, t.family_ref, t.parent_ref]);
        expect(names(again)).toEqual(names(stored));
        expect(again.ext).toEqual({ ...stored.ext, 'grantscope.next.key_id': 'new' });
        expect(again.redaction.key_id).toBe('old');
      }),
      { numRuns: 300 },
    );
  });
});
