import { z } from 'zod';
import {
  BINDINGS,
  EVENT_KINDS,
  IP_ROLES,
  OUTCOMES,
  PHASES,
  PKCE_METHODS,
  REF_KINDS,
  SUBJECT_TYPES,
  TOKEN_ROLES,
  TOKEN_TYPES,
} from '../../model/kinds.ts';
import { isJson, timeNs, TIME_ALLOWED, type Json } from './_reading.ts';

const text = z.string().nullish();
const texts = z.union([z.string(), z.array(z.string())]).nullish();
const number = z.number().nullish();
const time = z
  .union([z.string(), z.number(), z.bigint()])
  .refine((t) => timeNs(t) !== undefined, `not a time; ${TIME_ALLOWED}`);

const identity = {
  /** The raw token. It becomes a reference before anything is stored. */
  value: text,
  jti: text,
  vendor_id: text,
  vendor_hash: text,
  ref: text,
  ref_kind: z.enum(REF_KINDS).nullish(),
};
export const Identity = z.object(identity);
export const Token = z.object({
  ...identity,
  role: z.enum(TOKEN_ROLES),
  type: z.enum(TOKEN_TYPES),
  family: Identity.nullish(),
  parent: Identity.nullish(),
  family_ref: text,
  parent_ref: text,
  counter: number,
  issued_at: time.nullish(),
  expires_at: time.nullish(),
  kid: text,
  alg: text,
});
const Principal = z
  .object({ id: text, ref: text, type: z.enum(SUBJECT_TYPES).nullish() })
  .nullish();
export const Named = z.object({ id: text, ref: text }).nullish();

/** The wire form, the contract of this source: an AuthEvent in which all but `kind` and `time` may be left out; unknown keys are ignored. */
export const WireEvent = z.object({
  kind: z.enum(EVENT_KINDS),
  time,
  event_id: text,
  observed_time: time.nullish(),
  source: z.object({ instance: text, tenant: text, raw_type: text }).nullish(),
  phase: z.enum(PHASES).nullish(),
  outcome: z.enum(OUTCOMES).nullish(),
  error: z.object({ code: text, oauth_error: text, detail: text }).nullish(),
  grant_type: text,
  response_type: text,
  endpoint: text,
  client: z.object({ id: text, name: text, auth_method: text }).nullish(),
  requested_client_id: text,
  subject: Principal,
  actor: Principal,
  issuer: text,
  audience: texts,
  resource: texts,
  scopes_requested: texts,
  scopes_granted: texts,
  redirect_uri: text,
  pkce: z.enum(PKCE_METHODS).nullish(),
  binding: z.enum(BINDINGS).nullish(),
  binding_thumbprint: text,
  tokens: z.array(Token).nullish(),
  session: Named,
  session_ref: text,
  grant: Named,
  grant_ref: text,
  net: z
    .object({
      client_ip: text,
      ip_role: z.enum(IP_ROLES).nullish(),
      country: text,
      user_agent: text,
      ja4: text,
    })
    .nullish(),
  http: z.object({ method: text, route: text, status: number, duration_ms: number }).nullish(),
  policy: z
    .object({ decision_id: text, path: text, decision: text, bundle_revision: text })
    .nullish(),
  key: z.object({ kid: text, operation: text, store: text }).nullish(),
  risk: text,
  acr: text,
  amr: texts,
  corr: z
    .object({ trace_id: text, span_id: text, request_id: text, transaction_id: text })
    .nullish(),
  redaction: z.object({ upstream: z.boolean().nullish(), key_id: text }).nullish(),
  ext: z.record(z.string(), z.union([z.string(), z.number(), z.boolean()])).nullish(),
});
export type WireEvent = z.infer<typeof WireEvent>;

/**
 * True for what is a `WireEvent` for certain, by hand: zod, which says what is wrong, takes ten times as long.
 * False says nothing. A property test holds that whatever passes here passes there, and the other way round for
 * values without symbols, prototypes and the like, which JSON does not have.
 */
export function isPlainWireEvent(e: Json): e is WireEvent {
  return (
    KINDS.has(e['kind']) &&
    isTime(e['time']) &&
    isOptional(e['observed_time'], isTime) &&
    isOptional(e['phase'], (v) => PHASE.has(v)) &&
    isOptional(e['outcome'], (v) => OUTCOME.has(v)) &&
    isOptional(e['pkce'], (v) => PKCE.has(v)) &&
    isOptional(e['binding'], (v) => BINDING.has(v)) &&
    areTextsOfEvent(e) &&
    areListsOfEvent(e) &&
    isOptional(e['subject'], isPrincipal) &&
    isOptional(e['actor'], isPrincipal) &&
    isOptional(e['tokens'], (v) => Array.isArray(v) && v.every(isToken)) &&
    isOptional(e['net'], isNet) &&
    isOptional(e['http'], isHttp) &&
    isOptional(e['redaction'], isRedaction) &&
    isOptional(e['ext'], isExt) &&
    GROUPS_OF_EVENT.every(([name, texts]) => isOptional(e[name], (v) => isGroup(v, texts)))
  );
}

const setOf = (values: readonly string[]): ReadonlySet<unknown> => new Set(values);
const KINDS = setOf(EVENT_KINDS);
const PHASE = setOf(PHASES);
const OUTCOME = setOf(OUTCOMES);
const PKCE = setOf(PKCE_METHODS);
const BINDING = setOf(BINDINGS);
const ROLES = setOf(TOKEN_ROLES);
const TYPES = setOf(TOKEN_TYPES);
const REFERENCE_KINDS = setOf(REF_KINDS);
const SUBJECTS = setOf(SUBJECT_TYPES);
const IP_ROLE = setOf(IP_ROLES);

/** Written out, since the runtime reads members by fixed names much faster. */
function areTextsOfEvent(e: Json): boolean {
  return (
    isText(e['event_id']) &&
    isText(e['grant_type']) &&
    isText(e['response_type']) &&
    isText(e['endpoint']) &&
    isText(e['requested_client_id']) &&
    isText(e['issuer']) &&
    isText(e['redirect_uri']) &&
    isText(e['binding_thumbprint']) &&
    isText(e['session_ref']) &&
    isText(e['grant_ref']) &&
    isText(e['risk']) &&
    isText(e['acr'])
  );
}

function areListsOfEvent(e: Json): boolean {
  return (
    isTextOrTexts(e['audience']) &&
    isTextOrTexts(e['resource']) &&
    isTextOrTexts(e['scopes_requested']) &&
    isTextOrTexts(e['scopes_granted']) &&
    isTextOrTexts(e['amr'])
  );
}

/** Members that are objects of texts alone. */
const GROUPS_OF_EVENT = [
  ['source', ['instance', 'tenant', 'raw_type']],
  ['error', ['code', 'oauth_error', 'detail']],
  ['client', ['id', 'name', 'auth_method']],
  ['session', ['id', 'ref']],
  ['grant', ['id', 'ref']],
  ['policy', ['decision_id', 'path', 'decision', 'bundle_revision']],
  ['key', ['kid', 'operation', 'store']],
  ['corr', ['trace_id', 'span_id', 'request_id', 'transaction_id']],
] as const;
const TEXTS_OF_IDENTITY = ['value', 'jti', 'vendor_id', 'vendor_hash', 'ref'] as const;
const TEXTS_OF_TOKEN = ['family_ref', 'parent_ref', 'kid', 'alg'] as const;
const TEXTS_OF_NET = ['client_ip', 'country', 'user_agent', 'ja4'] as const;
const TEXTS_OF_HTTP = ['method', 'route'] as const;

/** Members that are null count as left out. */
function isOptional(value: unknown, is: (value: unknown) => boolean): boolean {
  return value === undefined || value === null || is(value);
}

function isText(value: unknown): boolean {
  return value === undefined || typeof value === 'string' || value === null;
}

function isNumber(value: unknown): boolean {
  return value === undefined || value === null || Number.isFinite(value);
}

function isTime(value: unknown): boolean {
  return timeNs(value) !== undefined;
}

function isTextOrTexts(value: unknown): boolean {
  if (!Array.isArray(value)) return isText(value);
  return value.every((item) => typeof item === 'string');
}

function isGroup(value: unknown, texts: readonly string[]): boolean {
  return isJson(value) && texts.every((name) => isText(value[name]));
}

function isPrincipal(value: unknown): boolean {
  if (!isJson(value)) return false;
  return (
    isText(value['id']) && isText(value['ref']) && isOptional(value['type'], (v) => SUBJECTS.has(v))
  );
}

function isIdentity(value: unknown): boolean {
  if (!isJson(value)) return false;
  return (
    TEXTS_OF_IDENTITY.every((name) => isText(value[name])) &&
    isOptional(value['ref_kind'], (v) => REFERENCE_KINDS.has(v))
  );
}

function isToken(value: unknown): boolean {
  if (!isJson(value) || !isIdentity(value)) return false;
  return (
    ROLES.has(value['role']) &&
    TYPES.has(value['type']) &&
    TEXTS_OF_TOKEN.every((name) => isText(value[name])) &&
    isOptional(value['family'], isIdentity) &&
    isOptional(value['parent'], isIdentity) &&
    isNumber(value['counter']) &&
    isOptional(value['issued_at'], isTime) &&
    isOptional(value['expires_at'], isTime)
  );
}

function isNet(value: unknown): boolean {
  return (
    isGroup(value, TEXTS_OF_NET) && isOptional((value as Json)['ip_role'], (v) => IP_ROLE.has(v))
  );
}

function isHttp(value: unknown): boolean {
  if (!isGroup(value, TEXTS_OF_HTTP)) return false;
  const { status, duration_ms } = value as Json;
  return isNumber(status) && isNumber(duration_ms);
}

function isRedaction(value: unknown): boolean {
  if (!isGroup(value, ['key_id'])) return false;
  return isOptional((value as Json)['upstream'], (v) => typeof v === 'boolean');
}

function isExt(value: unknown): boolean {
  if (!isJson(value)) return false;
  for (const name of Object.keys(value)) {
    const v = value[name];
    if (typeof v !== 'string' && typeof v !== 'boolean' && !Number.isFinite(v)) return false;
  }
  return true;
}
