import type { IncomingMessage, ServerResponse } from 'node:http';
import { trace, context as activeContext } from '@opentelemetry/api';
import type { IpRole } from '../model/kinds.ts';
import { elapsedMs, nowMs } from './clock.ts';
import {
  httpFacts,
  presentedProof,
  presentedToken,
  type HttpFacts,
  type HttpOptions,
  type PresentedToken,
} from './http_facts.ts';
import type { RecordedAuthEvent } from './recorded_event.ts';
import type { AuthRecorder, OpenEvent } from './recorder.ts';
import {
  rejectionOf,
  type AcceptedToken,
  type RejectionCode,
  type Validation,
} from './validation.ts';

/** Express's and Connect's way of a handler, without needing their types. */
export type Handler = (
  req: IncomingMessage,
  res: ServerResponse,
  next: (error?: unknown) => void,
) => void;

/** What Express adds to a request: the pattern that matched, known once the call has been routed. */
interface RoutedRequest extends IncomingMessage {
  readonly baseUrl?: string;
  readonly route?: { readonly path?: unknown };
}

interface ApiOptions extends HttpOptions {
  /** The API's name: `resource` of its events (RFC 8707), and the `realm` of its challenges. */
  resource: string;
  /**
   * The route's pattern, such as `/orders/:id`; default: what Express matched. A path as asked must not
   * be given: it holds ids, and every new one would be a new route.
   */
  route?: ((req: IncomingMessage) => string) | undefined;
}

export interface ResourceServerOptions extends ApiOptions {
  /**
   * Says whether a token is good. Returns what is known of it (`validationOf(claims)`) or throws: errors
   * of jose become their rejection code, any other error means that validation was out of order, and the
   * call is refused with 503.
   */
  validate: (token: string, req: IncomingMessage) => Promise<Validation> | Validation;
  /** Scopes that this call needs; a token without one is answered with 403 insufficient_scope. */
  requiredScopes?: ((req: IncomingMessage) => readonly string[]) | undefined;
  /**
   * Whose address the API sees; default `unknown`. Give `client_backend` where only servers call,
   * `end_user` where apps and browsers call directly, or decide by the token.
   */
  ipRole?:
    IpRole | ((token: AcceptedToken | undefined, req: IncomingMessage) => IpRole) | undefined;
}

export interface GatewayOptions extends ApiOptions {
  /** Whose address the gateway sees; default `end_user`. */
  ipRole?: IpRole | undefined;
}

const accepted = new WeakMap<IncomingMessage, AcceptedToken>();

/** What the resource server's middleware learnt of the request's token. */
export function acceptedToken(req: IncomingMessage): AcceptedToken | undefined {
  return accepted.get(req);
}

/**
 * Protects the routes after it and tells of every call: token_validated or token_rejected for the token,
 * api_accessed for the call as a whole (success below status 400). Refuses as RFC 6750 section 3 says:
 * 401 without or with a bad token, 403 without the scope, 503 where validation is out of order. A token
 * in the URL is not accepted (RFC 9700 section 4.3.2), but told with `ext.token_in_url`.
 */
export function resourceServerMiddleware(
  recorder: AuthRecorder,
  options: ResourceServerOptions,
): Handler {
  return (req, res, next) => {
    const call = beginCall(recorder, req, res, options);
    void validateCall(call, options)
      .then(() => {
        if (call.refused === undefined) {
          activeContext.with(call.open.context, next);
          return;
        }
        refuse(res, options.resource, call.refused);
      })
      .catch(next);
  };
}

/**
 * Tells of every call that a gateway forwards: api_accessed with the presented token's reference. The
 * token is not validated, so a forged `jti` is told like a true one; the resource server's events tell
 * which was which. The call's `traceparent` is replaced, so that what is behind shares the trace.
 */
export function gatewayMiddleware(recorder: AuthRecorder, options: GatewayOptions): Handler {
  return (req, res, next) => {
    const call = beginCall(recorder, req, res, { ipRole: 'end_user', ...options });
    if (call.open.traceparent !== '') req.headers['traceparent'] = call.open.traceparent;
    activeContext.with(call.open.context, next);
  };
}

interface Refusal {
  readonly status: 401 | 403 | 503;
  /** RFC 6750 section 3.1; none where no token was given. */
  readonly error?: 'invalid_token' | 'insufficient_scope' | 'temporarily_unavailable';
  /** What the event says. */
  readonly code: RejectionCode | 'missing_token' | 'token_in_url' | 'insufficient_scope';
  readonly scope?: string;
}

interface ApiCall {
  readonly recorder: AuthRecorder;
  readonly req: RoutedRequest;
  readonly http: HttpFacts;
  readonly open: OpenEvent;
  readonly presented: PresentedToken | undefined;
  token: AcceptedToken | undefined;
  refused: Refusal | undefined;
}

function beginCall(
  recorder: AuthRecorder,
  req: IncomingMessage,
  res: ServerResponse,
  options: ApiOptions & Pick<ResourceServerOptions, 'ipRole'>,
): ApiCall {
  const http = httpFacts(req, options);
  const call: ApiCall = {
    recorder,
    req,
    http,
    open: recorder.begin('api_accessed', { parent: http.parent, startTimeMs: http.startTimeMs }),
    presented: presentedToken(req),
    token: undefined,
    refused: undefined,
  };
  const end = (): void => {
    recorder.guard(() => call.open.end(apiAccessed(call, res, options)));
  };
  // Told once: when the answer is out, or when the caller went away before.
  res.once('finish', end);
  res.once('close', end);
  return call;
}

function callFacts(
  call: ApiCall,
  options: ApiOptions & Pick<ResourceServerOptions, 'ipRole'>,
): Omit<RecordedAuthEvent, 'kind'> {
  const { http, presented, token, req } = call;
  const { ipRole = 'unknown' } = options;
  const subject = token?.subject;
  return {
    endpoint: 'api',
    resource: [options.resource],
    client: token?.client_id === undefined ? undefined : { id: token.client_id },
    subject:
      subject === undefined
        ? undefined
        : { id: subject, type: subject === token?.client_id ? 'client' : 'user' },
    issuer: token?.issuer,
    audience: token?.audience,
    scopes_granted: token?.scopes,
    binding: token?.binding,
    binding_thumbprint: token?.binding_thumbprint,
    tokens: [
      ...(presented === undefined
        ? []
        : [{ role: 'presented', type: 'access', value: presented.value } as const]),
      ...presentedProof(req),
    ],
    net: {
      client_ip: http.client_ip,
      ip_role: typeof ipRole === 'function' ? ipRole(token, req) : ipRole,
      user_agent: http.user_agent,
    },
    ext: { token_in_url: presented?.inUrl === true ? 'true' : undefined },
  };
}

function apiAccessed(
  call: ApiCall,
  res: ServerResponse,
  options: ApiOptions & Pick<ResourceServerOptions, 'ipRole'>,
): RecordedAuthEvent {
  const { refused, http } = call;
  // Nothing was answered when the caller hung up before the headers went out.
  const status = res.headersSent ? res.statusCode : undefined;
  return {
    ...callFacts(call, options),
    kind: 'api_accessed',
    outcome: status !== undefined && status < 400 ? 'success' : 'failure',
    error: refused === undefined ? undefined : { code: refused.code, oauth_error: refused.error },
    http: {
      method: http.method,
      route: options.route?.(call.req) ?? matchedRoute(call.req),
      status,
      duration_ms: elapsedMs(http.startTimeMs),
    },
  };
}

function matchedRoute(req: RoutedRequest): string {
  const path = req.route?.path;
  return typeof path === 'string' ? `${req.baseUrl ?? ''}${path}` : '';
}

async function validateCall(call: ApiCall, options: ResourceServerOptions): Promise<void> {
  const { presented, req, recorder } = call;
  if (presented === undefined || presented.inUrl) {
    const code = presented === undefined ? 'missing_token' : 'token_in_url';
    call.refused = { status: 401, code };
    return;
  }
  const startTimeMs = nowMs();
  const validation = await settled(options, presented.value, req);
  if (validation.valid) {
    call.token = validation;
    accepted.set(req, validation);
  } else {
    const { code } = validation;
    call.refused =
      code === 'validation_unavailable'
        ? { status: 503, error: 'temporarily_unavailable', code }
        : { status: 401, error: 'invalid_token', code };
  }
  const facts = callFacts(call, options);
  recorder.guard(() =>
    recorder.record(
      {
        ...facts,
        // How it was validated is of the validation, not of the call.
        ext: { ...facts.ext, validation_mode: validation.mode },
        kind: validation.valid ? 'token_validated' : 'token_rejected',
        outcome: validation.valid ? 'success' : 'failure',
        error: validation.valid ? undefined : { code: validation.code },
        http: { method: call.http.method, duration_ms: elapsedMs(startTimeMs) },
      },
      { parent: call.open.context, startTimeMs },
    ),
  );
  if (validation.valid) call.refused = missingScope(validation, options, req);
}

async function settled(
  options: ResourceServerOptions,
  token: string,
  req: IncomingMessage,
): Promise<Validation> {
  try {
    return await options.validate(token, req);
  } catch (error) {
    return { valid: false, code: rejectionOf(error) };
  }
}

function missingScope(
  token: AcceptedToken,
  options: ResourceServerOptions,
  req: IncomingMessage,
): Refusal | undefined {
  const needed = options.requiredScopes?.(req) ?? [];
  if (needed.every((scope) => token.scopes?.includes(scope) === true)) return undefined;
  const scope = needed.join(' ');
  return { status: 403, error: 'insufficient_scope', code: 'insufficient_scope', scope };
}

/** RFC 6750 section 3: the challenge, and a body for people. */
function refuse(res: ServerResponse, realm: string, refusal: Refusal): void {
  const { status, error, scope } = refusal;
  if (status !== 503) {
    const quoted = (text: string): string => `"${text.replace(/["\\]/g, '')}"`;
    const parts = [
      `realm=${quoted(realm)}`,
      ...(error === undefined ? [] : [`error=${quoted(error)}`]),
      ...(scope === undefined ? [] : [`scope=${quoted(scope)}`]),
    ];
    res.setHeader('www-authenticate', `Bearer ${parts.join(', ')}`);
  }
  res.statusCode = status;
  res.setHeader('content-type', 'application/json');
  res.end(JSON.stringify({ error: error ?? 'missing_token' }));
}

/** The `traceparent` of the call being answered, to send along with calls that it causes. */
export function currentTraceparent(): string | undefined {
  const span = trace.getActiveSpan()?.spanContext();
  return span === undefined ? undefined : `00-${span.traceId}-${span.spanId}-01`;
}
