import type { IncomingMessage, ServerResponse } from 'node:http';
import type { IpRole } from '../model/kinds.ts';
import { elapsedMs } from './clock.ts';
import { httpFacts, ipRoleOfClient, type HttpFacts, type HttpOptions } from './http_facts.ts';
import type { RecordedAuthEvent } from './recorded_event.ts';
import { recordTogether, type AuthRecorder } from './recorder.ts';
import type { Handler } from './express.ts';
import {
  tokenFailureEvents,
  tokenSuccessEvents,
  type TokenCallFacts,
  type TokenFailure,
  type TokenSuccess,
} from './token_endpoint_events.ts';

export interface ExpressAuthorizationServerOptions extends HttpOptions {
  issuer: string;
}

type Told<T> = Omit<T, 'facts'> & { facts?: Omit<TokenCallFacts, 'net' | 'http' | 'issuer'> };

/** Helpers for an authorization server of one's own on Express (or Connect). */
export interface ExpressAuthorizationServer {
  /** Notes when a request began and who asks. Mount it before the protocol's routes. */
  readonly middleware: Handler;
  /** A token response (RFC 6749 section 5.1): the events of `tokenSuccessEvents`. */
  recordTokenResponse(req: IncomingMessage, res: ServerResponse, details: Told<TokenSuccess>): void;
  /** A refused token request (section 5.2): the events of `tokenFailureEvents`. */
  recordTokenError(req: IncomingMessage, res: ServerResponse, details: Told<TokenFailure>): void;
  /**
   * Any other event of the request, such as code_issued, login or token_revoked; address, user agent,
   * method, status, duration and issuer are filled in.
   */
  recordEvent(
    req: IncomingMessage,
    res: ServerResponse,
    event: RecordedAuthEvent & { endpoint: string },
    ipRole?: IpRole,
  ): void;
}

/** Call the record functions after the status of the answer is set. */
export function expressAuthorizationServer(
  recorder: AuthRecorder,
  options: ExpressAuthorizationServerOptions,
): ExpressAuthorizationServer {
  const begun = new WeakMap<IncomingMessage, HttpFacts>();
  const factsOf = (req: IncomingMessage): HttpFacts => begun.get(req) ?? httpFacts(req, options);
  const surroundings = (
    http: HttpFacts,
    res: ServerResponse,
    ipRole: IpRole,
  ): Pick<RecordedAuthEvent, 'issuer' | 'net' | 'http'> => ({
    issuer: options.issuer,
    net: { client_ip: http.client_ip, ip_role: ipRole, user_agent: http.user_agent },
    http: {
      method: http.method,
      status: res.statusCode,
      duration_ms: elapsedMs(http.startTimeMs),
    },
  });
  const tokenFacts = (
    http: HttpFacts,
    res: ServerResponse,
    facts: Told<TokenSuccess>['facts'],
  ): TokenCallFacts => ({
    ...facts,
    ...surroundings(http, res, ipRoleOfClient(facts?.client?.auth_method)),
  });
  return {
    middleware: (req, _res, next) => {
      recorder.guard(() => begun.set(req, httpFacts(req, options)));
      next();
    },
    recordTokenResponse: (req, res, details) => {
      recorder.guard(() => {
        const http = factsOf(req);
        const facts = tokenFacts(http, res, details.facts);
        recordTogether(recorder, http, tokenSuccessEvents({ ...details, facts }));
      });
    },
    recordTokenError: (req, res, details) => {
      recorder.guard(() => {
        const http = factsOf(req);
        const facts = tokenFacts(http, res, details.facts);
        recordTogether(recorder, http, tokenFailureEvents({ ...details, facts }));
      });
    },
    recordEvent: (req, res, event, ipRole = 'end_user') => {
      recorder.guard(() => {
        const http = factsOf(req);
        recordTogether(recorder, http, [{ ...surroundings(http, res, ipRole), ...event }]);
      });
    },
  };
}
