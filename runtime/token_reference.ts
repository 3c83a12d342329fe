import type { Ref, RefDomain } from '../model/ids.ts';
import type { RefKind } from '../model/kinds.ts';
import { uuidOfJti, type KeyRing } from './keyring.ts';

/**
 * From a raw token to its reference. The authorization server, the gateway, the resource server and the
 * collector all come through here, because one difference in spelling (a scheme, a percent escape, a
 * line end) would give two references for one token, and a replay between them would go unseen.
 */
export interface TokenReference {
  readonly ref: Ref;
  readonly ref_kind: RefKind;
}

/** What identifies a token: a JWT's `jti` (a name, RFC 7519 section 4.1.7), else the token itself (a secret). */
export interface TokenName {
  readonly ref_kind: 'jti' | 'hmac';
  /** For `hmac` this is the bearer secret: hash it, never keep it. */
  readonly name: string;
}

/** Times a token may be percent-encoded: once in a form, once more by a proxy's log. */
export const TOKEN_DECODE_PASSES_MAX = 3;

/** A longer text is not parsed as a JWT (it is hashed whole): bounds the work on hostile input, characters. */
export const TOKEN_JWT_LENGTH_MAX = 65_536;

const SCHEME = /^(?:bearer|dpop)\s+/i;
/** header.payload.signature in base64url; the signature of an unsecured JWT is empty. */
const COMPACT_JWS = /^[A-Za-z0-9_-]+\.([A-Za-z0-9_-]+)\.[A-Za-z0-9_-]*$/;

/**
 * The one spelling of a token: without white space around it, without `Bearer` or `DPoP`, percent-decoded.
 * `%` is in no token68 (RFC 9110 section 11.2) and no base64url, so an escape can only be an encoding.
 */
export function canonicalToken(raw: string): string {
  let text = raw.trim();
  for (let pass = 0; pass < TOKEN_DECODE_PASSES_MAX && text.includes('%'); pass += 1) {
    const decoded = percentDecode(text);
    if (decoded === text) break;
    text = decoded;
  }
  return text.trim().replace(SCHEME, '').trim();
}

function percentDecode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    // A stray % or bytes that are no UTF-8: not an encoding, so the text stands as it is.
    return text;
  }
}

/**
 * What a token is known by. The `jti` is read without validation: a forged JWT can carry another token's
 * `jti`, so whoever joins on it looks at the event's outcome (`token_rejected`, `invalid_signature`) too.
 * A JWT without `jti`, an encrypted JWT and an opaque token are known by their whole text.
 */
export function tokenName(raw: string): TokenName {
  const token = canonicalToken(raw);
  const jti = jtiOf(token);
  return jti === undefined ? { ref_kind: 'hmac', name: token } : { ref_kind: 'jti', name: jti };
}

/** The reference of a raw token under the current key; the empty reference for an empty text. */
export function tokenReference(keyRing: KeyRing, raw: string): TokenReference {
  const { ref_kind, name } = tokenName(raw);
  return {
    ref: ref_kind === 'jti' ? keyRing.refOfJti(name) : keyRing.ref('token', name),
    ref_kind,
  };
}

/** A reference and the key that made it; `key_id` is '' where none did (a `jti` that is its own reference). */
export interface StoredReference {
  readonly key_id: string;
  readonly ref: Ref;
  readonly ref_kind: TokenName['ref_kind'];
}

/** Every reference under which a value may be stored, over all keys, the current one first. */
export function storedReferences(
  keyRing: KeyRing,
  domain: RefDomain,
  value: string,
): readonly StoredReference[] {
  if (domain !== 'token')
    return keyRing.resolve(domain, value).map((r) => ({ ...r, ref_kind: 'hmac' }));
  const { name, ref_kind } = tokenName(value);
  const uuid = ref_kind === 'jti' ? uuidOfJti(name) : undefined;
  if (uuid !== undefined) return [{ key_id: '', ref: uuid, ref_kind }];
  return keyRing.resolve('token', name).map((r) => ({ ...r, ref_kind }));
}

function jtiOf(token: string): string | undefined {
  if (token.length > TOKEN_JWT_LENGTH_MAX) return undefined;
  const payload = COMPACT_JWS.exec(token)?.[1];
  if (payload === undefined) return undefined;
  let claims: unknown;
  try {
    claims = JSON.parse(Buffer.from(payload, 'base64url').toString('utf8'));
  } catch {
    return undefined;
  }
  if (typeof claims !== 'object' || claims === null || !('jti' in claims)) return undefined;
  return typeof claims.jti === 'string' && claims.jti !== '' ? claims.jti : undefined;
}
