import { isUuid, type Ref } from '../../model/ids.ts';
import type { RefKind } from '../../model/kinds.ts';
import type { TokenIdentity } from '../../model/draft.ts';
import type { KeyRing } from '../../runtime/keyring.ts';
import { canonicalToken, tokenReference } from '../../runtime/token_reference.ts';

/**
 * How a draft's way of naming a token becomes a reference. The spelling of raw tokens and the reading of
 * JWTs are in `runtime/token_reference.ts`, because the instrumentation must come to the same reference.
 */
export interface IdentifiedToken {
  /** '' where there was nothing to refer to. */
  readonly ref: Ref;
  readonly ref_kind: RefKind;
  /** True where the vendor had masked the value: then there is no reference. */
  readonly masked: boolean;
}

const NOTHING: IdentifiedToken = { ref: '', ref_kind: 'hmac', masked: false };

/** Longest text that is compared with the masks; masks are short. */
const MASK_LENGTH_MAX = 200;

/** No mask but those above holds a digit, or punctuation of URLs, addresses and base64. */
const NO_MASK = /[0-9@/:+=~%]/;

/** Words that vendors and loggers put in the place of a value. Compared in lower case. */
const MASK_WORDS = new Set([
  'hidden_due_to_security_reasons',
  'redacted',
  'masked',
  'filtered',
  'hidden',
  'removed',
  'secret',
  'sensitive',
  'erased',
]);

const ABSENT = new Set([
  '',
  '-',
  'null',
  '<null>',
  '(null)',
  'none',
  'nil',
  'undefined',
  'unknown',
  'n/a',
]);

/** True for a literal that means "no value". */
export function isAbsentLiteral(text: string): boolean {
  return text.length <= 9 && ABSENT.has(text.toLowerCase());
}

/**
 * True for a literal that stands where the vendor removed a secret: `****VM-` (Auth0),
 * `HIDDEN_DUE_TO_SECURITY_REASONS` (Cognito), `hmac-sha256:...` (Vault), `[redacted]`, `***`.
 * Such a literal is the same for many tokens; a reference made of it would join strangers.
 */
export function isMaskedLiteral(text: string): boolean {
  if (text.length > MASK_LENGTH_MAX) return false;
  if (text.includes('***') || text.startsWith('hmac-sha256:')) return true;
  if (NO_MASK.test(text)) return false;
  const inner = /^[[<({*#]*([A-Za-z_ -]*?)[\])}>*#]*$/.exec(text)?.[1];
  if (inner !== undefined && MASK_WORDS.has(inner.trim().toLowerCase())) return true;
  return /^[*xX•.#]{3,}$/u.test(text);
}

/** Strips white space and one pair of quotes around a value. */
function unquoted(text: string): string {
  const trimmed = text.trim();
  const first = trimmed.charAt(0);
  const quoted = trimmed.length >= 2 && (first === '"' || first === "'") && trimmed.endsWith(first);
  return quoted ? trimmed.slice(1, -1).trim() : trimmed;
}

/** The reference of a token that an adapter found; see `TokenIdentity` for the order of trust. */
export function identifyToken(keyRing: KeyRing, identity: TokenIdentity): IdentifiedToken {
  if (identity.ref !== undefined) {
    return isUuid(identity.ref) ? named(identity.ref.toLowerCase(), 'hmac') : NOTHING;
  }
  if (identity.secret !== undefined) return ofSecret(keyRing, unquoted(identity.secret.reveal()));
  if (identity.jti !== undefined) {
    return ofName(identity.jti, 'jti', (jti) => keyRing.refOfJti(jti));
  }
  if (identity.vendor_id !== undefined) {
    return ofName(identity.vendor_id, 'vendor_id', (id) => keyRing.refOfJti(id));
  }
  if (identity.vendor_hash !== undefined) {
    return ofName(identity.vendor_hash, 'vendor_hash', (h) => keyRing.ref('token', h));
  }
  return NOTHING;
}

function named(ref: Ref, ref_kind: RefKind): IdentifiedToken {
  return { ref, ref_kind, masked: false };
}

function ofSecret(keyRing: KeyRing, raw: string): IdentifiedToken {
  const value = canonicalToken(raw);
  if (isAbsentLiteral(value)) return NOTHING;
  if (isMaskedLiteral(value)) return { ...NOTHING, masked: true };
  const { ref, ref_kind } = tokenReference(keyRing, value);
  return named(ref, ref_kind);
}

function ofName(raw: string, kind: RefKind, refOf: (name: string) => Ref): IdentifiedToken {
  const name = unquoted(raw);
  if (isAbsentLiteral(name)) return { ...NOTHING, ref_kind: kind };
  if (isMaskedLiteral(name)) return { ref: '', ref_kind: kind, masked: true };
  return named(refOf(name), kind);
}
