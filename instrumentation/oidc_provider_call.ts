import type { IpRole, Outcome, PkceMethod } from '../model/kinds.ts';
import { elapsedMs } from './clock.ts';
import type { HttpFacts } from './http_facts.ts';
import type {
  OidcClient,
  OidcContext,
  OidcError,
  OidcInteraction,
  OidcModel,
  OidcState,
} from './oidc_provider_types.ts';
import type { RecordedAuthEvent, RecordedId, RecordedToken } from './recorded_event.ts';
import { outcomeOfError, words } from './token_endpoint_events.ts';

/** What oidc-provider's own events said while one request was answered. */
export interface RequestNotes {
  readonly errors: OidcError[];
  readonly revokedGrantIds: string[];
  readonly destroyed: OidcModel[];
  /** The code that the authorization endpoint issued. */
  code?: OidcModel;
  /** The interaction that this request resumes; a next step replaces it in the provider's own state. */
  resumed?: OidcInteraction;
  /** `authorization.success`: the request was granted. */
  authorized?: { readonly access_token?: unknown };
}

/** Entries kept of each list of notes: one request touches a handful. */
export const NOTES_LENGTH_MAX = 64;

export function emptyNotes(): RequestNotes {
  return { errors: [], revokedGrantIds: [], destroyed: [] };
}

/** One answered request of the provider. */
export interface ProviderCall {
  readonly ctx: OidcContext;
  readonly oidc: OidcState;
  readonly notes: RequestNotes;
  readonly issuer: string;
  readonly http: HttpFacts;
}

type Facts = Omit<RecordedAuthEvent, 'kind'>;

/** The interaction that brought the user back, if one did. */
export function resumedInteraction(call: ProviderCall): OidcInteraction | undefined {
  return call.notes.resumed ?? call.oidc.entities?.Interaction;
}

/** What every event of a call shares. */
export function callFacts(call: ProviderCall, endpoint: string, ipRole: IpRole): Facts {
  const { oidc, ctx, http } = call;
  return {
    endpoint,
    issuer: call.issuer,
    client: clientOf(oidc.client),
    requested_client_id: oidc.client === undefined ? requestedClientId(call) : undefined,
    net: { client_ip: http.client_ip, ip_role: ipRole, user_agent: http.user_agent },
    http: {
      method: http.method,
      route: ctx._matchedRoute,
      status: ctx.status,
      duration_ms: elapsedMs(http.startTimeMs),
    },
  };
}

export function clientOf(client: OidcClient | undefined): RecordedAuthEvent['client'] {
  if (client === undefined) return undefined;
  return {
    id: client.clientId,
    name: client.clientName,
    auth_method: client.clientAuthMethod,
  };
}

/** A parameter of the request; undefined where it is absent or repeated. */
export function param(oidc: OidcState, name: string): string | undefined {
  const value = oidc.params?.[name] ?? oidc.body?.[name];
  return typeof value === 'string' && value !== '' ? value : undefined;
}

/** A parameter that may be repeated, such as `resource` (RFC 8707). */
export function paramList(oidc: OidcState, name: string): string[] | undefined {
  const value = oidc.params?.[name] ?? oidc.body?.[name];
  if (Array.isArray(value)) return value.filter((item) => typeof item === 'string');
  return typeof value === 'string' && value !== '' ? [value] : undefined;
}

/** A text member of the JSON answer. */
export function answer(call: ProviderCall, name: string): string | undefined {
  const value = answerValue(call, name);
  return typeof value === 'string' ? value : undefined;
}

export function answerNumber(call: ProviderCall, name: string): number | undefined {
  const value = answerValue(call, name);
  return typeof value === 'number' ? value : undefined;
}

export function answerValue(call: ProviderCall, name: string): unknown {
  const { body } = call.ctx;
  if (typeof body !== 'object' || body === null || !Object.hasOwn(body, name)) return undefined;
  return (body as Readonly<Record<string, unknown>>)[name];
}

function requestedClientId(call: ProviderCall): string | undefined {
  const named = param(call.oidc, 'client_id');
  if (named !== undefined) return named;
  const basic = /^basic\s+(\S+)$/i.exec(call.ctx.req.headers.authorization ?? '')?.[1];
  if (basic === undefined) return undefined;
  const [id = '', secret] = Buffer.from(basic, 'base64').toString('utf8').split(':', 2);
  // Without a colon it is no user-pass, and what stands there may be a secret.
  if (secret === undefined) return undefined;
  try {
    return decodeURIComponent(id);
  } catch {
    return id;
  }
}

/** The error that decided the answer; a refused redirect URI outranks what was found before it. */
export function decidingError(notes: RequestNotes): OidcError | undefined {
  return notes.errors.find((e) => e.error === 'invalid_redirect_uri') ?? notes.errors.at(-1);
}

/** The provider's words for a failed proof of RFC 7636 section 4.6, which it keeps in the cause of `invalid_grant`. */
const VERIFIER_CAUSES = new Set([
  'code_verifier must be provided',
  'code_verifier does not match code_challenge',
]);

function isVerifierError(error: OidcError): boolean {
  const cause = error instanceof Error ? error.cause : undefined;
  return cause instanceof Error && VERIFIER_CAUSES.has(cause.message);
}

export function errorOf(error: OidcError): NonNullable<RecordedAuthEvent['error']> {
  const told = error.expose === true ? (error.error ?? error.name ?? 'error') : 'server_error';
  const code = isVerifierError(error) ? 'pkce_verification_failed' : told;
  return { code, oauth_error: told, detail: error.expose === true ? detailOf(error) : undefined };
}

/** The provider's own words only: the message of a cause may quote what it failed to read. */
function detailOf(error: OidcError): string | undefined {
  const foreign = error instanceof Error && error.cause !== undefined;
  return (foreign ? undefined : error.error_detail) ?? error.error_description ?? error.message;
}

export function outcomeOf(error: OidcError): Outcome {
  // The device page's own error for a user who declines.
  if (error.name === 'AbortedError') return 'denied';
  return outcomeOfError(error.error);
}

/** The request parameters of RFC 6749 section 4.1.1 and its kin. */
export function authorizationParameters(oidc: OidcState): Facts {
  return {
    response_type: param(oidc, 'response_type'),
    scopes_requested: words(param(oidc, 'scope')),
    redirect_uri: param(oidc, 'redirect_uri'),
    resource: paramList(oidc, 'resource'),
    pkce: pkceOf(oidc),
  };
}

/** RFC 7636 section 4.3: a challenge without a method is `plain`. */
function pkceOf(oidc: OidcState): PkceMethod {
  if (oidc.params === undefined) return 'unknown';
  if (param(oidc, 'code_challenge') === undefined) return 'none';
  const method = param(oidc, 'code_challenge_method') ?? 'plain';
  return method === 'S256' || method === 'plain' ? method : 'unknown';
}

export function subjectOf(accountId: string | undefined): RecordedAuthEvent['subject'] {
  return accountId === undefined ? undefined : { id: accountId, type: 'user' };
}

export function sessionOf(uid: string | undefined): RecordedId | undefined {
  return uid === undefined ? undefined : { id: uid };
}

export function grantOf(grantId: string | undefined): RecordedId | undefined {
  return grantId === undefined ? undefined : { id: grantId };
}

/**
 * The rotation family of a refresh token. The provider gives none an id, and one grant serves every
 * authorization that a client gets in a session, so that two sound chains would look like one that
 * forked. The grant together with what each rotation carries along unchanged names the chain.
 */
export function familyOf(refreshToken: OidcModel | undefined): RecordedId | undefined {
  if (refreshToken?.grantId === undefined) return undefined;
  const { grantId, iiat, nonce } = refreshToken;
  return { id: [grantId, iiat ?? '', nonce ?? ''].join(' ') };
}

/** How a token is bound (RFC 9449, RFC 8705). */
export function bindingOf(
  token: OidcModel | undefined,
): Pick<RecordedAuthEvent, 'binding' | 'binding_thumbprint'> {
  if (token === undefined) return {};
  if (token.jkt !== undefined) return { binding: 'dpop', binding_thumbprint: token.jkt };
  const certificate = token['x5t#S256'];
  if (certificate !== undefined) return { binding: 'mtls', binding_thumbprint: certificate };
  return { binding: 'none' };
}

/** `grant.revoked`: everything that descends from the grant is gone. */
export function grantRevokedEvents(call: ProviderCall, shared: Facts): RecordedAuthEvent[] {
  const refreshToken = call.oidc.entities?.RefreshToken;
  return call.notes.revokedGrantIds.map((grantId) => {
    const known = refreshToken?.grantId === grantId ? refreshToken : undefined;
    return {
      ...shared,
      kind: 'grant_revoked',
      outcome: 'success',
      error: undefined,
      grant: { id: grantId },
      subject: subjectOf(known?.accountId) ?? shared.subject,
      tokens: known === undefined ? undefined : [revokedRefreshToken(known)],
    };
  });
}

function revokedRefreshToken(token: OidcModel): RecordedToken {
  return {
    role: 'revoked',
    type: 'refresh',
    value: token.jti,
    family: familyOf(token),
    counter: token.rotations,
  };
}
