import type { IncomingHttpHeaders } from 'node:http';
import type { RequestHandler } from 'express';
import { isLoopback } from '../runtime/config.ts';
import { RequestProblem } from './problems.ts';

/**
 * No script but our own files, no style but our own, nothing from elsewhere, no frame, no markup from text
 * (Trusted Types): what a hostile user agent or redirect URI puts into a page stays text.
 */
const CONTENT_SECURITY_POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self'",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
  "require-trusted-types-for 'script'",
  "trusted-types 'none'",
].join('; ');

/** Headers of every answer. Data is never cached: a console on a shared machine leaves nothing behind. */
export const securityHeaders: RequestHandler = (_request, response, next) => {
  response.set({
    'content-security-policy': CONTENT_SECURITY_POLICY,
    'x-content-type-options': 'nosniff',
    'x-frame-options': 'DENY',
    'referrer-policy': 'no-referrer',
    'cross-origin-resource-policy': 'same-origin',
    'cross-origin-opener-policy': 'same-origin',
    'permissions-policy': 'camera=(), geolocation=(), microphone=()',
    'cache-control': 'no-store',
  });
  next();
};

/**
 * Refuses requests whose Host names neither this machine nor the public address. A page of another site
 * that rebinds its name to 127.0.0.1 would otherwise read everything.
 */
export function checkHost(publicUrl: string | undefined): RequestHandler {
  const publicHost = publicUrl === undefined ? undefined : new URL(publicUrl).host;
  return (request, _response, next) => {
    const host = request.headers.host;
    const isAllowed =
      host !== undefined && (host.toLowerCase() === publicHost || isLoopback(nameOf(host)));
    if (!isAllowed)
      throw new RequestProblem('forbidden', 'the Host header names another server', [
        {
          path: 'header.host',
          message: 'names another server',
          allowed: `localhost, 127.0.0.0/8, [::1]${publicHost === undefined ? ' (set GRANTSCOPE_PUBLIC_URL for a public name)' : `, ${publicHost}`}`,
        },
      ]);
    next();
  };
}

/** The name in `name:port`, without brackets. */
function nameOf(host: string): string {
  const name = /^\[([^\]]*)\](?::\d+)?$/.exec(host)?.[1] ?? host.replace(/:\d+$/, '');
  return name.toLowerCase();
}

/** Methods that change nothing. */
const SAFE_METHODS = new Set(['GET', 'HEAD', 'OPTIONS']);

/**
 * Refuses state-changing requests that a page of another origin sent. Programs send no Origin and pass.
 * Ports count: another program's page on this machine is another origin.
 */
export function checkOrigin(publicUrl: string | undefined): RequestHandler {
  const publicOrigin = publicUrl === undefined ? undefined : new URL(publicUrl).origin;
  return (request, _response, next) => {
    if (!SAFE_METHODS.has(request.method) && !isSameOrigin(request.headers, publicOrigin))
      throw new RequestProblem('forbidden', 'the request comes from a page of another origin', [
        {
          path: 'header.origin',
          message: 'is another origin',
          allowed: 'the origin of this server',
        },
      ]);
    next();
  };
}

function isSameOrigin(headers: IncomingHttpHeaders, publicOrigin: string | undefined): boolean {
  const site = headers['sec-fetch-site'];
  if (site !== undefined && site !== 'same-origin' && site !== 'none') return false;
  const { origin, host } = headers;
  if (origin === undefined) return true;
  return origin === publicOrigin || origin === `http://${host ?? ''}`;
}
