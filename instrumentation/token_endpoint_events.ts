import type { Outcome, TokenType } from '../model/kinds.ts';
import type { RecordedAuthEvent, RecordedId, RecordedToken } from './recorded_event.ts';

/** `grant_type` values of RFC 6749, 8628 and 8693. */
export const GRANT_TYPES = {
  authorizationCode: 'authorization_code',
  refreshToken: 'refresh_token',
  clientCredentials: 'client_credentials',
  deviceCode: 'urn:ietf:params:oauth:grant-type:device_code',
  tokenExchange: 'urn:ietf:params:oauth:grant-type:token-exchange',
} as const;

/** What an event of the token endpoint has whatever it came to. */
export type TokenCallFacts = Pick<
  RecordedAuthEvent,
  | 'client'
  | 'requested_client_id'
  | 'issuer'
  | 'subject'
  | 'session'
  | 'grant'
  | 'net'
  | 'http'
  | 'audience'
  | 'resource'
  | 'binding'
  | 'binding_thumbprint'
  | 'pkce'
  | 'acr'
  | 'amr'
  | 'raw_type'
  | 'ext'
>;

/** One call of the token endpoint (RFC 6749 section 3.2). */
export interface TokenCall {
  /** Who called, for whom, from where. */
  facts: TokenCallFacts;
  grant_type: string;
  /** The parameters of the request that matter, raw. */
  request: {
    code?: string | undefined;
    refresh_token?: string | undefined;
    device_code?: string | undefined;
    subject_token?: string | undefined;
    scope?: string | undefined;
    redirect_uri?: string | undefined;
  };
  /** The DPoP proof of the request (`presentedProof`). */
  proof?: readonly RecordedToken[] | undefined;
  /** The rotation family of the refresh token presented or issued, where known. */
  family?: RecordedId | undefined;
  /** Seconds since the epoch when the tokens were issued; default: not told. */
  issued_at?: number | undefined;
}

export interface TokenSuccess extends TokenCall {
  /** The response of RFC 6749 section 5.1, raw. */
  response: {
    access_token?: string | undefined;
    refresh_token?: string | undefined;
    scope?: string | undefined;
    expires_in?: number | undefined;
  };
  /** Position of the issued refresh token in its family, from 0. */
  counter?: number | undefined;
}

export interface TokenFailure extends TokenCall {
  error: NonNullable<RecordedAuthEvent['error']>;
  /** True where the server knows that the code or refresh token had been used before. */
  reused?: boolean | undefined;
}

/**
 * The events of a successful call, the first being the one that the others belong to:
 * a code exchange is code_redeemed and token_issued; a refresh is token_refreshed with the old token as
 * consumed (presented where the server does not rotate) and the new one as its child.
 */
export function tokenSuccessEvents(call: TokenSuccess): RecordedAuthEvent[] {
  if (call.grant_type === GRANT_TYPES.refreshToken) return [refreshed(call)];
  const issued: RecordedAuthEvent = {
    ...facts(call),
    kind: call.grant_type === GRANT_TYPES.tokenExchange ? 'token_exchanged' : 'token_issued',
    outcome: 'success',
    scopes_granted: words(call.response.scope),
    tokens: [...issuedTokens(call), ...usedCredential(call, 'consumed'), ...(call.proof ?? [])],
  };
  return call.request.code === undefined
    ? [issued]
    : [codeRedeemed(call, 'success', { scopes_granted: words(call.response.scope) }), issued];
}

/**
 * The events of a refused call: token_request_failed with what was presented, even when it is unknown to
 * the server; code_redeemed (failure) when a code was refused as such; token_reuse_detected when the
 * server says that it had been used before.
 */
export function tokenFailureEvents(call: TokenFailure): RecordedAuthEvent[] {
  const { error } = call;
  const failed: RecordedAuthEvent = {
    ...facts(call),
    kind: 'token_request_failed',
    outcome: outcomeOfError(error.oauth_error),
    error,
    redirect_uri: call.request.redirect_uri,
    tokens: [...usedCredential(call, 'presented'), ...(call.proof ?? [])],
  };
  const events = [failed];
  if (call.request.code !== undefined && error.oauth_error === 'invalid_grant') {
    events.push(codeRedeemed(call, 'failure', { error }));
  }
  if (call.reused === true) {
    events.push({
      ...facts(call),
      kind: 'token_reuse_detected',
      outcome: 'failure',
      error,
      tokens: usedCredential(call, 'presented'),
    });
  }
  return events;
}

function facts(call: TokenCall): Omit<RecordedAuthEvent, 'kind'> {
  return {
    ...call.facts,
    endpoint: 'token',
    grant_type: call.grant_type,
    scopes_requested: words(call.request.scope),
  };
}

function codeRedeemed(
  call: TokenCall,
  outcome: Outcome,
  more: Partial<RecordedAuthEvent>,
): RecordedAuthEvent {
  return {
    ...facts(call),
    kind: 'code_redeemed',
    outcome,
    redirect_uri: call.request.redirect_uri,
    tokens: [{ role: 'consumed', type: 'code', value: call.request.code }],
    ...more,
  };
}

function refreshed(call: TokenSuccess): RecordedAuthEvent {
  const rotated =
    call.response.refresh_token !== undefined &&
    call.response.refresh_token !== call.request.refresh_token;
  const previous = usedCredential(call, rotated ? 'consumed' : 'presented').map((token) =>
    rotated && call.counter !== undefined ? { ...token, counter: call.counter - 1 } : token,
  );
  return {
    ...facts(call),
    kind: 'token_refreshed',
    outcome: 'success',
    scopes_granted: words(call.response.scope),
    tokens: [...previous, ...issuedTokens(call, rotated), ...(call.proof ?? [])],
  };
}

function issuedTokens(call: TokenSuccess, withRefreshToken = true): RecordedToken[] {
  const { access_token, refresh_token, expires_in } = call.response;
  const [parent] = usedCredential(call, 'consumed');
  const link = parent === undefined ? {} : { parent: { value: parent.value } };
  const tokens: RecordedToken[] = [];
  if (access_token !== undefined) {
    tokens.push({
      role: 'issued',
      type: 'access',
      value: access_token,
      ...link,
      // An access token without a refresh token belongs to no rotation family.
      family: refresh_token === undefined ? undefined : call.family,
      ...lifetime(access_token, call.issued_at, expires_in),
    });
  }
  if (withRefreshToken && refresh_token !== undefined) {
    tokens.push({
      role: 'issued',
      type: 'refresh',
      value: refresh_token,
      ...link,
      family: call.family,
      counter: call.counter,
      issued_at: call.issued_at,
    });
  }
  return tokens;
}

/** A JWT says its times itself, and more exactly. */
function lifetime(
  token: string,
  issuedAt: number | undefined,
  expiresIn: number | undefined,
): Pick<RecordedToken, 'issued_at' | 'expires_at'> {
  if (token.startsWith('eyJ') || issuedAt === undefined) return {};
  return {
    issued_at: issuedAt,
    ...(expiresIn === undefined ? {} : { expires_at: issuedAt + expiresIn }),
  };
}

/** What the client presented in exchange, if anything. */
function usedCredential(call: TokenCall, role: 'consumed' | 'presented'): RecordedToken[] {
  const { code, refresh_token, device_code, subject_token } = call.request;
  const one = (type: TokenType, value: string | undefined): RecordedToken[] =>
    value === undefined || value === '' ? [] : [{ role, type, value }];
  switch (call.grant_type) {
    case GRANT_TYPES.authorizationCode:
      return one('code', code);
    case GRANT_TYPES.refreshToken:
      return one('refresh', refresh_token).map((token) => ({ ...token, family: call.family }));
    case GRANT_TYPES.deviceCode:
      return one('device_code', device_code);
    case GRANT_TYPES.tokenExchange:
      return one('access', subject_token).map((token) => ({ ...token, role: 'subject' }));
    default:
      return [];
  }
}

/** Space-separated words (RFC 6749 section 3.3). */
export function words(text: string | undefined): string[] | undefined {
  return text === undefined ? undefined : text.split(' ').filter((word) => word !== '');
}

const OUTCOME_OF_ERROR: Readonly<Record<string, Outcome>> = {
  // A polling client shall go on asking (RFC 8628 section 3.5).
  authorization_pending: 'pending',
  slow_down: 'pending',
  access_denied: 'denied',
  // The client shall come again with what was missing: a nonce (RFC 9449 section 8) ...
  use_dpop_nonce: 'challenge',
  // ... or the user, whom a request with `prompt=none` must not bother (OpenID Connect Core 3.1.2.6).
  login_required: 'challenge',
  consent_required: 'challenge',
  interaction_required: 'challenge',
  account_selection_required: 'challenge',
};

/** What a refusal with this OAuth error came to: not every one is a failure. */
export function outcomeOfError(oauthError: string | undefined): Outcome {
  return (oauthError === undefined ? undefined : OUTCOME_OF_ERROR[oauthError]) ?? 'failure';
}
