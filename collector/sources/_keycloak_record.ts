import { isJson, type Json, objectIn, own, scalarText, textIn, timeNs } from './_reading.ts';

/** Longest line that is taken apart, characters. */
export const LINE_LENGTH_MAX = 65_536;
/** Pairs read from one line. */
const PAIRS_MAX = 100;

/** A Keycloak event whatever form it came in. */
export interface KeycloakRecord {
  readonly time: bigint | undefined;
  /** True where a time was given, readable or not. */
  readonly timeGiven: boolean;
  readonly id?: string | undefined;
  readonly instance?: string | undefined;
  /** `LOGIN_ERROR`, or '' for an admin event. */
  readonly type: string;
  /** `CREATE`, `UPDATE`, `DELETE`, `ACTION` for an admin event, else ''. */
  readonly operation: string;
  /** Everything else by its name: realmId, clientId, userId, sessionId, ipAddress, error, details. */
  readonly fields: ReadonlyMap<string, string>;
  /** What an admin changed, where the listener includes it. */
  readonly representation?: Json | undefined;
  readonly traceId?: string | undefined;
  readonly spanId?: string | undefined;
}

const LOG_TIME = /^\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}:\d{2}(?:[.,]\d{1,9})?(?:Z|[+-]\d{2}:?\d{2})?/;

/** A line of Keycloak's log; undefined where it holds no event. */
export function readLine(line: string): KeycloakRecord | undefined {
  const start = line.search(/\b(?:type|operationType)=/);
  if (start < 0) return undefined;
  // Some shippers escape the whole line once more, as JSON would.
  const isEscaped = /^\w+=\\"/.test(line.slice(start, start + 16));
  const pairs = isEscaped ? line.slice(start).replace(/\\(["\\])/g, '$1') : line.slice(start);
  const fields = readPairs(pairs, 0);
  const stamp = LOG_TIME.exec(line.trimStart())?.[0];
  return fromFields(fields, {
    time: timeNs(stamp),
    timeGiven: stamp !== undefined,
    representation: representationOf(fields.get('representation')),
  });
}

function fromFields(
  fields: ReadonlyMap<string, string>,
  rest: Omit<KeycloakRecord, 'type' | 'operation' | 'fields'>,
): KeycloakRecord | undefined {
  const operation = fields.get('operationType') ?? '';
  const type = operation === '' ? (fields.get('type') ?? '') : '';
  return type === '' && operation === '' ? undefined : { type, operation, fields, ...rest };
}

/**
 * `k=v, k="v", k='v'`. An unquoted value may hold spaces and commas: it ends where `, name=` begins. The
 * first value of a name counts, so that a user name such as `x, type=LOGIN` cannot rewrite the event.
 */
function readPairs(text: string, start: number): Map<string, string> {
  const fields = new Map<string, string>();
  const name = /[A-Za-z][A-Za-z0-9_.-]{0,63}=/y;
  let at = start;
  while (fields.size < PAIRS_MAX) {
    name.lastIndex = at;
    const key = name.exec(text)?.[0];
    if (key === undefined) break;
    const from = at + key.length;
    const { value, end } = readValue(text, from);
    const field = key.slice(0, -1);
    if (!fields.has(field)) fields.set(field, value);
    const comma = text.indexOf(',', end);
    if (comma < 0) break;
    at = comma + 1;
    while (text[at] === ' ') at += 1;
  }
  return fields;
}

function readValue(text: string, from: number): { value: string; end: number } {
  const quote = text[from];
  if (quote === '"' || quote === "'") {
    const end = closingQuote(text, from, quote);
    return { value: text.slice(from + 1, end).replaceAll(`\\${quote}`, quote), end: end + 1 };
  }
  const name = /[A-Za-z][A-Za-z0-9_.-]{0,63}=/y;
  let end = text.indexOf(', ', from);
  while (end >= 0) {
    name.lastIndex = end + 2;
    if (name.test(text)) break;
    end = text.indexOf(', ', end + 2);
  }
  const last = end < 0 ? text.length : end;
  return { value: text.slice(from, last), end: last };
}

/**
 * The quote that ends a value stands before a comma or at the end of the line. Keycloak escapes quotes, but not
 * backslashes: a quote behind a backslash is the last one only where the next pair follows, whose own quote is bare.
 */
function closingQuote(text: string, open: number, quote: string): number {
  const nextPair = /, [A-Za-z][A-Za-z0-9_.-]{0,63}=["']/y;
  let end = text.indexOf(quote, open + 1);
  while (end >= 0) {
    const next = text[end + 1];
    if (next === undefined || next === '\r' || next === '\n') return end;
    if (next === ',') {
      nextPair.lastIndex = end + 1;
      if (text[end - 1] !== '\\' || nextPair.test(text)) return end;
    }
    end = text.indexOf(quote, end + 1);
  }
  return text.length;
}

/** A JSON record: console log (ECS or Quarkus), or an event as a webhook posts it. */
export function readJson(value: Json): KeycloakRecord | undefined {
  const message = textIn(value, 'message');
  if (message !== undefined && /\b(?:type|operationType)=/.test(message.slice(0, 1_024))) {
    return readConsole(value, message);
  }
  return readWebhook(value);
}

function readConsole(value: Json, message: string): KeycloakRecord | undefined {
  const inner = readLine(message.slice(0, LINE_LENGTH_MAX));
  if (inner === undefined) return undefined;
  const stamp = own(value, '@timestamp') ?? own(value, 'timestamp');
  const mdc = objectIn(value, 'mdc');
  return {
    ...inner,
    time: timeNs(stamp),
    timeGiven: stamp !== undefined,
    instance:
      textIn(value, 'host.hostname', 'hostName') ??
      textIn(objectIn(value, 'host'), 'hostname', 'name'),
    traceId: textIn(value, 'trace.id') ?? textIn(mdc, 'traceId', 'trace_id'),
    spanId: textIn(value, 'span.id') ?? textIn(mdc, 'spanId', 'span_id'),
  };
}

function readWebhook(value: Json): KeycloakRecord | undefined {
  const fields = new Map<string, string>();
  const keep = (name: string, ...names: string[]): void => {
    const text = textIn(value, ...names);
    if (text !== undefined) fields.set(name, text);
  };
  // Some listeners put the class before the type: `access.LOGIN`, `admin.CLIENT-CREATE`.
  const type = textIn(value, 'eventType', 'type')?.replace(/^(?:access|admin)\./, '');
  if (type !== undefined) fields.set('type', type);
  for (const name of ['operationType', 'resourceType', 'resourcePath', 'realmId', 'realmName']) {
    keep(name, name);
  }
  for (const name of ['clientId', 'userId', 'sessionId', 'ipAddress', 'error']) keep(name, name);
  for (const name of ['authDetails', 'auth']) {
    const auth = objectIn(value, name);
    for (const field of ['realmId', 'realmName', 'clientId', 'userId', 'ipAddress', 'sessionId']) {
      const text = textIn(auth, field);
      if (text !== undefined && !fields.has(field)) fields.set(field, text);
    }
  }
  for (const [name, detail] of Object.entries(objectIn(value, 'details')).slice(0, PAIRS_MAX)) {
    const text = scalarText(detail);
    if (text !== undefined && !fields.has(name)) fields.set(name, text);
  }
  const stamp = own(value, 'time') ?? own(value, 'timestamp') ?? own(value, '@timestamp');
  return fromFields(fields, {
    time: timeNs(stamp),
    timeGiven: stamp !== undefined,
    id: textIn(value, 'eventId', 'id', 'uid'),
    representation: representationOf(own(value, 'representation')),
  });
}

function representationOf(value: unknown): Json | undefined {
  if (isJson(value)) return value;
  if (typeof value !== 'string' || !value.startsWith('{') || value.length > LINE_LENGTH_MAX) {
    return undefined;
  }
  try {
    const parsed: unknown = JSON.parse(value);
    return isJson(parsed) ? parsed : undefined;
  } catch {
    return undefined;
  }
}
