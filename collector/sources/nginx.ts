import { defineSource, type ParseResult, type SourceRecord } from '../../model/define_source.ts';
import type { AuthEventDraft } from '../../model/draft.ts';
import {
  CALL_FIELDS,
  callerOf,
  CHALLENGE_FIELDS,
  draftOfCall,
  LOG_TIME_ALLOWED,
  logTimeNs,
  msOfSeconds,
  normalisedNames,
  PRESENTED_TOKEN_FIELDS,
  NO_REFRESH_TOKENS,
} from './_gateway.ts';
import { CLAIM_FIELDS } from './_jwt_claims.ts';
import {
  callOfVariables,
  requestLine,
  statusOfVariables,
  timeOfVariables,
} from './_nginx_variables.ts';
import { given, isJson, type Json, numberOf, own, refuse } from './_reading.ts';

/** Longest line that is taken apart, characters. */
const LINE_LENGTH_MAX = 65_536;

/**
 * `combined`: address, identity, user, time, request line, status, bytes, referrer, agent. A name of the virtual
 * host may stand before; nginx writes quotes within values as `\x22`.
 */
const COMBINED =
  /^\s?(?:(\S+) )?(\S+) - (\S+|[^[\]"]{1,256}) \[([^\]]{20,32})\] "([^"]*)" (\d{3}) (?:\d+|-)(?: "([^"]*)" "([^"]*)")?(.*)$/;
/** What the default format of the packages of nginx.org adds: `"$http_x_forwarded_for"`. */
const FORWARDED = /^ "([0-9a-fA-F:., ]{2,200}|-)"/;
/** What the ingress controller of Kubernetes adds: length, seconds, upstreams, the id of the request. */
const INGRESS = /^ \d+ (\d+\.\d+) \[[^\]]*\] \[[^\]]*\] .* ([0-9a-f]{32})$/;
/** A line of the error log. */
const ERROR_LOG = /^(\d{4}\/\d{2}\/\d{2} \d{2}:\d{2}:\d{2}) \[([a-z]{1,10})\] \d+#\d+: /;

/** nginx writes bytes of a value that could end it as `\xHH`. */
function unescaped(text: string | undefined): string | undefined {
  if (text === undefined || text === '-' || text === '') return undefined;
  return text.replaceAll(/\\x([0-9A-F]{2})/g, (_, hex: string) =>
    String.fromCharCode(Number.parseInt(hex, 16)),
  );
}

function parseLine(line: string): ParseResult {
  if (line.length > LINE_LENGTH_MAX) {
    return refuse('too_large', `line: longer than ${LINE_LENGTH_MAX} characters`);
  }
  const match = COMBINED.exec(line);
  if (match === null) return parseErrorLine(line);
  const [, host, peer, user, stamp, request, status, , agent, rest = ''] = match;
  const time = logTimeNs(stamp);
  if (time === undefined) return refuse('invalid_time', `time: not a time; ${LOG_TIME_ALLOWED}`);
  const ingress = INGRESS.exec(rest);
  return accepted({
    ...requestLine(unescaped(request)),
    time,
    rawType: 'access',
    host,
    status: Number(status),
    durationMs: msOfSeconds(numberOf(ingress?.[1])),
    net: callerOf(peer, unescaped(FORWARDED.exec(rest)?.[1]), unescaped(agent)),
    person: unescaped(user),
    corr: given({ request_id: ingress?.[2] }),
  });
}

const accepted = (call: Parameters<typeof draftOfCall>[0]): ParseResult => ({
  ok: true,
  events: [draftOfCall(call)],
});

/** The message is left out: it repeats what the access log says of a request, or is no matter of OAuth. */
function parseErrorLine(line: string): ParseResult {
  const match = ERROR_LOG.exec(line);
  if (match === null) {
    return refuse(
      'unrecognised_record',
      'line: no access log entry; combined format or JSON is needed',
    );
  }
  const time = logTimeNs(match[1]);
  if (time === undefined) return refuse('invalid_time', `time: not a time; ${LOG_TIME_ALLOWED}`);
  const client = / client: ([0-9a-fA-F:.]{2,45})(?:,|$)/.exec(line)?.[1];
  const event: AuthEventDraft = {
    kind: 'unclassified',
    time,
    raw_type: `error.${match[2] ?? ''}`,
    outcome: 'unknown',
    ...(client === undefined ? {} : { net: { client_ip: client, ip_role: 'unknown' } }),
  };
  return { ok: true, events: [event] };
}

function parseVariables(value: Json): ParseResult {
  const record = normalisedNames(value);
  // Present, if empty: a request that could not be read has none of them.
  const isNamed = ['request', 'request_uri', 'uri', 'path'].some((m) => Object.hasOwn(record, m));
  if (statusOfVariables(record) === undefined || !isNamed) {
    return refuse(
      'unrecognised_record',
      'record: not an access log entry; status and request_uri (or request) are needed',
    );
  }
  const time = timeOfVariables(record);
  if (time === undefined) return refuse('missing_field', 'msec: is required (or time_iso8601)');
  if (time === null) return refuse('invalid_time', `msec: not a time; ${LOG_TIME_ALLOWED}`);
  return accepted({ ...callOfVariables(record, time), rawType: 'access' });
}

function parse(record: SourceRecord): ParseResult {
  if (record.form === 'text') return parseLine(record.line);
  if (!isJson(record.value)) return refuse('not_an_object', 'record: must be a JSON object');
  const message = own(record.value, 'message');
  // Shippers wrap the line that they read.
  if (typeof message === 'string' && own(record.value, 'status') === undefined) {
    return parseMessage(message);
  }
  return parseVariables(record.value);
}

function parseMessage(message: string): ParseResult {
  if (!message.startsWith('{') || message.length > LINE_LENGTH_MAX) return parseLine(message);
  try {
    const inner: unknown = JSON.parse(message);
    if (isJson(inner)) return parseVariables(inner);
  } catch {
    // No JSON after all: a line, which says why it is refused.
  }
  return parseLine(message);
}

/**
 * nginx access logs: JSON by a log_format that names nginx's variables (docs/sources/nginx.md), and the combined
 * format with the usual additions. The time is when the answer was finished.
 */
export default defineSource({
  id: 'nginx',
  title: 'NGINX access log',
  vendor: 'nginx',
  product: 'nginx',
  description:
    'Access logs of NGINX, OpenResty and ingress-nginx: JSON by a log_format, or combined lines.',
  forms: ['json', 'text'],
  kinds: ['token_rejected', 'api_accessed', 'rate_limited', 'unclassified'],
  provides: [
    ...CALL_FIELDS,
    ...CHALLENGE_FIELDS,
    ...CLAIM_FIELDS,
    ...PRESENTED_TOKEN_FIELDS,
    ...['source.instance', 'corr.request_id', 'corr.trace_id', 'corr.span_id'],
  ],
  blind_for: NO_REFRESH_TOKENS,
  confirmed_by: 'real_server',
  references: [
    'nginx: ngx_http_log_module (log_format, escape=json), alphabetical index of variables',
    'nginx: ngx_http_limit_req_module ($limit_req_status)',
    'RFC 6750 sections 2.3 and 3',
  ],
  parse,
});
