import type { EventKind, TokenType } from '../model/kinds.ts';
import { ipRoleOfClient, presentedProof, presentedToken } from './http_facts.ts';
import {
  answer,
  answerNumber,
  answerValue,
  authorizationParameters,
  bindingOf,
  callFacts,
  clientOf,
  decidingError,
  errorOf,
  familyOf,
  grantOf,
  grantRevokedEvents,
  outcomeOf,
  param,
  paramList,
  resumedInteraction,
  sessionOf,
  subjectOf,
  type ProviderCall,
} from './oidc_provider_call.ts';
import type { OidcModel } from './oidc_provider_types.ts';
import type { RecordedAuthEvent, RecordedToken } from './recorded_event.ts';
import {
  GRANT_TYPES,
  tokenFailureEvents,
  tokenSuccessEvents,
  words,
  type TokenCall,
} from './token_endpoint_events.ts';

type Events = readonly RecordedAuthEvent[];

/** Route names of oidc-provider 9 and what an answered request of each is told as. */
const ROUTES: Readonly<Record<string, (call: ProviderCall) => Events>> = {
  authorization: authorizationEvents,
  resume: authorizationEvents,
  token: tokenEvents,
  introspection: introspectionEvents,
  revocation: revocationEvents,
  userinfo: userinfoEvents,
  pushed_authorization_request: pushedRequestEvents,
  device_authorization: deviceRequestEvents,
  code_verification: deviceApprovalEvents,
  device_resume: deviceApprovalEvents,
  backchannel_authentication: backchannelEvents,
  registration: (call) => registrationEvents(call, 'client_registered'),
  client_update: (call) => registrationEvents(call, 'client_updated'),
  client_delete: (call) => registrationEvents(call, 'client_deleted'),
  end_session_confirm: endSessionEvents,
  jwks: (call) => [
    { ...callFacts(call, 'jwks', 'unknown'), kind: 'jwks_fetched', ...ending(call) },
  ],
};

/** The events of one answered request, in the order in which they happened; none for other routes. */
export function providerEvents(call: ProviderCall): Events {
  return ROUTES[call.oidc.route ?? '']?.(call) ?? [];
}

/** Success, or the error that decided the answer. */
function ending(call: ProviderCall): Pick<RecordedAuthEvent, 'outcome' | 'error'> {
  const error = decidingError(call.notes);
  if (error === undefined) return { outcome: 'success' };
  return { outcome: outcomeOf(error), error: errorOf(error) };
}

/** The authorization endpoint, and its second half after the user has logged in or consented. */
function authorizationEvents(call: ProviderCall): Events {
  const { oidc, notes } = call;
  const shared: Omit<RecordedAuthEvent, 'kind'> = {
    ...callFacts(call, 'authorization', 'end_user'),
    ...authorizationParameters(oidc),
    subject: subjectOf(oidc.session?.accountId),
    session: sessionOf(oidc.session?.uid),
    acr: oidc.session?.acr,
    amr: oidc.session?.amr,
  };
  const events: RecordedAuthEvent[] = [...interactionEvents(call, shared)];
  const error = decidingError(notes);
  if (error !== undefined) {
    const failed = { ...shared, outcome: outcomeOf(error), error: errorOf(error) };
    if (error.error === 'access_denied' && resumedInteraction(call)?.prompt?.name === 'consent') {
      events.push({ ...failed, kind: 'consent_denied' });
    }
    return [...events, { ...failed, kind: 'authorization_failed' }];
  }
  if (oidc.route === 'authorization') {
    events.push({
      ...shared,
      kind: 'authorization_requested',
      outcome: 'success',
      tokens: pushedRequestToken(oidc.entities?.PushedAuthorizationRequest),
    });
  }
  return [...events, ...grantedEvents(call, shared)];
}

/** What the user did since the last step: results of earlier steps are carried along, and not told again. */
function interactionEvents(
  call: ProviderCall,
  shared: Omit<RecordedAuthEvent, 'kind'>,
): RecordedAuthEvent[] {
  const { oidc } = call;
  const before = resumedInteraction(call)?.lastSubmission;
  const events: RecordedAuthEvent[] = [];
  if (oidc.result?.login !== undefined && before?.login === undefined) {
    events.push({ ...shared, kind: 'login', outcome: 'success', error: undefined });
  }
  const consent = oidc.result?.consent;
  if (consent !== undefined && before?.consent === undefined) {
    events.push({
      ...shared,
      kind: 'consent_granted',
      outcome: 'success',
      scopes_granted: scopesOfGrant(oidc.entities?.Grant),
      grant: grantOf(consent.grantId ?? oidc.entities?.Grant?.jti),
    });
  }
  return events;
}

function scopesOfGrant(grant: OidcModel | undefined): string[] | undefined {
  if (grant === undefined) return undefined;
  const texts = [grant.openid?.scope ?? '', ...Object.values(grant.resources ?? {})];
  return [...new Set(texts.flatMap((text) => words(text) ?? []))];
}

/** What the authorization response carried: a code, or (implicit grant) an access token. */
function grantedEvents(
  call: ProviderCall,
  shared: Omit<RecordedAuthEvent, 'kind'>,
): RecordedAuthEvent[] {
  const { code, authorized } = call.notes;
  const events: RecordedAuthEvent[] = [];
  if (code !== undefined) {
    events.push({
      ...shared,
      kind: 'code_issued',
      outcome: 'success',
      scopes_granted: words(code.scope),
      grant: grantOf(code.grantId),
      tokens: [{ role: 'issued', type: 'code', value: code.jti }],
    });
  }
  const accessToken = authorized?.access_token;
  if (typeof accessToken === 'string') {
    const token = call.oidc.entities?.AccessToken;
    events.push({
      ...shared,
      ...bindingOf(token),
      kind: 'token_issued',
      outcome: 'success',
      grant_type: 'implicit',
      scopes_granted: words(token?.scope),
      grant: grantOf(token?.grantId),
      tokens: [{ role: 'issued', type: 'access', value: accessToken }],
    });
  }
  return events;
}

function tokenEvents(call: ProviderCall): Events {
  const { oidc, notes } = call;
  const error = decidingError(notes);
  const tokenCall = tokenCallOf(call);
  if (error === undefined) {
    return tokenSuccessEvents({
      ...tokenCall,
      response: {
        access_token: answer(call, 'access_token'),
        refresh_token: answer(call, 'refresh_token'),
        scope: answer(call, 'scope') ?? issuedToken(call)?.scope,
        expires_in: answerNumber(call, 'expires_in'),
      },
      counter: oidc.entities?.RefreshToken?.rotations,
    });
  }
  const reused =
    notes.revokedGrantIds.length > 0 ||
    Boolean(oidc.entities?.RefreshToken?.consumed) ||
    /\balready (?:used|consumed)$/.test(error.error_detail ?? '');
  const events = tokenFailureEvents({ ...tokenCall, error: errorOf(error), reused });
  return [...events, ...grantRevokedEvents(call, tokenCall.facts)];
}

function issuedToken(call: ProviderCall): OidcModel | undefined {
  return call.oidc.entities?.AccessToken ?? call.oidc.entities?.ClientCredentials;
}

function tokenCallOf(call: ProviderCall): TokenCall {
  const { oidc, http, notes } = call;
  const { AuthorizationCode: code, RefreshToken: refreshToken } = oidc.entities ?? {};
  const token = issuedToken(call);
  const source = token ?? refreshToken ?? code;
  const grantType = param(oidc, 'grant_type') ?? '';
  const clientId = oidc.client?.clientId;
  return {
    grant_type: grantType,
    request: {
      code: param(oidc, 'code'),
      refresh_token: param(oidc, 'refresh_token'),
      device_code: param(oidc, 'device_code'),
      subject_token: param(oidc, 'subject_token'),
      scope: param(oidc, 'scope'),
      redirect_uri: param(oidc, 'redirect_uri'),
    },
    proof: presentedProof(call.ctx.req),
    family: familyOf(refreshToken),
    issued_at: Math.floor(http.startTimeMs / 1_000),
    facts: {
      ...callFacts(call, 'token', ipRoleOfClient(oidc.client?.clientAuthMethod)),
      ...bindingOf(token),
      subject:
        grantType === GRANT_TYPES.clientCredentials && clientId !== undefined
          ? { id: clientId, type: 'client' }
          : subjectOf(source?.accountId),
      session: sessionOf(source?.sessionUid ?? refreshToken?.sessionUid),
      grant: grantOf(source?.grantId ?? notes.revokedGrantIds[0]),
      audience: token?.aud === undefined ? undefined : [token.aud],
      resource: paramList(oidc, 'resource'),
      // The provider knows S256 only; a code that is not loaded says nothing.
      pkce: code === undefined ? undefined : code.codeChallenge === undefined ? 'none' : 'S256',
      acr: refreshToken?.acr ?? code?.acr,
      amr: refreshToken?.amr ?? code?.amr,
    },
  };
}

const TYPE_OF_KIND: Readonly<Record<string, TokenType>> = {
  AccessToken: 'access',
  ClientCredentials: 'access',
  RefreshToken: 'refresh',
};
const TYPE_OF_HINT: Readonly<Record<string, TokenType>> = {
  access_token: 'access',
  refresh_token: 'refresh',
};

/** The token that introspection or revocation is about (RFC 7662, RFC 7009). */
function namedToken(call: ProviderCall, role: RecordedToken['role']): RecordedToken[] {
  const value = param(call.oidc, 'token');
  if (value === undefined) return [];
  const known = knownToken(call);
  const type =
    TYPE_OF_KIND[known?.kind ?? ''] ??
    TYPE_OF_HINT[param(call.oidc, 'token_type_hint') ?? ''] ??
    'unknown';
  const chain =
    type === 'refresh' ? { family: familyOf(known), counter: known?.rotations } : undefined;
  return [{ role, type, value, ...chain }];
}

function knownToken(call: ProviderCall): OidcModel | undefined {
  const { AccessToken, ClientCredentials, RefreshToken } = call.oidc.entities ?? {};
  return AccessToken ?? ClientCredentials ?? RefreshToken;
}

function introspectionEvents(call: ProviderCall): Events {
  const token = knownToken(call);
  const active = answerValue(call, 'active');
  return [
    {
      // The caller is a resource server, so the address is a back end's and the client is the caller.
      ...callFacts(call, 'introspection', 'client_backend'),
      ...ending(call),
      kind: 'token_introspected',
      subject: subjectOf(token?.accountId),
      grant: grantOf(token?.grantId),
      session: sessionOf(token?.sessionUid),
      scopes_granted: words(token?.scope),
      tokens: namedToken(call, 'presented'),
      ext: {
        active: typeof active === 'boolean' ? String(active) : undefined,
        token_client_id: token?.clientId,
      },
    },
  ];
}

function revocationEvents(call: ProviderCall): Events {
  const { oidc, notes } = call;
  const token = knownToken(call);
  const destroyed = token !== undefined && notes.destroyed.some((t) => t.jti === token.jti);
  const shared = {
    ...callFacts(call, 'revocation', ipRoleOfClient(oidc.client?.clientAuthMethod)),
    subject: subjectOf(token?.accountId),
    grant: grantOf(token?.grantId),
    session: sessionOf(token?.sessionUid),
  };
  const revoked: RecordedAuthEvent = {
    ...shared,
    ...ending(call),
    kind: 'token_revoked',
    // An unknown token is answered with success as well (RFC 7009 section 2.2), but nothing was revoked.
    tokens: namedToken(call, destroyed ? 'revoked' : 'presented'),
    ext: { revoked: String(destroyed) },
  };
  return [revoked, ...grantRevokedEvents(call, shared)];
}

function userinfoEvents(call: ProviderCall): Events {
  const { ctx, oidc } = call;
  const token = oidc.entities?.AccessToken;
  const presented = presentedToken(ctx.req);
  const value = presented?.value ?? param(oidc, 'access_token');
  return [
    {
      ...callFacts(call, 'userinfo', ipRoleOfClient(oidc.client?.clientAuthMethod)),
      ...ending(call),
      kind: 'userinfo_accessed',
      subject: subjectOf(token?.accountId),
      grant: grantOf(token?.grantId),
      session: sessionOf(token?.sessionUid),
      scopes_granted: words(token?.scope),
      ...bindingOf(token),
      tokens: [{ role: 'presented', type: 'access', value }, ...presentedProof(ctx.req)],
      ext: { token_in_url: presented?.inUrl === true ? 'true' : undefined },
    },
  ];
}

function pushedRequestEvents(call: ProviderCall): Events {
  const shared = {
    ...callFacts(call, 'par', ipRoleOfClient(call.oidc.client?.clientAuthMethod)),
    ...authorizationParameters(call.oidc),
    ...ending(call),
  };
  // A refused request is one and the same thing for an analyst, wherever it was refused.
  if (shared.outcome !== 'success') return [{ ...shared, kind: 'authorization_failed' }];
  const value = answer(call, 'request_uri');
  return [{ ...shared, kind: 'par_pushed', tokens: [{ role: 'issued', type: 'par', value }] }];
}

const REQUEST_URI_PREFIX = 'urn:ietf:params:oauth:request_uri:';

function pushedRequestToken(request: OidcModel | undefined): RecordedToken[] | undefined {
  if (request === undefined) return undefined;
  return [{ role: 'presented', type: 'par', value: `${REQUEST_URI_PREFIX}${request.jti}` }];
}

function deviceRequestEvents(call: ProviderCall): Events {
  const expiresIn = answerNumber(call, 'expires_in');
  const issuedAt = Math.floor(call.http.startTimeMs / 1_000);
  return [
    {
      ...callFacts(
        call,
        'device_authorization',
        ipRoleOfClient(call.oidc.client?.clientAuthMethod),
      ),
      ...ending(call),
      kind: 'device_authorization_requested',
      scopes_requested: words(param(call.oidc, 'scope')),
      tokens: [
        {
          role: 'issued',
          type: 'device_code',
          value: answer(call, 'device_code'),
          issued_at: issuedAt,
          expires_at: expiresIn === undefined ? undefined : issuedAt + expiresIn,
        },
      ],
    },
  ];
}

/** The page where a user types the code that a device shows, and the steps after it. */
function deviceApprovalEvents(call: ProviderCall): Events {
  const { oidc, notes } = call;
  const code = oidc.entities?.DeviceCode;
  const shared: Omit<RecordedAuthEvent, 'kind'> = {
    ...callFacts(call, 'device_verification', 'end_user'),
    grant_type: GRANT_TYPES.deviceCode,
    scopes_requested: words(param(oidc, 'scope')),
    subject: subjectOf(oidc.session?.accountId),
    session: sessionOf(oidc.session?.uid),
    tokens: code === undefined ? [] : [{ role: 'subject', type: 'device_code', value: code.jti }],
  };
  const events = interactionEvents(call, shared);
  if (decidingError(notes) !== undefined) {
    return [...events, { ...shared, ...ending(call), kind: 'authorization_failed' }];
  }
  if (notes.authorized === undefined) return events;
  return [
    ...events,
    {
      ...shared,
      kind: 'device_authorized',
      outcome: 'success',
      scopes_granted: words(code?.scope),
      grant: grantOf(code?.grantId),
    },
  ];
}

function backchannelEvents(call: ProviderCall): Events {
  return [
    {
      ...callFacts(
        call,
        'backchannel_authentication',
        ipRoleOfClient(call.oidc.client?.clientAuthMethod),
      ),
      ...ending(call),
      kind: 'backchannel_auth_requested',
      scopes_requested: words(param(call.oidc, 'scope')),
      subject: subjectOf(call.oidc.entities?.Account?.accountId),
    },
  ];
}

/** RFC 7591 and 7592. The answer's secrets (client_secret, registration_access_token) are not read. */
function registrationEvents(call: ProviderCall, kind: EventKind): Events {
  const { oidc } = call;
  const asked = oidc.body ?? {};
  const client = decidingError(call.notes) === undefined ? oidc.client : undefined;
  const texts = (value: unknown): string[] | undefined =>
    Array.isArray(value) ? value.filter((item) => typeof item === 'string') : undefined;
  const text = (value: unknown): string | undefined =>
    typeof value === 'string' ? value : undefined;
  return [
    {
      ...callFacts(call, 'registration', 'unknown'),
      ...ending(call),
      kind,
      client: clientOf(oidc.client) ?? { name: text(asked['client_name']) },
      client_metadata: {
        redirect_uris: client?.redirectUris ?? texts(asked['redirect_uris']),
        scope: client?.scope ?? text(asked['scope']),
        grant_types: client?.grantTypes ?? texts(asked['grant_types']),
        response_types: client?.responseTypes ?? texts(asked['response_types']),
        token_endpoint_auth_method:
          client?.clientAuthMethod ?? text(asked['token_endpoint_auth_method']),
        application_type: client?.applicationType,
      },
    },
  ];
}

function endSessionEvents(call: ProviderCall): Events {
  const { oidc } = call;
  const shared = {
    ...callFacts(call, 'end_session', 'end_user'),
    subject: subjectOf(oidc.session?.accountId),
    session: sessionOf(oidc.session?.uid),
  };
  return [
    { ...shared, ...ending(call), kind: 'session_ended' },
    ...grantRevokedEvents(call, shared),
  ];
}
