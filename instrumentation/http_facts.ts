import type { IncomingMessage } from 'node:http';
import { isIP } from 'node:net';
import { ROOT_CONTEXT, context as activeContext, trace, type Context } from '@opentelemetry/api';
import { nowMs } from './clock.ts';
import type { IpRole } from '../model/kinds.ts';
import { core } from './otel_sdk.ts';
import type { RecordedToken } from './recorded_event.ts';

/** Longest user agent kept, characters. */
export const USER_AGENT_LENGTH_MAX = 512;

export interface HttpOptions {
  /**
   * Take the client's address from `X-Forwarded-For` (its first entry). Only behind a proxy that sets
   * the header itself: anyone else could write any address into it. Default false: the socket's address.
   */
  trustProxy?: boolean | undefined;
}

/** What every event of one request has in common, taken when the request begins. */
export interface HttpFacts {
  readonly client_ip: string;
  readonly user_agent: string;
  readonly method: string;
  readonly startTimeMs: number;
  /** The context that the request's first event is a child of. */
  readonly parent: Context;
}

export function httpFacts(req: IncomingMessage, options: HttpOptions = {}): HttpFacts {
  return {
    client_ip: clientAddress(req, options),
    user_agent: (req.headers['user-agent'] ?? '').slice(0, USER_AGENT_LENGTH_MAX),
    method: req.method ?? '',
    startTimeMs: nowMs(),
    parent: parentContext(req),
  };
}

function clientAddress(req: IncomingMessage, options: HttpOptions): string {
  if (options.trustProxy === true) {
    const header = req.headers['x-forwarded-for'];
    const first = (Array.isArray(header) ? header[0] : header)?.split(',')[0]?.trim() ?? '';
    if (isIP(first) !== 0) return first;
  }
  return (req.socket.remoteAddress ?? '').replace(/^::ffff:(?=\d+\.)/i, '');
}

/**
 * The host's own span where one is active (an http instrumentation), else the caller's span by
 * `traceparent`, else none. `tracestate` and baggage are not read: they may hold anything.
 */
function parentContext(req: IncomingMessage): Context {
  const active = activeContext.active();
  if (trace.getSpan(active) !== undefined) return active;
  const header = req.headers['traceparent'];
  const caller = typeof header === 'string' ? core.parseTraceParent(header) : null;
  if (caller === null) return ROOT_CONTEXT;
  return trace.setSpanContext(ROOT_CONTEXT, { ...caller, isRemote: true });
}

/** The presented access token and how it came (RFC 6750 section 2, RFC 9449 section 7). */
export interface PresentedToken {
  readonly value: string;
  readonly scheme: 'Bearer' | 'DPoP';
  /** True where it stood in the URL, which RFC 9700 section 4.3.2 forbids. */
  readonly inUrl: boolean;
}

export function presentedToken(req: IncomingMessage): PresentedToken | undefined {
  const match = /^(bearer|dpop)\s+(\S+)\s*$/i.exec(req.headers.authorization ?? '');
  const [, scheme, value] = match ?? [];
  if (scheme !== undefined && value !== undefined) {
    return { value, scheme: scheme.toLowerCase() === 'dpop' ? 'DPoP' : 'Bearer', inUrl: false };
  }
  const query = (req.url ?? '').split('?', 2)[1];
  const inUrl = query === undefined ? null : new URLSearchParams(query).get('access_token');
  return inUrl === null || inUrl === ''
    ? undefined
    : { value: inUrl, scheme: 'Bearer', inUrl: true };
}

/**
 * The DPoP proof that came with a request (RFC 9449 section 4), so that one that comes again is noticed. Told by its `jti`
 * alone, like any JWT.
 */
export function presentedProof(req: IncomingMessage): RecordedToken[] {
  const value = req.headers['dpop'];
  return typeof value === 'string' && value !== ''
    ? [{ role: 'presented', type: 'dpop_proof', value }]
    : [];
}

/**
 * Whose address a call from a client carries, by how the client authenticates: one that keeps a secret
 * runs on its owner's server, a public one (`none`) runs with its user (RFC 6749 section 2.1).
 */
export function ipRoleOfClient(authMethod: string | undefined): IpRole {
  if (authMethod === undefined) return 'unknown';
  return authMethod === 'none' ? 'end_user' : 'client_backend';
}
