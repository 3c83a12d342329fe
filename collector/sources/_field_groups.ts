/** Fields that sources provide together, for their `provides` lists. */

/** What was asked, and how it failed. */
export const REQUEST_FIELDS = [
  'error.code',
  'error.oauth_error',
  'error.detail',
  'grant_type',
  'response_type',
  'endpoint',
] as const;

/** What was asked for and granted, and what binds it. */
export const GRANT_FIELDS = [
  'scopes_requested',
  'scopes_granted',
  'redirect_uri',
  'pkce',
  'binding',
  'binding_thumbprint',
] as const;

/** Which tokens, and their rotation family. */
export const TOKEN_FIELDS = [
  'tokens',
  'tokens.role',
  'tokens.type',
  'tokens.ref',
  'tokens.ref_kind',
  'tokens.family_ref',
] as const;
