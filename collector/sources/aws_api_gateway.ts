import { defineSource, type ParseResult, type SourceRecord } from '../../model/define_source.ts';
import {
  CALL_FIELDS,
  draftOfCall,
  type GatewayCall,
  LOG_TIME_ALLOWED,
  logTimeNs,
  msOf,
  rejectionOf,
  type Verdict,
  verdictOf,
  NO_REFRESH_TOKENS_OR_PROOFS,
} from './_gateway.ts';
import { CLAIM_FIELDS } from './_jwt_claims.ts';
import { given, isJson, type Json, lookUp, numberOf, own, refuse, scalarText } from './_reading.ts';

const MEMBERS_MAX = 500;
const DEPTH_MAX = 4;
/** Longest message that is parsed, characters. */
const MESSAGE_LENGTH_MAX = 262_144;

/** `$context` variables of a record by their names without `$context.`, dots and underscores, in lower case. */
type Variables = ReadonlyMap<string, unknown>;

/** Names are the operator's: `authorizer.claims.sub`, `authorizerClaimsSub` and nested objects are the same. */
function variablesOf(record: Json): Variables {
  const variables = new Map<string, unknown>();
  const add = (value: Json, prefix: string, depth: number): void => {
    for (const name of Object.keys(value)) {
      if (variables.size >= MEMBERS_MAX) return;
      const member = value[name];
      const path = prefix + plainName(name);
      if (isJson(member) && depth < DEPTH_MAX) add(member, path, depth + 1);
      else if (!variables.has(path)) variables.set(path, member);
    }
  };
  add(record, '', 1);
  return variables;
}

/** Names recur in every record. A full memory is emptied. */
const names = new Map<string, string>();
const NAMES_REMEMBERED_MAX = 1_000;

function plainName(name: string): string {
  let plain = names.get(name);
  if (plain === undefined) {
    plain = name
      .slice(0, 128)
      .toLowerCase()
      .replace(/[^a-z0-9]/g, '');
    plain = plain.startsWith('context') ? plain.slice('context'.length) : plain;
    if (name.length > 128) return plain;
    if (names.size >= NAMES_REMEMBERED_MAX) names.clear();
    names.set(name, plain);
  }
  return plain;
}

function said(variables: Variables, ...members: readonly string[]): string | undefined {
  for (const member of members) {
    const text = scalarText(variables.get(member));
    if (text !== undefined && text !== '-') return text;
  }
  return undefined;
}

/**
 * Gateway responses that API Gateway made itself (`$context.error.responseType`). EXPIRED_TOKEN and INVALID_SIGNATURE
 * are about signed AWS requests, not about OAuth; MISSING_AUTHENTICATION_TOKEN also answers unknown routes.
 */
const RESPONSES: Readonly<Record<string, 'denied' | 'limited' | 'unavailable'>> = {
  ACCESS_DENIED: 'denied',
  UNAUTHORIZED: 'denied',
  MISSING_AUTHENTICATION_TOKEN: 'denied',
  INVALID_API_KEY: 'denied',
  INVALID_SIGNATURE: 'denied',
  EXPIRED_TOKEN: 'denied',
  WAF_FILTERED: 'denied',
  THROTTLED: 'limited',
  QUOTA_EXCEEDED: 'limited',
  AUTHORIZER_FAILURE: 'unavailable',
  AUTHORIZER_CONFIGURATION_ERROR: 'unavailable',
};

function verdictOfResponse(variables: Variables, status: number): Verdict {
  const detail = said(variables, 'authorizererror', 'authorizeerror', 'authenticateerror');
  const type = said(variables, 'errorresponsetype');
  const response = type === undefined ? undefined : lookUp(RESPONSES, type);
  if (response === 'unavailable') {
    return { kind: 'token_rejected', outcome: 'failure', error: 'validation_unavailable', detail };
  }
  if (response === 'limited') return { kind: 'rate_limited', outcome: 'denied', error: type };
  const isRefused = status === 401 || status === 403;
  const reason = isRefused && detail !== undefined ? rejectionOf(detail) : undefined;
  if (reason !== undefined) {
    return { kind: 'token_rejected', outcome: 'failure', error: reason, detail, decision: 'deny' };
  }
  const verdict = verdictOf(status);
  if (response === 'denied') {
    return { kind: 'api_accessed', outcome: 'denied', error: type, detail, decision: 'deny' };
  }
  return status >= 400 ? { ...verdict, error: type, detail } : verdict;
}

const CLAIM_NAMES = [
  ...['iss', 'sub', 'aud', 'client_id', 'azp', 'scope', 'scp', 'jti', 'sid', 'exp', 'iat'],
  ...['acr', 'amr'],
];
/** Where each claim may stand: `authorizer.claims.x`, `claims.x`, or `authorizer.x` of a Lambda authorizer. */
const CLAIMS: ReadonlyMap<string, string> = new Map(
  ['authorizer', 'claims', 'authorizerclaims'].flatMap((prefix) =>
    CLAIM_NAMES.map((claim) => [`${prefix}${claim.replace('_', '')}`, claim] as const),
  ),
);

/** Claims that an authorizer passed on; `$context.authorizer.claims` itself cannot be logged as a whole. */
function claimsOf(variables: Variables): Json | undefined {
  let claims: Record<string, unknown> | undefined;
  for (const [path, value] of variables) {
    if (!path.startsWith('authorizer') && !path.startsWith('claims')) continue;
    const claim = CLAIMS.get(path);
    if (claim === undefined || value === '' || value === '-') continue;
    claims ??= {};
    claims[claim] = value;
  }
  return claims;
}

/** `GET /orders/{id}` of an HTTP API; undefined for `$default`. */
function routeKey(variables: Variables): { method?: string; path?: string } {
  const match = /^([A-Z]{1,10}) (\/\S*)$/.exec(said(variables, 'routekey') ?? '');
  return match === null ? {} : given({ method: match[1], path: match[2] });
}

/** X-Ray's ids are those of W3C in another spelling: `1-<8 digits>-<24 digits>`. */
function traceIdOf(text: string | undefined): string | undefined {
  const match = /\b1-([0-9a-f]{8})-([0-9a-f]{24})\b/i.exec(text ?? '');
  return match === null ? undefined : `${match[1] ?? ''}${match[2] ?? ''}`;
}

function instanceOf(variables: Variables): string | undefined {
  const api = said(variables, 'apiid');
  const stage = said(variables, 'stage');
  return api === undefined || stage === undefined ? api : `${api}/${stage}`;
}

function callOf(variables: Variables, time: bigint, recordId: string | undefined): GatewayCall {
  const key = routeKey(variables);
  const status = numberOf(said(variables, 'status', 'statuscode')) ?? 0;
  const type = said(variables, 'errorresponsetype');
  return {
    time,
    rawType: type ?? 'request',
    vendorEventId: said(variables, 'extendedrequestid') ?? recordId,
    instance: instanceOf(variables),
    tenant: said(variables, 'accountid'),
    method: said(variables, 'httpmethod', 'method') ?? key.method,
    url: said(variables, 'resourcepath') ?? key.path ?? said(variables, 'path'),
    host: said(variables, 'domainname'),
    status,
    durationMs: msOf(numberOf(said(variables, 'responselatency', 'latency'))),
    net: given({
      client_ip: said(variables, 'identitysourceip', 'sourceip', 'ip'),
      ip_role: 'unknown' as const,
      user_agent: said(variables, 'identityuseragent', 'useragent'),
    }),
    claims: claimsOf(variables),
    person: said(
      variables,
      'authorizerprincipalid',
      'principalid',
      'identityuser',
      'user',
      'caller',
    ),
    corr: given({
      request_id: said(variables, 'requestid'),
      trace_id: traceIdOf(said(variables, 'xraytraceid', 'traceid')),
    }),
    verdict: verdictOfResponse(variables, status),
  };
}

/** A record, or an event of CloudWatch Logs whose message is one. */
function parse(record: SourceRecord): ParseResult {
  if (record.form === 'text')
    return refuse('unsupported_form', 'text: allowed is a JSON log format');
  if (!isJson(record.value)) return refuse('not_an_object', 'record: must be a JSON object');
  const message = own(record.value, 'message');
  if (typeof message !== 'string') return parseVariables(variablesOf(record.value));
  const inner = parsedMessage(message);
  if (inner === undefined) return refuse('unrecognised_record', 'message: must hold a JSON object');
  const id = scalarText(own(record.value, 'id') ?? own(record.value, 'eventId'));
  return parseVariables(variablesOf(inner), id, own(record.value, 'timestamp'));
}

function parsedMessage(message: string): Json | undefined {
  if (!/^\s*\{/.test(message) || message.length > MESSAGE_LENGTH_MAX) return undefined;
  try {
    const value: unknown = JSON.parse(message);
    return isJson(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

function parseVariables(variables: Variables, id?: string, stamp?: unknown): ParseResult {
  const method = said(variables, 'httpmethod', 'method', 'routekey', 'resourcepath', 'path');
  if (method === undefined || said(variables, 'status', 'statuscode') === undefined) {
    return refuse(
      'unrecognised_record',
      'record: not an access log entry; status and httpMethod (or routeKey) are needed',
    );
  }
  const told = said(variables, 'requesttimeepoch', 'requesttime') ?? stamp;
  if (told === undefined) return refuse('missing_field', 'requestTimeEpoch: is required');
  const time = logTimeNs(told);
  if (time === undefined) {
    return refuse('invalid_time', `requestTimeEpoch: not a time; ${LOG_TIME_ALLOWED}`);
  }
  return { ok: true, events: [draftOfCall(callOf(variables, time, id))] };
}

/** The events of a subscription (`logEvents`), or of an answer to filter-log-events (`events`). */
function unwrap(value: unknown): readonly unknown[] | undefined {
  if (!isJson(value)) return undefined;
  if (own(value, 'messageType') === 'CONTROL_MESSAGE') return [];
  const events = own(value, 'logEvents') ?? own(value, 'events');
  return Array.isArray(events) ? (events as readonly unknown[]) : undefined;
}

/**
 * Access logs of Amazon API Gateway, REST and HTTP APIs, in a JSON format of `$context` variables. The id of the event
 * is `extendedRequestId`: a caller can choose `requestId`, and with it could make an event vanish as a repeat.
 */
export default defineSource({
  id: 'aws_api_gateway',
  title: 'Amazon API Gateway access log',
  vendor: 'aws',
  product: 'api_gateway',
  description: 'Access logs of Amazon API Gateway (REST and HTTP APIs) in a JSON format.',
  forms: ['json'],
  kinds: ['token_rejected', 'api_accessed', 'rate_limited'],
  provides: [
    ...CALL_FIELDS,
    ...CLAIM_FIELDS.filter((f) => !f.startsWith('binding')),
    ...['tokens', 'tokens.role', 'tokens.type', 'tokens.ref', 'tokens.ref_kind'],
    ...['error.code', 'error.detail', 'source.instance', 'source.tenant', 'policy.decision'],
    ...['corr.request_id', 'corr.trace_id'],
  ].filter((f) => f !== 'ext' && f !== 'net.ip_role'),
  blind_for: NO_REFRESH_TOKENS_OR_PROOFS,
  confirmed_by: 'documents',
  references: [
    'Amazon API Gateway: Variables for access logging; Access logging for REST APIs',
    'Amazon API Gateway: Gateway response types',
    'Amazon API Gateway: Troubleshooting issues with HTTP API JWT authorizers',
  ],
  unwrap,
  parse,
});
