import type { AuthEvent, TokenMention } from '../../model/auth_event.ts';
import type { AuthEventDraft, TokenDraft, TokenIdentity } from '../../model/draft.ts';
import { isUuid, type Ref, type RefDomain } from '../../model/ids.ts';
import {
  NEXT_EXT_PREFIX,
  NEXT_REFERENCES_FIELD,
  type NextExtName,
} from '../../model/next_references.ts';
import type { KeyRing } from '../../runtime/keyring.ts';
import { identifyToken } from './canonical_token.ts';
import { networkOf, normaliseIp } from './enrich.ts';
import { normaliseText } from './normalise.ts';

/**
 * True where an event must also be named under the next key: a rotation is in progress here, or where the
 * references were made. Outside of a rotation this is all that it costs.
 */
export function needsNextReferences(draft: AuthEventDraft, keyRing: KeyRing): boolean {
  return keyRing.next !== undefined || draft.next_reference_key_id !== undefined;
}

/**
 * Adds to a redacted event what the next key calls its tokens, people, sessions, grants and keyed addresses,
 * in the form of model/next_references.ts. `event.tokens` must be the draft's tokens, one to one.
 * References that came without their next name get none, and the ring counts the event.
 */
export function addNextReferences(
  event: AuthEvent,
  draft: AuthEventDraft,
  context: { readonly keyRing: KeyRing; readonly clientIp: 'keep' | 'truncate' | 'hash' },
): void {
  const names = new NextNames(context.keyRing);
  event.tokens = event.tokens.flatMap((mention, i) => {
    const token = draft.tokens?.[i];
    const second = token === undefined ? undefined : names.mention(mention, token);
    return second === undefined ? [mention] : [mention, second];
  });
  const ext = Object.entries(event.ext).filter(([name]) => !name.startsWith(NEXT_EXT_PREFIX));
  const put = (name: NextExtName, ref: Ref): void => {
    if (ref !== '') ext.push([`${NEXT_EXT_PREFIX}${name}`, ref]);
  };
  put(
    'key_id',
    keyIdOrNone(draft.next_reference_key_id) || (context.keyRing.next?.currentId ?? ''),
  );
  put('subject_ref', names.id('subject', draft.subject, event.subject.ref));
  put('actor_ref', names.id('subject', draft.actor, event.actor.ref));
  put('session_ref', names.id('session', draft.session, event.session_ref));
  put('grant_ref', names.id('grant', draft.grant, event.grant_ref));
  const ip = context.clientIp === 'hash' ? normaliseIp(draft.net?.client_ip ?? '') : '';
  put('client_ip', names.text(ip));
  put('network', names.text(networkOf(ip)));
  event.ext = Object.fromEntries(ext);
  event.redaction.fields = [...event.redaction.fields, NEXT_REFERENCES_FIELD].sort();
  if (isIncomplete(draft, context.keyRing.next, names)) context.keyRing.countIncomplete();
}

/** True where references were made elsewhere under the current key, by someone who does not know the next. */
function isIncomplete(
  draft: AuthEventDraft,
  next: KeyRing | undefined,
  names: { readonly hasUnnamed: boolean },
): boolean {
  if (next === undefined || draft.reference_key_id === next.currentId) return false;
  const isUnaware =
    draft.reference_key_id !== undefined && draft.next_reference_key_id === undefined;
  return isUnaware || names.hasUnnamed;
}

/** Only the form of our own key ids: the value comes from outside. */
function keyIdOrNone(id: string | undefined): string {
  return id !== undefined && /^[a-z0-9]{1,16}$/.test(id) ? id : '';
}

class NextNames {
  readonly #next: KeyRing | undefined;
  /** True when a reference came without its next name. */
  hasUnnamed = false;

  constructor(keyRing: KeyRing) {
    this.#next = keyRing.next;
  }

  /** The same mention under its next names; undefined where those are the same or unknown. */
  mention(mention: TokenMention, draft: TokenDraft): TokenMention | undefined {
    const ref = this.#token(draft, mention.ref) || mention.ref;
    const family = this.#token(draft.family, mention.family_ref) || mention.family_ref;
    const parent = this.#token(draft.parent, mention.parent_ref) || mention.parent_ref;
    const isSame =
      ref === mention.ref && family === mention.family_ref && parent === mention.parent_ref;
    return isSame
      ? undefined
      : { ...mention, ref, ref_kind: 'hmac_next', family_ref: family, parent_ref: parent };
  }

  #token(identity: TokenIdentity | undefined, current: Ref): Ref {
    if (identity === undefined || current === '') return '';
    // Also a `jti` that was no UUID: it came as a reference.
    if (identity.ref !== undefined || identity.next_ref !== undefined)
      return this.#madeBefore(identity.next_ref);
    return this.#next === undefined ? '' : identifyToken(this.#next, identity).ref;
  }

  id(
    domain: RefDomain,
    value:
      { id?: string | undefined; ref?: Ref | undefined; next_ref?: Ref | undefined } | undefined,
    current: Ref,
  ): Ref {
    if (value === undefined || current === '') return '';
    if (value.ref !== undefined) return this.#madeBefore(value.next_ref);
    return this.#next?.ref(domain, normaliseText(value.id)) ?? '';
  }

  text(value: string): Ref {
    return this.#next?.ref('text', value) ?? '';
  }

  #madeBefore(nextRef: Ref | undefined): Ref {
    if (nextRef !== undefined && isUuid(nextRef)) return nextRef.toLowerCase();
    this.hasUnnamed = true;
    return '';
  }
}
