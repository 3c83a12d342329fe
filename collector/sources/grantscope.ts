import type { z } from 'zod';
import { defineSource, type ParseResult, type SourceRecord } from '../../model/define_source.ts';
import type {
  AuthEventDraft,
  PrincipalDraft,
  TokenDraft,
  TokenIdentity,
} from '../../model/draft.ts';
import { Secret } from '../../model/secret.ts';
import { REQUEST_FIELDS, GRANT_FIELDS, TOKEN_FIELDS } from './_field_groups.ts';
import { hasNextNames, withNextNames } from './_next_names.ts';
import { isJson, refuse, textList, timeNs } from './_reading.ts';
import {
  type Identity,
  isPlainWireEvent,
  type Named,
  type Token,
  WireEvent,
} from './_wire_event.ts';

/** The first members that are text and not empty; '' and null are ways to leave a member out. */
function some(value: string | null | undefined): value is string {
  return typeof value === 'string' && value !== '';
}

function identityOf(raw: z.infer<typeof Identity>): TokenIdentity {
  if (some(raw.value)) return { secret: new Secret(raw.value) };
  if (some(raw.jti)) return { jti: raw.jti };
  // A UUID jti is its own reference, so its kind need not be lost.
  if (some(raw.ref)) return raw.ref_kind === 'jti' ? { jti: raw.ref } : { ref: raw.ref };
  if (some(raw.vendor_id)) return { vendor_id: raw.vendor_id };
  if (some(raw.vendor_hash)) return { vendor_hash: raw.vendor_hash };
  return {};
}

function relatedOf(
  named: z.infer<typeof Identity> | null | undefined,
  ref: string | null | undefined,
): TokenIdentity | undefined {
  if (some(ref)) return { ref };
  return named === null || named === undefined ? undefined : identityOf(named);
}

function tokenOf(raw: z.infer<typeof Token>): TokenDraft {
  const { secret, jti, ref, vendor_id, vendor_hash } = identityOf(raw);
  return {
    role: raw.role,
    type: raw.type,
    secret,
    jti,
    ref,
    vendor_id,
    vendor_hash,
    family: relatedOf(raw.family, raw.family_ref),
    parent: relatedOf(raw.parent, raw.parent_ref),
    counter: raw.counter ?? undefined,
    issued_at: timeNs(raw.issued_at),
    expires_at: timeNs(raw.expires_at),
    kid: raw.kid ?? undefined,
    alg: raw.alg ?? undefined,
  } as TokenDraft;
}

/** `session_ref` of a stored event, or `session: {id}` of one in the making. */
function namedOf(
  named: z.infer<typeof Named>,
  ref: string | null | undefined,
): { id?: string; ref?: string } | undefined {
  if (some(ref)) return { ref };
  if (named === null || named === undefined) return undefined;
  return some(named.ref) ? { ref: named.ref } : { id: named.id ?? '' };
}

function principalOf(raw: WireEvent['subject']): PrincipalDraft | undefined {
  if (raw === null || raw === undefined) return undefined;
  const type = raw.type ?? 'unknown';
  return some(raw.ref) ? { ref: raw.ref, type } : { id: raw.id ?? '', type };
}

function netOf(raw: WireEvent['net']) {
  if (raw === null || raw === undefined) return undefined;
  return {
    client_ip: raw.client_ip ?? undefined,
    ip_role: raw.ip_role ?? undefined,
    country: raw.country ?? undefined,
    user_agent: raw.user_agent ?? undefined,
    ja4: raw.ja4 ?? undefined,
  };
}

function httpOf(raw: WireEvent['http']) {
  if (raw === null || raw === undefined) return undefined;
  return {
    method: raw.method ?? undefined,
    route: raw.route ?? undefined,
    status: raw.status ?? undefined,
    duration_ms: raw.duration_ms ?? undefined,
  };
}

function corrOf(raw: WireEvent['corr']) {
  if (raw === null || raw === undefined) return undefined;
  return {
    trace_id: raw.trace_id ?? undefined,
    span_id: raw.span_id ?? undefined,
    request_id: raw.request_id ?? undefined,
    transaction_id: raw.transaction_id ?? undefined,
  };
}

function policyOf(raw: WireEvent['policy']) {
  if (raw === null || raw === undefined) return undefined;
  return {
    decision_id: raw.decision_id ?? undefined,
    path: raw.path ?? undefined,
    decision: raw.decision ?? undefined,
    bundle_revision: raw.bundle_revision ?? undefined,
  };
}

/** Absent members are written as undefined, so that all drafts have one shape: that keeps redaction fast. */
function draftOf(e: WireEvent): AuthEventDraft {
  return {
    kind: e.kind,
    time: timeNs(e.time) ?? 0n,
    vendor_event_id: e.event_id ?? undefined,
    observed_time: timeNs(e.observed_time),
    raw_type: e.source?.raw_type ?? undefined,
    instance: e.source?.instance ?? undefined,
    source_tenant: e.source?.tenant ?? undefined,
    phase: e.phase ?? undefined,
    outcome: e.outcome ?? undefined,
    grant_type: e.grant_type ?? undefined,
    response_type: e.response_type ?? undefined,
    endpoint: e.endpoint ?? undefined,
    requested_client_id: e.requested_client_id ?? undefined,
    issuer: e.issuer ?? undefined,
    redirect_uri: e.redirect_uri ?? undefined,
    pkce: e.pkce ?? undefined,
    binding: e.binding ?? undefined,
    binding_thumbprint: e.binding_thumbprint ?? undefined,
    risk: e.risk ?? undefined,
    acr: e.acr ?? undefined,
    error: e.error && {
      code: e.error.code ?? undefined,
      oauth_error: e.error.oauth_error ?? undefined,
      detail: e.error.detail ?? undefined,
    },
    client: e.client && {
      id: e.client.id ?? undefined,
      name: e.client.name ?? undefined,
      auth_method: e.client.auth_method ?? undefined,
    },
    subject: principalOf(e.subject),
    actor: principalOf(e.actor),
    audience: textList(e.audience),
    resource: textList(e.resource),
    scopes_requested: textList(e.scopes_requested),
    scopes_granted: textList(e.scopes_granted),
    amr: textList(e.amr),
    tokens: e.tokens?.map(tokenOf),
    session: namedOf(e.session, e.session_ref),
    grant: namedOf(e.grant, e.grant_ref),
    net: netOf(e.net),
    http: httpOf(e.http),
    policy: policyOf(e.policy),
    key: e.key && {
      kid: e.key.kid ?? undefined,
      operation: e.key.operation ?? undefined,
      store: e.key.store ?? undefined,
    },
    corr: corrOf(e.corr),
    upstream_redaction: e.redaction?.upstream ?? undefined,
    reference_key_id: e.redaction?.key_id ?? undefined,
    ext: extOf(e.ext),
  } as AuthEventDraft;
}

/** Also of an event that was stored while the keys were changing. */
function wholeDraftOf(e: WireEvent): AuthEventDraft {
  const draft = draftOf(e);
  return hasNextNames(e.ext) ? withNextNames(draft, e.tokens ?? []) : draft;
}

/** Entries of `ext` that are read: more than are kept, so that the cut is seen and counted. */
const EXT_ENTRIES_READ_MAX = 64;

function extOf(ext: WireEvent['ext']): AuthEventDraft['ext'] {
  if (ext === null || ext === undefined) return undefined;
  const names = Object.keys(ext).slice(0, EXT_ENTRIES_READ_MAX);
  return Object.fromEntries(names.map((name) => [name, String(ext[name])]));
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
  if (isPlainWireEvent(record.value)) return { ok: true, events: [wholeDraftOf(record.value)] };
  const parsed = WireEvent.safeParse(record.value);
  if (parsed.success) return { ok: true, events: [wholeDraftOf(parsed.data)] };
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
