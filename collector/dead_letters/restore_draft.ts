import type {
  AuthEventDraft,
  PrincipalDraft,
  TokenDraft,
  TokenIdentity,
} from '../../model/draft.ts';
import { REDACTED } from '../processors/scrubber.ts';
import { holdsMarker, replaceMarkers, type Marker, type Markers } from './marker.ts';

/**
 * Puts the references back that stood as markers in a dead letter. Where an adapter made an id of a marker and
 * something else (Keycloak's grant: session and client), the reference it would have had is gone: such an id is
 * left out, which says "unknown", instead of a reference that joins with nothing. Markers in other texts become
 * `[redacted]`.
 */
export function restoreDraft(
  draft: AuthEventDraft,
  markers: Markers,
  keyId: string,
): AuthEventDraft {
  const { tokens, subject, actor, session, grant, ...rest } = draft;
  const restoration = new Restoration(markers);
  const restored: AuthEventDraft = {
    ...(withoutMarkers(rest) as typeof rest),
    ...(tokens === undefined ? {} : { tokens: tokens.map((t) => restoration.token(t)) }),
    ...(subject === undefined ? {} : { subject: restoration.named(subject, 'subject') }),
    ...(actor === undefined ? {} : { actor: restoration.named(actor, 'subject') }),
    ...(session === undefined ? {} : { session: restoration.named(session, 'session') }),
    ...(grant === undefined ? {} : { grant: restoration.named(grant, 'grant') }),
  };
  return restoration.isUsed && restored.reference_key_id === undefined
    ? { ...restored, reference_key_id: keyId }
    : restored;
}

class Restoration {
  readonly #markers: Markers;
  /** True once a reference of the letter's key stands in the draft. */
  isUsed = false;

  constructor(markers: Markers) {
    this.#markers = markers;
  }

  token(draft: TokenDraft): TokenDraft {
    const { family, parent, secret, jti, vendor_id, vendor_hash, ref, ...rest } = draft;
    const own = { secret, jti, vendor_id, vendor_hash, ref };
    return {
      ...(withoutMarkers(rest) as typeof rest),
      ...this.#identity(own),
      ...(family === undefined ? {} : { family: this.#identity(family) }),
      ...(parent === undefined ? {} : { parent: this.#identity(parent) }),
    };
  }

  named(value: PrincipalDraft, domain: 'subject' | 'session' | 'grant'): PrincipalDraft {
    const { id, ...rest } = value;
    if (id === undefined || !holdsMarker(id)) return value;
    const ref = this.#read(id)?.refs[domain] ?? '';
    return { ...rest, ...(ref === '' ? {} : { ref }) };
  }

  #identity(identity: {
    [K in keyof TokenIdentity]: TokenIdentity[K] | undefined;
  }): TokenIdentity {
    const raw = identity.secret?.reveal();
    if (raw !== undefined && holdsMarker(raw)) {
      const marker = this.#read(raw);
      if (marker === undefined || marker.refs.token === '') return {};
      return marker.isJti ? { jti: marker.refs.token } : { ref: marker.refs.token };
    }
    const kept: TokenIdentity = {};
    if (identity.secret !== undefined) kept.secret = identity.secret;
    if (identity.ref !== undefined) kept.ref = identity.ref;
    // A jti or vendor's id that is a UUID is its own reference.
    if (identity.jti !== undefined) this.#name(identity.jti, (name) => (kept.jti = name));
    if (identity.vendor_id !== undefined)
      this.#name(identity.vendor_id, (name) => (kept.vendor_id = name));
    if (identity.vendor_hash !== undefined) {
      if (holdsMarker(identity.vendor_hash))
        this.#name(identity.vendor_hash, (ref) => (kept.ref = ref));
      else kept.vendor_hash = identity.vendor_hash;
    }
    return kept;
  }

  #name(name: string, keep: (name: string) => void): void {
    if (!holdsMarker(name)) keep(name);
    else {
      const ref = this.#read(name)?.refs.token ?? '';
      if (ref !== '') keep(ref);
    }
  }

  #read(text: string): Marker | undefined {
    const marker = this.#markers.read(text);
    if (marker !== undefined) this.isUsed = true;
    return marker;
  }
}

/** The value with `[redacted]` for every marker in its texts. */
function withoutMarkers(value: unknown): unknown {
  if (typeof value === 'string')
    return holdsMarker(value) ? replaceMarkers(value, REDACTED) : value;
  if (typeof value !== 'object' || value === null) return value;
  if (Array.isArray(value)) return value.map(withoutMarkers);
  return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, withoutMarkers(v)]));
}
