/**
 * The closed vocabulary of an AuthEvent: what can happen, and how it can end.
 * Names are RFC words where an RFC has one (6749, 7009, 7662, 8628, 8693, 9126).
 */
export const EVENT_KINDS = [
  'authorization_requested',
  'authorization_failed',
  'par_pushed',
  'consent_granted',
  'consent_denied',
  'consent_revoked',
  'code_issued',
  'code_redeemed',
  'device_authorization_requested',
  'device_authorized',
  'backchannel_auth_requested',
  'token_issued',
  'token_refreshed',
  'token_exchanged',
  'token_request_failed',
  'token_validated',
  'token_rejected',
  'token_introspected',
  'userinfo_accessed',
  'token_revoked',
  'grant_revoked',
  'token_reuse_detected',
  'login',
  'login_failed',
  'mfa_challenged',
  'mfa_result',
  'session_started',
  'session_ended',
  'session_revoked',
  'account_locked',
  'impersonation',
  'client_registered',
  'client_updated',
  'client_deleted',
  'client_credential_changed',
  'policy_changed',
  'key_created',
  'key_rotated',
  'key_disabled',
  'key_deleted',
  'key_used',
  'jwks_fetched',
  'secret_read',
  'secret_changed',
  'policy_decided',
  'api_accessed',
  'rate_limited',
  'risk_signal',
  'federation_handshake',
  'elevation_granted',
  'elevation_ended',
  'unclassified',
] as const;
export type EventKind = (typeof EVENT_KINDS)[number];

/** What a configured database says about an address: whose service stands behind it, if not the user's own line. */
export const NETWORK_FLAGS = ['hosting', 'vpn', 'proxy', 'tor', 'relay'] as const;
export type NetworkFlag = (typeof NETWORK_FLAGS)[number];

/** `attempt` and `outcome` are two records of one action; an SLI counts outcomes and singles only. */
export const PHASES = ['attempt', 'outcome', 'single'] as const;
export type Phase = (typeof PHASES)[number];

export const OUTCOMES = [
  'success',
  'failure',
  'denied',
  'challenge',
  'pending',
  'unknown',
] as const;
export type Outcome = (typeof OUTCOMES)[number];

/** RFC 7636 method that the authorization request used; `unknown` = the source does not say. */
export const PKCE_METHODS = ['S256', 'plain', 'none', 'unknown'] as const;
export type PkceMethod = (typeof PKCE_METHODS)[number];

/** How a token is bound to its holder: RFC 9449 (dpop), RFC 8705 (mtls). */
export const BINDINGS = ['none', 'dpop', 'mtls', 'device', 'unknown'] as const;
export type Binding = (typeof BINDINGS)[number];

/** Whose address `net.client_ip` is: detectors must not take a back end for a person. */
export const IP_ROLES = ['end_user', 'client_backend', 'proxy', 'unknown'] as const;
export type IpRole = (typeof IP_ROLES)[number];

export const SUBJECT_TYPES = ['user', 'client', 'service', 'device', 'unknown'] as const;
export type SubjectType = (typeof SUBJECT_TYPES)[number];

export const TOKEN_ROLES = ['issued', 'presented', 'consumed', 'revoked', 'subject'] as const;
export type TokenRole = (typeof TOKEN_ROLES)[number];

export const TOKEN_TYPES = [
  'access',
  'refresh',
  'id',
  'code',
  'device_code',
  'par',
  'assertion',
  'dpop_proof',
  'unknown',
] as const;
export type TokenType = (typeof TOKEN_TYPES)[number];

/**
 * Where a token reference comes from: see `model/ids.ts`. `hmac_next` is a second mention of the token right
 * before it, under the key that takes over next (`model/next_references.ts`).
 */
export const REF_KINDS = ['jti', 'vendor_id', 'vendor_hash', 'hmac', 'hmac_next'] as const;
export type RefKind = (typeof REF_KINDS)[number];
