import type { Ref, RefDomain } from '../../model/ids.ts';
import { isUuid } from '../../model/ids.ts';
import { Secret } from '../../model/secret.ts';
import type { KeyRing } from '../../runtime/keyring.ts';
import { identifyToken } from '../processors/canonical_token.ts';
import { normaliseText } from '../processors/normalise.ts';

/**
 * What stands in a dead letter where a token, a person, a session or a grant stood. Which of them it was is
 * known only once an adapter reads the record, so a marker carries the reference of each domain:
 *
 *     gsref:<j|h>:<token><subject><session><grant>:<seal>      all in hex, without dashes
 *
 * `j`: the token is named by a `jti`. The seal is keyed: only the collector can make a marker, so a sender who
 * writes one into a record gains nothing but the reference of that very text.
 */
export interface Marker {
  readonly isJti: boolean;
  readonly refs: Readonly<Record<'token' | 'subject' | 'session' | 'grant', Ref>>;
}

const DOMAINS = ['token', 'subject', 'session', 'grant'] as const;
const SHAPE = /gsref:([jh]):([0-9a-f]{128}):([0-9a-f]{32})/;
const WHOLE = new RegExp(`^${SHAPE.source}$`, 'i');
const ANYWHERE = new RegExp(SHAPE.source, 'gi');

const hexOf = (ref: Ref): string => ref.replaceAll('-', '').padStart(32, '0');
const refOf = (hex: string): Ref =>
  /^0+$/.test(hex)
    ? ''
    : `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;

export class Markers {
  readonly #keyRing: KeyRing;

  constructor(keyRing: KeyRing) {
    this.#keyRing = keyRing;
  }

  /** The id of the key that makes references now. */
  get keyId(): string {
    return this.#keyRing.currentId;
  }

  /** The marker that stands for a value. */
  make(value: string): string {
    const token = identifyToken(this.#keyRing, { secret: new Secret(value) });
    const name = normaliseText(value);
    const ref = (domain: RefDomain): string => hexOf(this.#keyRing.ref(domain, name));
    const body = `${token.ref_kind === 'jti' ? 'j' : 'h'}:${hexOf(token.ref)}${ref('subject')}${ref('session')}${ref('grant')}`;
    return `gsref:${body}:${hexOf(this.#seal(body))}`;
  }

  /** The marker that a text is; undefined where it is none, or not one of ours. */
  read(text: string): Marker | undefined {
    const parts = WHOLE.exec(text.trim().toLowerCase());
    const [, kind = '', refs = '', seal = ''] = parts ?? [];
    if (parts === null || !this.#isSealed(`${kind}:${refs}`, seal)) return undefined;
    const [token = '', subject = '', session = '', grant = ''] = DOMAINS.map((_, i) =>
      refOf(refs.slice(i * 32, (i + 1) * 32)),
    );
    return { isJti: kind === 'j', refs: { token, subject, session, grant } };
  }

  #seal(body: string): Ref {
    return this.#keyRing.ref('text', `dead letter marker\0${body}`);
  }

  /** Under any key of the ring: the letter may be older than the last rotation. */
  #isSealed(body: string, seal: string): boolean {
    const possible = this.#keyRing.resolve('text', `dead letter marker\0${body}`);
    return possible.some(({ ref }) => hexOf(ref) === seal);
  }
}

/** True where a text holds what looks like a marker, ours or not. */
export function holdsMarker(text: string): boolean {
  return text.includes('gsref:') && SHAPE.test(text.toLowerCase());
}

/** The text with each marker replaced. */
export function replaceMarkers(text: string, replacement: string): string {
  return text.replace(ANYWHERE, replacement);
}

/** `urn:uuid:...` and Keycloak's `onrtac:...` included: such a token id is its own reference (see KeyRing). */
export function isUuidName(text: string): boolean {
  return isUuid(text.slice(text.lastIndexOf(':') + 1));
}
