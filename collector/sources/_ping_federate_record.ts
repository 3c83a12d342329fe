import { type Json, lookUp, own, scalarText, timeNs } from './_reading.ts';

/** Longest line that is taken apart, characters. */
export const LINE_LENGTH_MAX = 65_536;
/** Pairs read from one line. */
const PAIRS_MAX = 100;

/** One line of PingFederate's audit log, whatever its pattern. */
export interface PingRecord {
  /** By the names of the audit log's fields: event, subject, connectionid, status ... */
  readonly fields: ReadonlyMap<string, string>;
  /** The time as it was written; '' where there is none. */
  readonly stamp: string;
  readonly time: bigint | undefined;
}

const LOG_TIME = /^\d{4}-\d{2}-\d{2}[T ]\d{1,2}:\d{2}:\d{2}(?:[.,]\d{1,9})?(?:Z|[+-]\d{2}:?\d{2})?/;

/** A line in one of the three patterns: `name="value"` (Splunk), CEF, or columns between bars (the default). */
export function readLine(line: string): PingRecord | undefined {
  const cef = line.indexOf('CEF:');
  if (cef >= 0 && cef <= 200) return readCef(line.slice(cef));
  const text = line.trimStart();
  const stamp = LOG_TIME.exec(text)?.[0] ?? '';
  const rest = text.slice(stamp.length);
  const fields = /^\s{0,4}\|/.test(rest) ? readColumns(rest) : readPairs(rest);
  return recordOf(fields, stamp);
}

/** A line as a shipper wraps it, or the fields by their names. */
export function readObject(value: Json): PingRecord | undefined {
  for (const name of ['message', 'raw', 'log', '_raw']) {
    const text = own(value, name);
    if (typeof text === 'string') return readLine(text.slice(0, LINE_LENGTH_MAX));
  }
  const fields = new Map<string, string>();
  for (const [name, member] of Object.entries(value).slice(0, PAIRS_MAX)) {
    const text = scalarText(member);
    if (text !== undefined) fields.set(name.toLowerCase(), text);
  }
  const stamp = fields.get('timestamp') ?? fields.get('@timestamp') ?? fields.get('time') ?? '';
  return recordOf(fields, stamp);
}

function recordOf(fields: ReadonlyMap<string, string>, stamp: string): PingRecord | undefined {
  const isAudit = ['trackingid', 'protocol', 'status'].some((name) => fields.has(name));
  if (!isAudit || (fields.get('event') ?? '') === '') return undefined;
  return {
    fields,
    stamp,
    time: stamp === '' ? undefined : (timeNs(padded(stamp)) ?? cefTime(stamp)),
  };
}

/** The hour may stand without its zero. */
const padded = (stamp: string): string => stamp.replace(/^(\S{10}[T ])(\d:)/, '$10$2');

/** The first value of a name counts: what a person puts into their name cannot rewrite what stood before. */
function readPairs(text: string): Map<string, string> {
  const fields = new Map<string, string>();
  const pair = /([A-Za-z][\w.-]{0,63})=(?:"([^"]*)"|(\S*))/g;
  for (const [, name = '', quoted, plain] of text.matchAll(pair)) {
    if (fields.size >= PAIRS_MAX) break;
    const key = name.toLowerCase();
    if (!fields.has(key)) fields.set(key, quoted ?? plain ?? '');
  }
  return fields;
}

/** The default pattern; newer versions have the transaction's id after the tracking id. */
const COLUMNS = [
  ...['event', 'subject', 'ip', 'app', 'connectionid', 'protocol', 'host', 'role', 'status'],
  ...['adapterid', 'description', 'responsetime'],
];
const EVENT_NAME = /^(?:OAuth|[A-Z][A-Z0-9]{1,20}(?:_[A-Z0-9]{1,20}){0,5})$/;

function readColumns(rest: string): Map<string, string> {
  const [, tracking = '', ...columns] = rest.split('|', 24).map((c) => c.trim());
  const hasTransaction = !EVENT_NAME.test(columns[0] ?? '') && EVENT_NAME.test(columns[1] ?? '');
  const named = hasTransaction ? ['transactionid', ...COLUMNS] : COLUMNS;
  const fields = new Map([['trackingid', tracking]]);
  if (columns.length < COLUMNS.length - 2) return fields;
  if (!EVENT_NAME.test(columns[hasTransaction ? 1 : 0] ?? '')) return fields;
  for (const [i, name] of named.entries()) fields.set(name, columns[i] ?? '');
  return fields;
}

/** Extension names of the CEF pattern, and the audit log's own. */
const CEF_NAMES: Readonly<Record<string, string>> = {
  duid: 'subject',
  suser: 'subject',
  src: 'ip',
  msg: 'status',
  dvchost: 'host',
  externalId: 'trackingid',
  cs1: 'app',
  cs2: 'connectionid',
  cs3: 'protocol',
  cs4: 'role',
  cs5: 'localuserid',
  cs6: 'attributes',
};
/** A custom string says by its label what it is, where that is not the default. */
const CEF_LABELS: Readonly<Record<string, string>> = {
  'target application url': 'app',
  'connection id': 'connectionid',
  protocol: 'protocol',
  role: 'role',
  'sp local user id': 'localuserid',
  attributes: 'attributes',
  'grant type': 'granttype',
  description: 'description',
  'transaction id': 'transactionid',
  'adapter id': 'adapterid',
  'response time': 'responsetime',
};

/** `CEF:0|Ping Identity|PingFederate|version|event|event|severity|extension`. */
function readCef(text: string): PingRecord | undefined {
  const [, vendor = '', product = '', , event = '', , , ...rest] = text.split(/(?<!\\)\|/, 64);
  if (vendor !== 'Ping Identity' || product !== 'PingFederate' || event === '') return undefined;
  const extension = readExtension(rest.join('|'));
  const fields = new Map([['event', event]]);
  for (const [name, value] of extension) {
    if (name.endsWith('Label')) continue;
    const label = extension.get(`${name}Label`)?.toLowerCase() ?? '';
    const own = lookUp(CEF_LABELS, label) ?? lookUp(CEF_NAMES, name) ?? name.toLowerCase();
    if (!fields.has(own)) fields.set(own, value);
  }
  return recordOf(fields, extension.get('rt') ?? '');
}

/** `name=value name=value`: a value may hold spaces, and ends where the next name begins; `\=` is no sign. */
function readExtension(text: string): Map<string, string> {
  const found = new Map<string, string>();
  const names = [...text.matchAll(/(?:^|\s)([A-Za-z][\w.]{0,63})=/g)].slice(0, PAIRS_MAX);
  for (const [i, match] of names.entries()) {
    const [whole, name = ''] = match;
    const end = names[i + 1]?.index ?? text.length;
    const value = text.slice(match.index + whole.length, end).trim();
    if (!found.has(name)) found.set(name, value.replace(/\\([=|\\])/g, '$1'));
  }
  return found;
}

const MONTHS = ['jan', 'feb', 'mar', 'apr', 'may', 'jun', 'jul', 'aug', 'sep', 'oct', 'nov', 'dec'];
const CEF_TIME = /^([A-Za-z]{3})\.? (\d{1,2}) (\d{4}) (\d{2}:\d{2}:\d{2}(?:\.\d{1,9})?)$/;

/** `May 18 2026 11:41:48.452`, as UTC. */
function cefTime(stamp: string): bigint | undefined {
  const [, name = '', day = '', year = '', clock = ''] = CEF_TIME.exec(stamp.slice(0, 40)) ?? [];
  const month = MONTHS.indexOf(name.toLowerCase()) + 1;
  if (month === 0) return undefined;
  const two = (n: number | string): string => String(n).padStart(2, '0');
  return timeNs(`${year}-${two(month)}-${two(day)}T${clock}Z`);
}
