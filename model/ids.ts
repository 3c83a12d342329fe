/**
 * Identifiers of Grantscope.
 *
 * A **reference** (`Ref`) stands for a token, subject, session or grant. It is 128 bits, written as a
 * UUID (8-4-4-4-12 lower-case hex) so that ClickHouse keeps it in 16 bytes (type `UUID`) and people can
 * paste it. It is either the first 128 bits of HMAC-SHA-256(key, domain 0x00 value), or, for a JWT `jti`
 * that already is a UUID, that very UUID (a `jti` is a name, not a secret: RFC 7519 section 4.1.7).
 * The empty string means "unknown" in TypeScript; the nil UUID means it in storage.
 */
export type Ref = string;

export const NIL_REF = '00000000-0000-0000-0000-000000000000';

const UUID_PATTERN = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;

/** True for 8-4-4-4-12 hex text of any version. */
export function isUuid(text: string): boolean {
  return text.length === 36 && UUID_PATTERN.test(text);
}

/** 32 hex digits to UUID text. */
export function uuidFromHex(hex: string): Ref {
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20, 32)}`;
}

/** What a reference names. The domain goes into the HMAC, so equal values of two domains never join. */
export const REF_DOMAINS = ['token', 'subject', 'session', 'grant', 'text'] as const;
export type RefDomain = (typeof REF_DOMAINS)[number];
