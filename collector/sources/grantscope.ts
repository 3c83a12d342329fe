import { z } from 'zod';
import { defineSource, type ParseResult, type SourceRecord } from '../../model/define_source.ts';
import type { AuthEventDraft, TokenDraft, TokenIdentity } from '../../model/draft.ts';
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
import { Secret } from '../../model/secret.ts';
import { REQUEST_FIELDS, GRANT_FIELDS, TOKEN_FIELDS } from './_field_groups.ts';
import { given, isJson, refuse, timeNs, TIME_ALLOWED, textList } from './_reading.ts';

const text = z.string().nullish();
const texts = z.union([z.string(), z.array(z.string())]).nullish();
const number = z.number().nullish();
const time = z
  .union([z.string(), z.number(), z.bigint()])
  .refine((t) => timeNs(t) !== undefined, `not a time; ${TIME_ALLOWED}`)
  .transform((t) => timeNs(t) ?? 0n);

const identity = {
  /** The raw token. It becomes a reference before anything is stored. */
  value: text,
  jti: text,
  vendor_id: text,
  vendor_hash: text,
  ref: text,
  ref_kind: z.enum(REF_KINDS).nullish(),
};
const Identity = z.object(identity);
const Token = z.object({
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
const Named = z.object({ id: text, ref: text }).nullish();

/** The wire form: an AuthEvent in which all but `kind` and `time` may be left out; unknown keys are ignored. */
const WireEvent = z.object({
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
type WireEvent = z.infer<typeof WireEvent>;

type Present<V> = { [K in keyof V]?: Exclude<V[K], null | undefined> };

/** Drops null and '' as well as undefined: the wire form writes "absent" in three ways. */
function present<V extends object>(members: V | null | undefined): Present<V> {
  const all: [string, unknown][] = Object.entries(members ?? {});
  const kept = all.filter(([, v]) => v !== undefined && v !== null && v !== '');
  return Object.fromEntries(kept) as Present<V>;
}

function identityOf(raw: z.infer<typeof Identity>): TokenIdentity {
  const some = (value: string | null | undefined): value is string =>
    typeof value === 'string' && value !== '';
  if (some(raw.value)) return { secret: new Secret(raw.value) };
  if (some(raw.jti)) return { jti: raw.jti };
  // A UUID jti is its own reference, so its kind need not be lost.
  if (some(raw.ref)) return raw.ref_kind === 'jti' ? { jti: raw.ref } : { ref: raw.ref };
  if (some(raw.vendor_id)) return { vendor_id: raw.vendor_id };
  if (some(raw.vendor_hash)) return { vendor_hash: raw.vendor_hash };
  return {};
}

function tokenOf(raw: z.infer<typeof Token>): TokenDraft {
  const related = (
    named: z.infer<typeof Identity> | null | undefined,
    ref: string | null | undefined,
  ): TokenIdentity | undefined => {
    if (typeof ref === 'string' && ref !== '') return { ref };
    return named === null || named === undefined ? undefined : identityOf(named);
  };
  return given({
    role: raw.role,
    type: raw.type,
    ...identityOf(raw),
    family: related(raw.family, raw.family_ref),
    parent: related(raw.parent, raw.parent_ref),
    counter: raw.counter ?? undefined,
    issued_at: raw.issued_at ?? undefined,
    expires_at: raw.expires_at ?? undefined,
    kid: raw.kid ?? undefined,
    alg: raw.alg ?? undefined,
  });
}

/** `session_ref` of a stored event, or `session: {id}` of one in the making. */
function namedOf(
  named: z.infer<typeof Named>,
  ref: string | null | undefined,
): { id?: string; ref?: string } {
  return typeof ref === 'string' && ref !== '' ? { ref } : present(named);
}

function draftOf(wire: WireEvent): AuthEventDraft {
  const e = present(wire);
  const source = present(wire.source);
  const redaction = present(wire.redaction);
  return given({
    kind: wire.kind,
    time: wire.time,
    vendor_event_id: e.event_id,
    observed_time: e.observed_time,
    raw_type: source.raw_type,
    instance: source.instance,
    source_tenant: source.tenant,
    phase: e.phase,
    outcome: e.outcome,
    grant_type: e.grant_type,
    response_type: e.response_type,
    endpoint: e.endpoint,
    requested_client_id: e.requested_client_id,
    issuer: e.issuer,
    redirect_uri: e.redirect_uri,
    pkce: e.pkce,
    binding: e.binding,
    binding_thumbprint: e.binding_thumbprint,
    risk: e.risk,
    acr: e.acr,
    error: present(e.error),
    client: present(e.client),
    subject: present(e.subject),
    actor: present(e.actor),
    audience: textList(e.audience),
    resource: textList(e.resource),
    scopes_requested: textList(e.scopes_requested),
    scopes_granted: textList(e.scopes_granted),
    amr: textList(e.amr),
    tokens: e.tokens?.map(tokenOf),
    session: namedOf(e.session, e.session_ref),
    grant: namedOf(e.grant, e.grant_ref),
    net: present(e.net),
    http: present(e.http),
    policy: present(e.policy),
    key: present(e.key),
    corr: present(e.corr),
    upstream_redaction: redaction.upstream,
    reference_key_id: redaction.key_id,
    ext: Object.fromEntries(Object.entries(e.ext ?? {}).map(([k, v]) => [k, String(v)])),
  });
}

/** The member of the record that an issue is about; keys of `ext` are the sender's and are not repeated. */
function fieldName(path: readonly PropertyKey[]): string {
  const shown = path[0] === 'ext' ? path.slice(0, 1) : path;
  return shown.length === 0 ? '(event)' : shown.map(String).join('.');
}

function isMissing(value: unknown, path: readonly PropertyKey[]): boolean {
  let at: unknown = value;
  for (const step of path) {
    if (typeof at !== 'object' || at === null) return true;
    at = (at as Record<PropertyKey, unknown>)[step];
  }
  return at === undefined || at === null;
}

function parse(record: SourceRecord): ParseResult {
  if (record.form === 'text') return refuse('unsupported_form', 'text: allowed is a JSON object');
  if (!isJson(record.value)) return refuse('not_an_object', 'event: must be a JSON object');
  const parsed = WireEvent.safeParse(record.value);
  if (parsed.success) return { ok: true, events: [draftOf(parsed.data)] };
  const [issue] = parsed.error.issues;
  const path = issue?.path ?? [];
  const field = fieldName(path);
  if (isMissing(record.value, path)) return refuse('missing_field', `${field}: is required`);
  const code = path.at(-1) === 'time' && path.length === 1 ? 'invalid_time' : 'invalid_field';
  return refuse(code, `${field}: ${issue?.message ?? 'is not valid'}`);
}

/**
 * Our own AuthEvent as JSON. Times: ISO 8601 or epoch s, ms, µs, ns. Tokens may carry the raw `value`, a
 * `jti`, a `vendor_id`, a `vendor_hash` or a reference made before; lists may be text parted by spaces.
 */
export default defineSource({
  id: 'grantscope',
  title: 'Grantscope AuthEvent',
  vendor: 'grantscope',
  product: 'grantscope',
  description: 'Events in the form of AuthEvent itself, for systems that write their own exporter.',
  forms: ['json'],
  provides: [
    ...['event_id', 'time', 'observed_time', 'kind', 'phase', 'outcome'],
    ...['source.instance', 'source.tenant', 'source.raw_type'],
    ...REQUEST_FIELDS,
    ...['client.id', 'client.name', 'client.auth_method', 'requested_client_id'],
    ...['subject.ref', 'subject.type', 'actor.ref', 'actor.type', 'issuer', 'audience', 'resource'],
    ...GRANT_FIELDS,
    ...TOKEN_FIELDS,
    ...['tokens.parent_ref', 'tokens.counter', 'tokens.issued_at', 'tokens.expires_at'],
    ...['tokens.kid', 'tokens.alg', 'session_ref', 'grant_ref'],
    ...['net.client_ip', 'net.ip_role', 'net.network', 'net.country', 'net.user_agent'],
    ...['net.ua_family', 'net.ja4'],
    ...['http.method', 'http.route', 'http.status', 'http.duration_ms'],
    ...['policy.decision_id', 'policy.path', 'policy.decision', 'policy.bundle_revision'],
    ...['key.kid', 'key.operation', 'key.store', 'risk', 'acr', 'amr'],
    ...['corr.trace_id', 'corr.span_id', 'corr.request_id', 'corr.transaction_id', 'ext'],
  ],
  confirmed_by: 'documents',
  references: ['docs/ARCHITECTURE.md section 4'],
  parse,
});
