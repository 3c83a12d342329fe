/**
 * Names whose values are secrets wherever they appear: form and query parameters, headers, JSON members,
 * attributes of other instrumentations. Compared in the form that `normaliseKey` gives.
 */
export const SECRET_KEYS: ReadonlySet<string> = new Set([
  // OAuth and OpenID Connect parameters (RFC 6749, 7009, 7521, 7636, 7662, 8628, 8693, 9101, 9126, 9449).
  'access_token',
  'refresh_token',
  'id_token',
  'id_token_hint',
  'token',
  'subject_token',
  'actor_token',
  'code',
  'authorization_code',
  'code_verifier',
  'device_code',
  'user_code',
  'auth_req_id',
  'client_secret',
  'client_assertion',
  'assertion',
  'saml_response',
  'samlresponse',
  'request',
  'request_uri',
  'state',
  'nonce',
  'login_hint_token',
  'logout_token',
  'registration_access_token',
  'initial_access_token',
  'dpop',
  'dpop_nonce',
  // Headers and what stands for them.
  'authorization',
  'proxy_authorization',
  'cookie',
  'set_cookie',
  'x_api_key',
  'api_key',
  'apikey',
  'x_auth_token',
  'x_amz_security_token',
  'oauth_client_attestation',
  'oauth_client_attestation_pop',
  // Passwords and keys.
  'password',
  'passwd',
  'pwd',
  'passphrase',
  'secret',
  'otp',
  'pin',
  'private_key',
  'session_id',
  'sessionid',
  'sid',
  'csrf_token',
  'xsrf',
]);

/** Lower case, with `-`, `.` and spaces as `_`: `X-Api-Key` and `x_api_key` are one name. */
export function normaliseKey(key: string): string {
  return key.toLowerCase().replace(/[-. ]/g, '_');
}
