import type { EventKind } from '../../model/kinds.ts';
import { lookUp } from './_reading.ts';

/** Errors of LOGIN_ERROR that concern the request, not the person: the user never got to log in. */
export const REQUEST_ERRORS: ReadonlySet<string> = new Set([
  'invalid_redirect_uri',
  'client_not_found',
  'client_disabled',
  'invalid_request',
  'invalid_client',
  'unauthorized_client',
  'not_allowed',
  'invalid_scope',
  'invalid_registration',
  'invalid_code_challenge',
  'invalid_code_challenge_method',
  'code_challenge_method_missing',
  'code_challenge_missing',
  'unsupported_response_type',
  'invalid_response_type',
]);

/**
 * Keycloak's error words in those of RFC 6749 section 5.2 and RFC 8628 section 3.5. A wrong secret is `invalid_client`
 * as the RFC has it, although Keycloak's token endpoint tells the client `unauthorized_client`.
 */
const OAUTH_ERRORS: Readonly<Record<string, string>> = {
  invalid_client: 'invalid_client',
  invalid_client_credentials: 'invalid_client',
  client_not_found: 'invalid_client',
  client_disabled: 'invalid_client',
  unauthorized_client: 'unauthorized_client',
  not_allowed: 'unauthorized_client',
  invalid_code: 'invalid_grant',
  expired_code: 'invalid_grant',
  invalid_token: 'invalid_grant',
  expired_refresh_token: 'invalid_grant',
  invalid_user_credentials: 'invalid_grant',
  user_not_found: 'invalid_grant',
  user_disabled: 'invalid_grant',
  user_temporarily_disabled: 'invalid_grant',
  session_expired: 'invalid_grant',
  invalid_redirect_uri: 'invalid_grant',
  code_verifier_missing: 'invalid_grant',
  invalid_code_verifier: 'invalid_grant',
  pkce_verification_failed: 'invalid_grant',
  invalid_request: 'invalid_request',
  invalid_scope: 'invalid_scope',
  unsupported_grant_type: 'unsupported_grant_type',
  access_denied: 'access_denied',
  rejected_by_user: 'access_denied',
  slow_down: 'slow_down',
  authorization_pending: 'authorization_pending',
  expired_oauth2_device_code: 'expired_token',
};

/** At the authorization endpoint a bad redirect URI or client is told to nobody (RFC 6749 section 4.1.2.1). */
const UNTOLD: ReadonlySet<string> = new Set([
  'invalid_redirect_uri',
  'client_not_found',
  'client_disabled',
  'invalid_client',
]);

/** Which requests a failure is told at; the same word means something else at each. */
interface Failure {
  /** The type without `_ERROR`. */
  readonly base: string;
  readonly error: string;
  readonly reason: string | undefined;
  /** What the failure was made of. */
  readonly kind: EventKind;
}

/** The RFC's word for a failure; undefined where it is told to nobody, or is no OAuth error. */
export function oauthErrorOf(failure: Failure): string | undefined {
  const { base, error, reason, kind } = failure;
  // Keycloak logs an unknown scope as a bad request, and says so in the reason alone.
  const isScope = error === 'invalid_request' && reason?.startsWith('Invalid scopes') === true;
  if (isScope) return 'invalid_scope';
  if (kind === 'login_failed') return undefined;
  if (kind === 'authorization_failed' && UNTOLD.has(error)) return undefined;
  // `{"active": false}` (RFC 7662 section 2.2), and a revocation that succeeds (RFC 7009 section 2.2).
  const isAsked = base === 'INTROSPECT_TOKEN' || base === 'REVOKE_GRANT';
  if (error === 'invalid_token' && isAsked) return undefined;
  // A resource says invalid_token (RFC 6750 section 3.1).
  if (error === 'invalid_token' && base === 'USER_INFO_REQUEST') return error;
  if (error === 'not_allowed' && base === 'TOKEN_EXCHANGE') return 'access_denied';
  return lookUp(OAUTH_ERRORS, error);
}
