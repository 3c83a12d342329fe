import { hash, randomBytes } from 'node:crypto';
import { gzipSync } from 'node:zlib';
import { ATTR, SOURCE_ATTRIBUTE } from '../../model/attributes.ts';
import {
  emptyLogRecord,
  type Attributes,
  type LogsRequest,
  type OtlpLogRecord,
} from '../../collector/receivers/otlp/types.ts';
import { group, logsToJson, logsToProtobuf } from '../../test/otlp_encoders.ts';

/** What a request can carry; each is one event a record. */
export const PAYLOADS = {
  /** Our own AuthEvents, a line each: token and subject are raw and get a keyed hash. */
  ndjson: { path: '/v1/events/grantscope', contentType: 'application/x-ndjson' },
  /** Keycloak's events, a line each: session and user get a keyed hash, tokens are named by their jti. */
  keycloak: { path: '/v1/events/keycloak', contentType: 'application/x-ndjson' },
  /** OTLP log records with the attributes that instrumentation/ writes: hashed before they are sent. */
  'otlp-proto': { path: '/v1/logs', contentType: 'application/x-protobuf' },
  'otlp-json': { path: '/v1/logs', contentType: 'application/json' },
  /** OTLP log records whose body is the line of `ndjson`: what a log shipper sends on. */
  'otlp-body-proto': { path: '/v1/logs', contentType: 'application/x-protobuf' },
} as const;
export type PayloadName = keyof typeof PAYLOADS;

export function payloadNamed(name: string): PayloadName {
  if (!Object.hasOwn(PAYLOADS, name))
    throw new Error(`--payload: must be one of ${Object.keys(PAYLOADS).join(', ')}`);
  return name as PayloadName;
}

/** Events after which subjects and addresses come round again; ids, tokens and times never do. */
const CYCLE_EVENTS = 15_000;
const SUBJECTS = 5_000;
const CLIENTS = 40;
/** An issuance and two API calls. */
const EVENTS_PER_TOKEN = 3;
const AGENT =
  'Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36';

/** What stands in a template where a body differs; each has the length of what replaces it. */
const MARK_NS = 1_234_567_890_000_000_000n;
const MARK_ISO = '2009-02-13T23:31:30.000Z';
const MARK_MS = '1234567890000';
const idMark = (i: number): string => `eeeeeeee-0000-4000-8000-${String(i).padStart(12, '0')}`;
const tokenMark = (i: number): string => `tttttttt-0000-4000-8000-${String(i).padStart(12, '0')}`;

interface Template {
  readonly body: Buffer;
  readonly ids: readonly (readonly [event: number, at: number])[];
  readonly tokens: readonly (readonly [event: number, at: number])[];
  readonly times: readonly (readonly [kind: 'iso' | 'ms' | 'ns-text' | 'ns-binary', at: number])[];
}

/**
 * Makes request bodies of one payload: honest traffic, an issuance and two API calls of the same token, from one of
 * many subjects' own networks. Bodies are copies of templates with fresh ids, tokens and times written into them, so
 * that a generator takes little CPU and no two requests are equal.
 */
export class BodyFactory {
  readonly #templates: readonly Template[];
  readonly #batch: number;
  readonly #gzip: boolean;
  /** Tokens of one run differ from those of another. */
  readonly #salt = randomBytes(6).toString('hex');

  constructor(payload: PayloadName, batch: number, gzip: boolean) {
    this.#batch = batch;
    this.#gzip = gzip;
    const count = Math.max(1, Math.ceil(CYCLE_EVENTS / batch));
    this.#templates = Array.from({ length: count }, (_, i) =>
      makeTemplate(payload, batch, i * batch),
    );
  }

  /** The body of the request with this number; its events lie within the last second before `nowMs`. */
  make(sequence: number, nowMs: number): Buffer {
    const template = this.#templates[sequence % this.#templates.length];
    if (template === undefined) throw new Error('no template');
    const body = Buffer.from(template.body);
    const ids = randomBytes(16 * this.#batch).toString('hex');
    for (const [event, at] of template.ids) writeUuid(body, at, ids, event * 32);
    const first = sequence * this.#batch;
    let token = -1;
    let reference = '';
    for (const [event, at] of template.tokens) {
      const own = Math.floor((first + event) / EVENTS_PER_TOKEN);
      if (own !== token) reference = hash('md5', `${this.#salt}${own}`, 'hex');
      token = own;
      writeUuid(body, at, reference, 0);
    }
    template.times.forEach(([kind, at], i) =>
      writeTime(body, kind, at, nowMs - 1_000 + (i % 1_000)),
    );
    return this.#gzip ? gzipSync(body, { level: 1 }) : body;
  }
}

/** 32 hex digits as a version 4 UUID's 36 characters. */
function writeUuid(body: Buffer, at: number, hex: string, from: number): void {
  body.write(hex.slice(from, from + 8), at, 'latin1');
  body.write(hex.slice(from + 8, from + 12), at + 9, 'latin1');
  body.write(hex.slice(from + 13, from + 16), at + 15, 'latin1');
  body.write(hex.slice(from + 17, from + 20), at + 20, 'latin1');
  body.write(hex.slice(from + 20, from + 32), at + 24, 'latin1');
}

function writeTime(body: Buffer, kind: Template['times'][number][0], at: number, ms: number): void {
  if (kind === 'iso') body.write(new Date(ms).toISOString(), at, 'latin1');
  else if (kind === 'ms') body.write(String(ms), at, 'latin1');
  else if (kind === 'ns-text') body.write(`${ms}000000`, at, 'latin1');
  else body.writeBigUInt64LE(BigInt(ms) * 1_000_000n, at);
}

function makeTemplate(payload: PayloadName, batch: number, first: number): Template {
  const numbers = Array.from({ length: batch }, (_, i) => i);
  const body = encode(payload, numbers, first);
  const text = body.toString('latin1');
  const marks = (pattern: RegExp): (readonly [number, number])[] =>
    [...text.matchAll(pattern)].map((m) => [Number(m[1]), m.index] as const);
  return {
    body,
    ids: marks(/eeeeeeee-0000-4000-8000-(\d{12})/g),
    tokens: marks(/tttttttt-0000-4000-8000-(\d{12})/g).map(([i, at]) => [i, at] as const),
    times: timesIn(body, text),
  };
}

function timesIn(body: Buffer, text: string): Template['times'] {
  const found: [Template['times'][number][0], number][] = [];
  for (const m of text.matchAll(/1234567890000000000|1234567890000|2009-02-13T23:31:30\.000Z/g))
    found.push([m[0].length === 19 ? 'ns-text' : m[0].length === 13 ? 'ms' : 'iso', m.index]);
  const binary = Buffer.alloc(8);
  binary.writeBigUInt64LE(MARK_NS);
  for (let at = body.indexOf(binary); at >= 0; at = body.indexOf(binary, at + 8))
    found.push(['ns-binary', at]);
  return found;
}

function encode(payload: PayloadName, numbers: readonly number[], first: number): Buffer {
  switch (payload) {
    case 'ndjson':
      return Buffer.from(numbers.map((i) => ownLine(i, first + i)).join('\n'));
    case 'keycloak':
      return Buffer.from(numbers.map((i) => keycloakLine(i, first + i)).join('\n'));
    case 'otlp-proto':
      return logsToProtobuf(logs(numbers.map((i) => record(attributes(i, first + i), ''))));
    case 'otlp-json':
      return logsToJson(logs(numbers.map((i) => record(attributes(i, first + i), ''))));
    case 'otlp-body-proto':
      return logsToProtobuf(
        logs(
          numbers.map((i) => record({ [SOURCE_ATTRIBUTE]: 'grantscope' }, ownLine(i, first + i))),
        ),
      );
  }
}

/** What one event is about, by its number. */
function story(n: number) {
  const token = Math.floor(n / EVENTS_PER_TOKEN);
  const subject = token % SUBJECTS;
  return {
    subject,
    isIssued: n % EVENTS_PER_TOKEN === 0,
    client: `client-${token % CLIENTS}`,
    address: `10.${subject >> 8}.${subject & 255}.7`,
  };
}

/** One AuthEvent as a line of JSON: also the record that a log shipper forwards. */
function ownLine(i: number, n: number): string {
  const { subject, isIssued, client, address } = story(n);
  return JSON.stringify({
    event_id: idMark(i),
    time: MARK_ISO,
    kind: isIssued ? 'token_issued' : 'api_accessed',
    outcome: 'success',
    grant_type: isIssued ? 'authorization_code' : '',
    issuer: 'https://as.example',
    client: { id: client },
    subject: { id: `user-${subject}@example.test`, type: 'user' },
    scopes_granted: ['openid', 'orders:read'],
    // Opaque: not a JWT, whose jti would stand for it.
    tokens: [
      { role: isIssued ? 'issued' : 'presented', type: 'access', value: `opaque.${tokenMark(i)}` },
    ],
    net: { client_ip: address, ip_role: 'end_user', user_agent: AGENT },
    http: {
      method: 'POST',
      route: isIssued ? '/token' : '/orders',
      status: 200,
      duration_ms: 12.5,
    },
  });
}

function keycloakLine(i: number, n: number): string {
  const { subject, isIssued, client, address } = story(n);
  return JSON.stringify({
    id: idMark(i),
    time: Number(MARK_MS),
    type: isIssued ? 'CODE_TO_TOKEN' : 'USER_INFO_REQUEST',
    realmId: 'shop',
    realmName: 'shop',
    clientId: client,
    userId: `user-${subject}`,
    sessionId: `session-${subject}-${client}`,
    ipAddress: address,
    details: {
      token_id: tokenMark(i),
      ...(isIssued
        ? { grant_type: 'authorization_code', client_auth_method: 'client-secret' }
        : {}),
      scope: 'openid orders:read',
    },
  });
}

function attributes(i: number, n: number): Attributes {
  const { subject, isIssued, client, address } = story(n);
  const role = isIssued ? 'issued' : 'presented';
  const subjectRef = hash('md5', `subject ${subject}`, 'hex');
  const uuid = subjectRef.replace(/^(.{8})(.{4}).(.{3}).(.{3})(.{12})$/, '$1-$2-4$3-8$4-$5');
  return {
    [ATTR.eventId]: idMark(i),
    [ATTR.kind]: isIssued ? 'token_issued' : 'api_accessed',
    [ATTR.outcome]: 'success',
    ...(isIssued ? { [ATTR.grantType]: 'authorization_code' } : {}),
    [ATTR.issuer]: 'https://as.example',
    [ATTR.clientId]: client,
    [ATTR.subjectRef]: uuid,
    [ATTR.subjectType]: 'user',
    [ATTR.scopesGranted]: ['openid', 'orders:read'],
    [`oauth.token.${role}.access.ref`]: tokenMark(i),
    [`oauth.token.${role}.access.ref_kind`]: 'hmac',
    [ATTR.clientAddress]: address,
    [ATTR.ipRole]: 'end_user',
    [ATTR.userAgent]: AGENT,
    [ATTR.httpMethod]: 'POST',
    [ATTR.httpRoute]: isIssued ? '/token' : '/orders',
    [ATTR.httpStatus]: 200,
    [ATTR.durationMs]: 12.5,
  };
}

function record(attributesOfRecord: Attributes, body: string): OtlpLogRecord {
  return {
    ...emptyLogRecord(),
    timeUnixNano: MARK_NS,
    observedTimeUnixNano: MARK_NS,
    severityNumber: 9,
    severityText: 'INFO',
    body: body === '' ? null : body,
    attributes: attributesOfRecord,
  };
}

function logs(records: OtlpLogRecord[]): LogsRequest {
  return group(records, { 'service.name': 'as', 'service.version': '1.0.0' });
}
