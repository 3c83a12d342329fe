/**
 * What the client got wrong, by RFC 6749 section 5.2, RFC 8628 section 3.5, RFC 8707 section 2 and
 * RFC 9449 sections 5 and 8: refusing these is the authorization server working as it should.
 */
export const CLIENT_ERRORS = [
  'access_denied',
  'authorization_pending',
  'expired_token',
  'interaction_required',
  'invalid_client',
  'invalid_dpop_proof',
  'invalid_grant',
  'invalid_request',
  'invalid_scope',
  'invalid_target',
  'login_required',
  'slow_down',
  'unauthorized_client',
  'unsupported_grant_type',
  'use_dpop_nonce',
];
