import type { Binding } from '../model/kinds.ts';

/** Why a resource server refused an access token: `error.code` of token_rejected. */
export const REJECTION_CODES = [
  'expired',
  'not_yet_valid',
  'revoked',
  'inactive',
  'invalid_signature',
  'unknown_key',
  'algorithm_not_allowed',
  'invalid_audience',
  'invalid_issuer',
  'invalid_claim',
  'invalid_binding',
  'malformed',
  /** The server could not tell: introspection or the key set was out of reach. */
  'validation_unavailable',
] as const;
export type RejectionCode = (typeof REJECTION_CODES)[number];

/**
 * Where a validation looked, which is what its latency is judged by: `fallback` is introspection because the local way could
 * not tell. Told as `ext.validation_mode`.
 */
export type ValidationMode = 'local' | 'cache' | 'introspection' | 'fallback';

/** What a resource server learnt of a token it accepted. */
export interface AcceptedToken {
  readonly valid: true;
  readonly mode?: ValidationMode | undefined;
  readonly client_id?: string | undefined;
  readonly subject?: string | undefined;
  readonly scopes?: readonly string[] | undefined;
  readonly audience?: readonly string[] | undefined;
  readonly issuer?: string | undefined;
  readonly binding?: Binding | undefined;
  readonly binding_thumbprint?: string | undefined;
}

export interface RefusedToken {
  readonly valid: false;
  readonly code: RejectionCode;
  readonly mode?: ValidationMode | undefined;
}

export type Validation = AcceptedToken | RefusedToken;

/**
 * From the claims of a verified JWT (RFC 9068) or an introspection answer (RFC 7662): an answer with
 * `active: false` is refused as `inactive`.
 */
export function validationOf(claims: Readonly<Record<string, unknown>>): Validation {
  if (claims['active'] === false) return { valid: false, code: 'inactive' };
  const text = (name: string): string | undefined => {
    const value = claims[name];
    return typeof value === 'string' && value !== '' ? value : undefined;
  };
  return {
    valid: true,
    client_id: text('client_id') ?? text('azp'),
    subject: text('sub'),
    scopes: wordsOf(claims['scope'] ?? claims['scp']),
    audience: wordsOf(claims['aud']),
    issuer: text('iss'),
    ...bindingOfClaims(claims['cnf']),
  };
}

function wordsOf(value: unknown): string[] | undefined {
  if (typeof value === 'string') return value.split(' ').filter((word) => word !== '');
  if (Array.isArray(value)) return value.filter((item) => typeof item === 'string');
  return undefined;
}

function bindingOfClaims(cnf: unknown): Pick<AcceptedToken, 'binding' | 'binding_thumbprint'> {
  if (typeof cnf !== 'object' || cnf === null) return { binding: 'none' };
  const { jkt, 'x5t#S256': x5t } = cnf as { jkt?: unknown; 'x5t#S256'?: unknown };
  if (typeof jkt === 'string') return { binding: 'dpop', binding_thumbprint: jkt };
  if (typeof x5t === 'string') return { binding: 'mtls', binding_thumbprint: x5t };
  return { binding: 'unknown' };
}

const CODE_OF_JOSE_ERROR: Readonly<Record<string, RejectionCode>> = {
  ERR_JWT_EXPIRED: 'expired',
  ERR_JWS_SIGNATURE_VERIFICATION_FAILED: 'invalid_signature',
  ERR_JWKS_NO_MATCHING_KEY: 'unknown_key',
  ERR_JOSE_ALG_NOT_ALLOWED: 'algorithm_not_allowed',
  ERR_JOSE_NOT_SUPPORTED: 'algorithm_not_allowed',
  ERR_JWS_INVALID: 'malformed',
  ERR_JWT_INVALID: 'malformed',
  ERR_JWE_INVALID: 'malformed',
  ERR_JWE_DECRYPTION_FAILED: 'malformed',
};
const CODE_OF_CLAIM: Readonly<Record<string, RejectionCode>> = {
  aud: 'invalid_audience',
  iss: 'invalid_issuer',
  nbf: 'not_yet_valid',
  exp: 'expired',
};

/**
 * From what a validation threw: the errors of jose by their code; everything else, such as a failed
 * request, means that the server could not tell.
 */
export function rejectionOf(error: unknown): RejectionCode {
  if (typeof error !== 'object' || error === null) return 'validation_unavailable';
  const { code, claim, reason } = error as { code?: unknown; claim?: unknown; reason?: unknown };
  if (code === 'ERR_JWT_CLAIM_VALIDATION_FAILED') {
    // With a maximum age jose compares iat with the clock: one that fails lies in the future; one that is missing does not.
    if (claim === 'iat' && reason === 'check_failed') return 'not_yet_valid';
    return CODE_OF_CLAIM[typeof claim === 'string' ? claim : ''] ?? 'invalid_claim';
  }
  return CODE_OF_JOSE_ERROR[typeof code === 'string' ? code : ''] ?? 'validation_unavailable';
}
