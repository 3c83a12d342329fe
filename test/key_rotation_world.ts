import type { AuthEvent, TokenMention } from '../model/auth_event.ts';
import { exampleRef } from '../model/example_ref.ts';
import type { Ref } from '../model/ids.ts';
import { NEXT_EXT_PREFIX, NEXT_REFERENCES_FIELD } from '../model/next_references.ts';
import { refsOf } from '../store/reference_names.ts';

/** A rotation of keys in event time, ns: both names from `begin`, the next name alone from `takeover`. */
export interface Rotation {
  readonly begin: bigint;
  readonly takeover: bigint;
}

/** What the next key calls the thing that `ref` names. */
export function nextName(ref: Ref): Ref {
  return ref === '' ? '' : exampleRef(`next key: ${ref}`);
}

function mapRefs(event: AuthEvent, name: (ref: Ref) => Ref): AuthEvent {
  return {
    ...event,
    subject: { ...event.subject, ref: name(event.subject.ref) },
    actor: { ...event.actor, ref: name(event.actor.ref) },
    session_ref: name(event.session_ref),
    grant_ref: name(event.grant_ref),
    tokens: event.tokens.map((t): TokenMention => ({
      ...t,
      ref: name(t.ref),
      family_ref: name(t.family_ref),
      parent_ref: name(t.parent_ref),
    })),
  };
}

/** The events as the collector stores them while the keys change. */
export function storedUnder(rotation: Rotation, events: readonly AuthEvent[]): AuthEvent[] {
  return events.map((event) => {
    if (event.time < rotation.begin) return event;
    const next = mapRefs(event, nextName);
    if (event.time >= rotation.takeover) return next;
    const ext = {
      subject_ref: next.subject.ref,
      actor_ref: next.actor.ref,
      session_ref: next.session_ref,
      grant_ref: next.grant_ref,
    };
    const named = Object.entries(ext).filter(([, ref]) => ref !== '');
    return {
      ...event,
      tokens: event.tokens.flatMap((t, i): TokenMention[] => {
        const second = next.tokens[i];
        return second === undefined ? [t] : [t, { ...second, ref_kind: 'hmac_next' }];
      }),
      ext: {
        ...event.ext,
        ...Object.fromEntries(named.map(([name, ref]) => [`${NEXT_EXT_PREFIX}${name}`, ref])),
      },
      redaction: { ...event.redaction, fields: [NEXT_REFERENCES_FIELD] },
    };
  });
}

/**
 * The same events without a rotation, under the names that readers should come to: the old one for whatever
 * was seen during the overlap, and before it where nothing came after; else the next one.
 */
export function readUnder(rotation: Rotation, events: readonly AuthEvent[]): AuthEvent[] {
  const linked = new Set(
    events
      .filter((e) => e.time >= rotation.begin && e.time < rotation.takeover)
      .flatMap((e) => refsOf(e)),
  );
  return events.map((event) =>
    event.time < rotation.takeover
      ? event
      : mapRefs(event, (ref) => (linked.has(ref) ? ref : nextName(ref))),
  );
}
