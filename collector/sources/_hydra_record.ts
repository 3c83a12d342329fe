import {
  isJson,
  type Json,
  numberOf,
  objectIn,
  own,
  textIn,
  textList,
  timeNs,
} from './_reading.ts';

/** Longest line that is taken apart, characters. */
export const LINE_LENGTH_MAX = 65_536;

interface HydraError {
  readonly name?: string | undefined;
  readonly reason?: string | undefined;
}

/** One record of Hydra's log, whatever its format. */
export interface HydraRecord {
  readonly stamp: unknown;
  readonly time: bigint | undefined;
  /** `completed handling request`, `access denied`, `An error occurred`, or the name of an event. */
  readonly message: string;
  readonly method?: string | undefined;
  readonly path?: string | undefined;
  /** The raw query; undefined where Hydra left it out or masked it. */
  readonly query?: string | undefined;
  readonly host?: string | undefined;
  readonly remote?: string | undefined;
  readonly forwarded?: string | undefined;
  readonly userAgent?: string | undefined;
  readonly status?: number | undefined;
  readonly tookMs?: number | undefined;
  readonly error?: HydraError | undefined;
  readonly requestId?: string | undefined;
  readonly traceId?: string | undefined;
  readonly spanId?: string | undefined;
  /** True where Hydra had masked a value. */
  readonly masked: boolean;
  /** Attributes of an event; undefined for a log record. */
  readonly event?: Json | undefined;
}

const MASK = 'Value is sensitive and has been redacted';

function unmasked(text: string | undefined): string | undefined {
  const isNone = text === undefined || text === '' || text === '<nil>' || text.startsWith(MASK);
  return isNone ? undefined : text;
}

/** JSON: a log record, or an event of the traces with its attributes. */
export function readObject(value: Json): HydraRecord | undefined {
  const message = textIn(value, 'msg', 'message');
  if (message === undefined) return readEvent(value);
  const request = objectIn(value, 'http_request');
  const headers = objectIn(request, 'headers');
  const response = objectIn(value, 'http_response');
  const otel = objectIn(value, 'otel');
  const took = numberOf(own(response, 'took'));
  const stamp = own(value, 'time') ?? own(value, '@timestamp');
  const masked = [textIn(request, 'query'), ...Object.values(headers)].some(
    (v) => typeof v === 'string' && v.startsWith(MASK),
  );
  return {
    stamp,
    time: timeNs(stamp),
    message,
    masked,
    method: textIn(request, 'method'),
    path: textIn(request, 'path'),
    query: unmasked(textIn(request, 'query')),
    host: textIn(request, 'host'),
    remote: textIn(request, 'remote'),
    forwarded: textList(own(headers, 'x-forwarded-for'))?.[0],
    userAgent: textList(own(headers, 'user-agent'))?.[0],
    status: numberOf(own(response, 'status')),
    // A Go duration, ns.
    tookMs: took === undefined ? undefined : took / 1e6,
    error: errorIn(own(value, 'error')),
    traceId: textIn(otel, 'trace_id'),
    spanId: textIn(otel, 'span_id'),
  };
}

function errorIn(error: unknown): HydraRecord['error'] {
  if (typeof error === 'string') return { name: error };
  if (!isJson(error)) return undefined;
  return { name: textIn(error, 'message'), reason: textIn(error, 'reason') };
}

function readEvent(value: Json): HydraRecord | undefined {
  const name = textIn(value, 'name', 'event', 'event_name');
  const event = own(value, 'attributes');
  if (name === undefined || !isJson(event)) return undefined;
  const stamp = own(value, 'time_unix_nano') ?? own(value, 'timestamp') ?? own(value, 'time');
  return {
    ...{ stamp, time: timeNs(stamp), message: name, masked: false, event },
    traceId: textIn(value, 'trace_id', 'traceId'),
    spanId: textIn(value, 'span_id', 'spanId'),
  };
}

/** A line of the text format: quoted values (before 1.5), or maps as Go prints them, without quotes. */
export function readLine(line: string): HydraRecord | undefined {
  const stamp = /(?:^|\s)time="?([^"\s]{10,40})/.exec(line.slice(0, 400))?.[1];
  const isMap = line.includes('=map[') || /\smsg=[^"]/.test(line.slice(0, 400));
  const read = isMap ? readMaps(line) : readQuoted(line);
  if (read.message === '') return undefined;
  return { ...read, stamp, time: timeNs(stamp), masked: line.includes(MASK) };
}

type Facts = Omit<HydraRecord, 'stamp' | 'time' | 'masked'>;

/** `name=value name="va lue"`: the first value of a name counts. */
function readQuoted(line: string): Facts {
  const fields = new Map<string, string>();
  const pair = /(?:^|\s)([A-Za-z_][\w.]{0,63})=(?:"((?:[^"\\]|\\.)*)"|([^\s"]\S*|))/g;
  for (const [, name = '', quoted, plain] of line.matchAll(pair)) {
    if (fields.size < 100 && !fields.has(name)) fields.set(name, quoted ?? plain ?? '');
  }
  const [path, query] = (fields.get('request') ?? '').split('?', 2);
  return {
    message: fields.get('msg') ?? '',
    method: fields.get('method'),
    path: path === '' ? undefined : path,
    query,
    remote: fields.get('remote'),
    status: numberOf(fields.get('status')),
    tookMs: durationMs(fields.get('took')),
    ...(fields.has('error')
      ? { error: { name: fields.get('error'), reason: fields.get('description') } }
      : {}),
    requestId: fields.get('request_id'),
  };
}

const NAMES =
  '(?:audience|error|file|func|http_request|http_response|level|msg|otel|service_name|service_version)';

/** The value of a name up to the next one that Hydra writes. */
function section(line: string, name: string): string {
  const start = line.indexOf(` ${name}=`);
  if (start < 0) return '';
  const from = start + name.length + 2;
  const rest = line.slice(from);
  const end = rest.search(new RegExp(` ${NAMES}=`));
  return end < 0 ? rest.trim() : rest.slice(0, end);
}

/** Neither a query nor the mask in its place can hold what follows it: the last such run is the request's own. */
const REQUEST_END =
  / host:(\S*) method:([A-Z]+) path:(\S*) query:(Value is sensitive[A-Za-z ."=_]{0,250}|\S*) remote:(\S*) scheme:\w+\](?: otel=\S*)?$/;

/**
 * Go prints maps by sorted keys, so that in a request what a client chose freely (headers) stands first. The rest is
 * read from the end, where a header cannot reach.
 */
function readMaps(line: string): Facts {
  const from = line.indexOf(' http_request=map[');
  const answer = line.lastIndexOf(' http_response=map[');
  const service = line.lastIndexOf(' service_name=');
  const until = answer > from ? answer : service > from ? service : line.length;
  const request = from < 0 ? '' : line.slice(from, until).trimEnd();
  const tail = REQUEST_END.exec(request);
  const response = answer < 0 ? '' : line.slice(answer);
  const outcome = / status:(\d{3}) text_status:[A-Za-z' -]{0,40} took:([\d.]+[a-zµ]+)/.exec(
    response,
  );
  const head = from < 0 ? line : line.slice(0, from);
  const error = section(head, 'error');
  return {
    message: section(head, 'msg'),
    host: tail?.[1],
    method: tail?.[2],
    path: tail?.[3],
    query: unmasked(tail?.[4]),
    remote: tail?.[5],
    forwarded: / x-forwarded-for:([\d.:a-f]{3,45})/i.exec(request)?.[1],
    userAgent: / user-agent:(.{1,512}?)(?: [a-z][a-z0-9-]{1,40}:|\] host:)/.exec(request)?.[1],
    status: numberOf(outcome?.[1]),
    tookMs: durationMs(outcome?.[2]),
    error: error === '' ? undefined : mapError(error),
  };
}

function mapError(text: string): HydraError {
  const part = (name: string): string | undefined => {
    const expression = new RegExp(
      `[[ ]${name}:(.*?)(?: (?:reason|stack_trace|status|status_code|trace):|\\]$)`,
    );
    return expression.exec(text.slice(0, 8_192))?.[1];
  };
  return { name: part('message'), reason: part('reason') };
}

const UNITS_MS: Readonly<Record<string, number>> = {
  ns: 1e-6,
  µs: 1e-3,
  us: 1e-3,
  ms: 1,
  s: 1_000,
};

/** A Go duration of one unit, such as `10.2ms`. */
function durationMs(text: string | undefined): number | undefined {
  const [, digits = '', unit = ''] =
    /^(\d{1,12}(?:\.\d{1,12})?)(ns|µs|us|ms|s)$/.exec(text ?? '') ?? [];
  const factor = UNITS_MS[unit];
  return factor === undefined ? undefined : Number((Number(digits) * factor).toFixed(6));
}
