import { defineSource, type ParseResult, type SourceRecord } from '../../model/define_source.ts';
import type { AuthEventDraft, TokenDraft } from '../../model/draft.ts';
import type { EventKind, Outcome } from '../../model/kinds.ts';
import { Secret } from '../../model/secret.ts';
import {
  CALL_FIELDS,
  draftOfCall,
  type GatewayCall,
  isPrivateAddress,
  LOG_TIME_ALLOWED,
  logTimeNs,
  msOfSeconds,
  normalisedNames,
  PRESENTED_TOKEN_FIELDS,
  saidIn,
} from './_gateway.ts';
import { given, isJson, type Json, lookUp, numberOf, own, refuse } from './_reading.ts';

/** Longest line that is taken apart, characters. */
const LINE_LENGTH_MAX = 65_536;

/** Client, id of the request (since 7.2), user, time: how lines of requests and of sign-ins begin. */
const HEAD = /^(\S{1,100}) - (?:(\S{1,128}) - )?(.{1,256}?) {1,80}\[(\d[^\]]{15,39})\] (.*)$/;
const SIGN_IN = /^\[(Auth[A-Za-z]{1,20})\] (.*)$/;
/** Host, method, upstream, URI, protocol, agent, status, bytes, seconds. A line may be cut after the agent. */
const REQUEST =
  /^(\S+) ([A-Z]{1,20}) (\S+) "((?:[^"\\]|\\.)*)" {1,80}HTTP\/[\d.]+ "((?:[^"\\]|\\.)*)"(?: (\d{3}) \d+ (\d+\.\d+))?$/;
/** What the program says for itself. */
const STANDARD = /^\[(\d[^\]]{15,39})\] \[([^\]]{1,80})\] (.*)$/;

/** A line of any kind, by the names of the templates of oauth2-proxy, in lower case. */
type Line = Readonly<Record<string, string | undefined>>;

function readLine(text: string): Line | undefined {
  const standard = STANDARD.exec(text);
  if (standard !== null) {
    return { timestamp: standard[1], file: standard[2], message: standard[3] };
  }
  const head = HEAD.exec(text);
  if (head === null) return undefined;
  const [, client, requestid, username, timestamp, rest = ''] = head;
  const who = { client, requestid, username: username?.trim(), timestamp };
  const signIn = SIGN_IN.exec(rest);
  if (signIn !== null) return { ...who, status: signIn[1], message: signIn[2] };
  const request = REQUEST.exec(rest);
  if (request === null) return undefined;
  const [, host, requestmethod, upstream, requesturi, useragent, statuscode, duration] = request;
  const asked = { host, requestmethod, upstream, requesturi, useragent };
  return { ...who, ...asked, statuscode, requestduration: duration };
}

const MEMBERS = [
  ...['client', 'requestid', 'username', 'timestamp', 'status', 'message', 'file', 'host'],
  ...['requestmethod', 'upstream', 'requesturi', 'useragent', 'statuscode', 'requestduration'],
];

/** The names of the templates, with or without `_` between the words. */
function readJson(value: Json): Line | undefined {
  const record = normalisedNames(value);
  const plain: Record<string, unknown> = Object.create(null) as Record<string, unknown>;
  for (const name of Object.keys(record)) plain[name.replaceAll('_', '')] = record[name];
  const line = Object.fromEntries(MEMBERS.map((name) => [name, saidIn(plain, name)]));
  const isSignIn = line['status']?.startsWith('Auth') === true;
  const isRequest = line['requestmethod'] !== undefined && line['statuscode'] !== undefined;
  const isStandard = line['file'] !== undefined && line['message'] !== undefined;
  return isSignIn || isRequest || isStandard ? line : undefined;
}

const said = (text: string | undefined): string | undefined =>
  text === '-' || text === '' ? undefined : text;

const subjectOf = (line: Line): AuthEventDraft['subject'] => {
  const id = said(line['username']);
  return id === undefined ? undefined : { id, type: 'user' };
};

/** Whose browser it is, where the address is nobody's proxy. */
function netOf(line: Line): AuthEventDraft['net'] {
  const client = said(line['client']);
  const outside = client !== undefined && !isPrivateAddress(client);
  return given({
    client_ip: client,
    ip_role: outside ? ('end_user' as const) : ('unknown' as const),
    user_agent: said(line['useragent']),
  });
}

interface Meaning {
  readonly kind: EventKind;
  readonly outcome: Outcome;
  readonly code?: string;
}

/** Why a sign-in was refused; the first that fits counts. */
const FAILURES: readonly (readonly [words: RegExp, meaning: Meaning])[] = [
  [/removing session/i, { kind: 'session_revoked', outcome: 'success' }],
  [
    /CSRF (?:token|cookie) mismatch/i,
    { kind: 'login_failed', outcome: 'failure', code: 'csrf_mismatch' },
  ],
  [/CSRF cookie/i, { kind: 'login_failed', outcome: 'failure', code: 'cookie_not_found' }],
  [/: unauthorized/i, { kind: 'login_failed', outcome: 'denied', code: 'unauthorized' }],
  [/htpasswd/i, { kind: 'login_failed', outcome: 'failure', code: 'invalid_user_credentials' }],
];

function meaningOf(status: string, message: string): Meaning {
  if (status === 'AuthSuccess') return { kind: 'login', outcome: 'success' };
  if (status === 'AuthError')
    return { kind: 'login_failed', outcome: 'failure', code: 'auth_error' };
  if (status !== 'AuthFailure') return { kind: 'unclassified', outcome: 'unknown' };
  const known = FAILURES.find(([words]) => words.test(message))?.[1];
  return known ?? { kind: 'login_failed', outcome: 'failure', code: 'auth_failure' };
}

function methodOf(message: string): string | undefined {
  if (/via OAuth2\b/i.test(message)) return 'oauth2';
  return /htpasswd/i.test(message) ? 'htpasswd' : undefined;
}

/** The session that a message ends with is left out: it holds names and addresses of mail. */
function signInOf(line: Line, time: bigint): AuthEventDraft {
  const status = line['status'] ?? '';
  const message = line['message'] ?? '';
  const { kind, outcome, code } = meaningOf(status, message);
  return given({
    kind,
    time,
    raw_type: status,
    outcome,
    error: code === undefined ? undefined : { code },
    subject: subjectOf(line),
    resource: said(line['host']) === undefined ? undefined : [line['host'] ?? ''],
    net: netOf(line),
    corr: given({ request_id: said(line['requestid']) }),
    ext: given({ login_method: methodOf(message) }),
  });
}

/** What the program answers itself, below its prefix (`--proxy-prefix`, by default `/oauth2`). */
const ENDPOINTS: Readonly<Record<string, string>> = {
  start: 'sign_in',
  sign_in: 'sign_in',
  callback: 'callback',
  sign_out: 'end_session',
  auth: 'auth',
  userinfo: 'session',
};

function endpointOf(uri: string): string | undefined {
  const name = /^\/oauth2\/([a-z_]{1,20})(?:[?#]|$)/.exec(uri)?.[1];
  return name === undefined ? undefined : lookUp(ENDPOINTS, name);
}

/** The code that the browser brings back (RFC 6749 section 4.1.2), to become a reference. */
function codeOf(uri: string): TokenDraft | undefined {
  const value = /[?&]code=([^&#\s]{1,4096})/.exec(uri)?.[1];
  return value === undefined
    ? undefined
    : { role: 'presented', type: 'code', secret: new Secret(value) };
}

function requestOf(line: Line, time: bigint): AuthEventDraft {
  const uri = line['requesturi'] ?? '';
  const status = numberOf(line['statuscode']);
  const endpoint = endpointOf(uri);
  const call: GatewayCall = {
    time,
    rawType: 'request',
    method: line['requestmethod'],
    url: uri,
    host: said(line['host']),
    status,
    durationMs: msOfSeconds(numberOf(line['requestduration'])),
    net: netOf(line),
    corr: given({ request_id: said(line['requestid']) }),
    ext: { upstream: said(line['upstream']) },
  };
  const draft = draftOfCall(call);
  const code = endpoint === 'callback' ? codeOf(uri) : undefined;
  const isSignedOut = endpoint === 'end_session' && draft.outcome === 'success';
  return {
    ...draft,
    ...given({ subject: subjectOf(line), endpoint }),
    ...(code === undefined ? {} : { tokens: [code] }),
    ...(isSignedOut ? { kind: 'session_ended' } : {}),
  };
}

/** Errors of the callback, which no line of a sign-in follows. All else that the program says is of no kind. */
function standardOf(line: Line, time: bigint): AuthEventDraft {
  const message = line['message'] ?? '';
  const refused = /^Error while parsing OAuth2 callback: ([a-z_]{1,40})\b/.exec(message)?.[1];
  const failed = { time, raw_type: 'standard', kind: 'login_failed', outcome: 'failure' } as const;
  if (refused !== undefined) {
    const outcome = refused === 'access_denied' ? 'denied' : 'failure';
    return { ...failed, outcome, error: { code: refused, oauth_error: refused } };
  }
  if (message.startsWith('Error redeeming code during OAuth2 callback')) {
    return { ...failed, error: { code: 'code_redemption_failed' } };
  }
  return { kind: 'unclassified', time, raw_type: 'standard', outcome: 'unknown' };
}

function draftOf(line: Line, time: bigint): AuthEventDraft {
  if (line['status'] !== undefined) return signInOf(line, time);
  return line['requestmethod'] === undefined ? standardOf(line, time) : requestOf(line, time);
}

function parse(record: SourceRecord): ParseResult {
  if (record.form === 'text' && record.line.length > LINE_LENGTH_MAX) {
    return refuse('too_large', `line: longer than ${LINE_LENGTH_MAX} characters`);
  }
  if (record.form === 'json' && !isJson(record.value)) {
    return refuse('not_an_object', 'record: must be a JSON object');
  }
  const line = record.form === 'text' ? readLine(record.line) : ofJson(record.value as Json);
  if (line === undefined) {
    return refuse(
      'unrecognised_record',
      'record: no line of oauth2-proxy; the default formats or their names in JSON are needed',
    );
  }
  const stamp = line['timestamp'];
  if (stamp === undefined) return refuse('missing_field', 'Timestamp: is required');
  const time = logTimeNs(stamp);
  if (time === undefined)
    return refuse('invalid_time', `Timestamp: not a time; ${LOG_TIME_ALLOWED}`);
  return { ok: true, events: [draftOf(line, time)] };
}

/** Shippers wrap the line that they read; a message of the program's own JSON has a timestamp beside it. */
function ofJson(value: Json): Line | undefined {
  const line = readJson(value);
  if (line !== undefined) return line;
  const message = own(value, 'message');
  const isLine = typeof message === 'string' && message.length <= LINE_LENGTH_MAX;
  return isLine ? readLine(message) : undefined;
}

/**
 * Lines of oauth2-proxy: requests, sign-ins and what it says for itself, in its default formats or in JSON templates.
 * Times have no zone and are taken as UTC. It tells the relying party's side: who signed in, not what was issued.
 */
export default defineSource({
  id: 'oauth2_proxy',
  title: 'OAuth2 Proxy',
  vendor: 'oauth2_proxy',
  product: 'oauth2_proxy',
  description:
    'Requests and sign-ins of oauth2-proxy: lines of its default formats, or JSON templates.',
  forms: ['json', 'text'],
  kinds: [
    'token_rejected',
    'login',
    'login_failed',
    'session_ended',
    'session_revoked',
    'api_accessed',
    'rate_limited',
    'unclassified',
  ],
  provides: [
    ...CALL_FIELDS,
    ...PRESENTED_TOKEN_FIELDS,
    ...['error.code', 'error.oauth_error', 'endpoint', 'subject.ref', 'subject.type'],
    'corr.request_id',
  ],
  blind_for: {
    refresh_family_fork: 'refresh tokens are not logged',
    refresh_token_reuse: 'refresh tokens are not logged',
  },
  confirmed_by: 'real_samples',
  references: [
    'OAuth2 Proxy: Configuration, logging',
    'OAuth2 Proxy: pkg/logger/logger.go, oauthproxy.go',
    'RFC 6749 section 4.1.2',
  ],
  parse,
});
