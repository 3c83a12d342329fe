import { defineSource, type ParseResult, type SourceRecord } from '../../model/define_source.ts';
import type { AuthEventDraft } from '../../model/draft.ts';
import type { EventKind, IpRole, Outcome } from '../../model/kinds.ts';
import { REQUEST_FIELDS } from './_field_groups.ts';
import { LINE_LENGTH_MAX, type PingRecord, readLine, readObject } from './_ping_federate_record.ts';
import { given, isJson, lookUp, numberOf, refuse, TIME_ALLOWED } from './_reading.ts';

interface Mapping {
  readonly kind: EventKind;
  readonly failed?: EventKind;
  readonly endpoint?: string;
  /** Left out: from wherever. */
  readonly role?: IpRole;
}

const MAPPINGS: Readonly<Record<string, Mapping>> = {
  AUTHN_ATTEMPT: {
    ...{ kind: 'login', failed: 'login_failed', endpoint: 'authorization', role: 'end_user' },
  },
  AUTHN_REQUEST: { kind: 'federation_handshake', role: 'end_user' },
  SSO: { kind: 'federation_handshake', role: 'end_user' },
  SLO: { kind: 'session_ended', endpoint: 'end_session', role: 'end_user' },
  AUTHN_SESSION_CREATED: { kind: 'session_started', role: 'end_user' },
  AUTHN_SESSION_DELETED: { kind: 'session_ended' },
  AUTHN_SESSIONS_DELETED: { kind: 'session_ended' },
  SRI_REVOKED: { kind: 'session_revoked' },
};

const at = (kind: EventKind): Mapping => ({
  kind,
  failed: 'token_request_failed',
  endpoint: 'token',
});

const GRANTS: Readonly<Record<string, Mapping>> = {
  refresh_token: at('token_refreshed'),
  'urn:ietf:params:oauth:grant-type:token-exchange': at('token_exchanged'),
  // Ping's own grant by which a resource server has a token checked.
  'urn:pingidentity.com:oauth2:grant_type:validate_bearer': {
    ...{ kind: 'token_introspected', endpoint: 'introspection', role: 'client_backend' },
  },
};

/** RFC 6749 sections 4.1.2.1 and 5.2, RFC 8628 section 3.5, RFC 8693 section 2.2.2, RFC 9449 section 5. */
const OAUTH_ERROR =
  /^\W{0,4}(invalid_request|invalid_client|invalid_grant|unauthorized_client|unsupported_grant_type|invalid_scope|access_denied|unsupported_response_type|server_error|temporarily_unavailable|authorization_pending|slow_down|expired_token|invalid_target|invalid_dpop_proof)\b/;
/** Only the token endpoint answers so. */
const TOKEN_ERRORS = new Set(['invalid_grant', 'unsupported_grant_type', 'expired_token']);

interface Reading {
  readonly record: PingRecord;
  /** The field's text; undefined for an absent or empty one. */
  readonly field: (name: string) => string | undefined;
  readonly event: string;
  readonly time: bigint;
  readonly error: string;
}

function readingOf(record: PingRecord, time: bigint): Reading {
  const field = (name: string): string | undefined => {
    const value = record.fields.get(name)?.trim();
    return value === undefined || value === '' || value === '-' ? undefined : value;
  };
  const error = OAUTH_ERROR.exec(field('description')?.slice(0, 200) ?? '')?.[1] ?? '';
  return { record, field, event: field('event') ?? '', time, error };
}

/** An OAuth transaction is told by its grant type alone; without one it may be any endpoint's. */
function mappingOf(r: Reading): Mapping {
  if (r.event !== 'OAuth') return lookUp(MAPPINGS, r.event) ?? { kind: 'unclassified' };
  const grant = r.field('granttype');
  if (grant !== undefined) return lookUp(GRANTS, grant) ?? at('token_issued');
  return TOKEN_ERRORS.has(r.error) ? at('token_issued') : { kind: 'unclassified' };
}

function outcomeOf(r: Reading): Outcome {
  switch (r.field('status')?.toLowerCase()) {
    case 'success':
      return 'success';
    case 'inprogress':
    case 'in_progress':
      return 'pending';
    case 'failure':
      if (r.error === 'authorization_pending' || r.error === 'slow_down') return 'pending';
      return r.error === 'access_denied' ? 'denied' : 'failure';
    default:
      return 'unknown';
  }
}

/** The tracking id; a session reference begins with it, `..` and more. Neither opens a session. */
function sessionOf({ field }: Reading): string | undefined {
  return field('trackingid')?.replace(/^tid:/, '') ?? field('sri')?.split('..', 1)[0];
}

function eventOf(r: Reading): AuthEventDraft {
  const { field } = r;
  const mapping = mappingOf(r);
  const outcome = outcomeOf(r);
  const isPending = outcome === 'pending' && r.error !== '';
  const isRefused = outcome === 'failure' || outcome === 'denied' || isPending;
  const session = sessionOf(r);
  const context = /(?:^|[, ])SAML_AUTHN_CTX=([^,]{1,200})/.exec(
    field('attributes')?.slice(0, 8_192) ?? '',
  );
  return given({
    kind: isRefused ? (mapping.failed ?? mapping.kind) : mapping.kind,
    time: r.time,
    raw_type: r.event,
    instance: field('pfhost') ?? field('host'),
    outcome,
    error: isRefused
      ? given({ oauth_error: r.error === '' ? undefined : r.error, detail: field('description') })
      : undefined,
    grant_type: field('granttype'),
    endpoint: mapping.endpoint,
    client: given({ id: field('connectionid'), name: field('connectionname') }),
    subject: subjectOf(r),
    session: session === undefined ? undefined : { id: session },
    net: given({
      client_ip: field('ip')?.split(',', 1)[0],
      ip_role:
        field('granttype') === 'client_credentials' ? ('client_backend' as const) : mapping.role,
    }),
    http: given({ duration_ms: numberOf(field('responsetime')) }),
    acr: context?.[1],
    corr: given({ transaction_id: field('transactionid'), request_id: field('requestid') }),
    ext: given({
      protocol: field('protocol'),
      role: field('role'),
      adapter: field('adapterid') ?? field('authenticationsourceid'),
      application: field('app'),
    }),
  });
}

function subjectOf({ field }: Reading): AuthEventDraft['subject'] {
  const subject = field('subject');
  const client = field('connectionid');
  const isMachine = field('granttype') === 'client_credentials';
  if (subject !== undefined) return { id: subject, type: isMachine ? 'client' : 'user' };
  return isMachine && client !== undefined ? { id: client, type: 'client' } : undefined;
}

function parse(record: SourceRecord): ParseResult {
  if (record.form === 'text' && record.line.length > LINE_LENGTH_MAX) {
    return refuse('too_large', `line: longer than ${LINE_LENGTH_MAX} characters`);
  }
  if (record.form === 'json' && !isJson(record.value)) {
    return refuse('not_an_object', 'record: must be a JSON object');
  }
  const read =
    record.form === 'text'
      ? readLine(record.line)
      : readObject(record.value as Record<string, unknown>);
  if (read === undefined) {
    return refuse(
      'unrecognised_record',
      'record: no line of the audit log; event, and trackingid, protocol or status, are needed',
    );
  }
  if (read.stamp === '')
    return refuse('missing_field', 'time: is required at the start of the line');
  if (read.time === undefined) {
    return refuse('invalid_time', `time: not a time; ${TIME_ALLOWED}, MMM dd yyyy HH:mm:ss.SSS`);
  }
  return { ok: true, events: [eventOf(readingOf(read, read.time))] };
}

/**
 * PingFederate's security audit log: `name="value"` pairs (its pattern for Splunk), CEF, or the default columns
 * between bars. Times without a zone are taken as UTC.
 *
 * An OAuth transaction says which endpoint it was only by its grant type, which the default pattern leaves out: such
 * a record stays unclassified unless its error is one that the token endpoint alone gives.
 */
export default defineSource({
  id: 'ping_federate',
  title: 'PingFederate',
  vendor: 'ping_identity',
  product: 'pingfederate',
  description: 'The security audit log of PingFederate: name="value" pairs, CEF, or columns.',
  forms: ['text', 'json'],
  kinds: [
    'token_issued',
    'token_refreshed',
    'token_exchanged',
    'token_request_failed',
    'token_introspected',
    'login',
    'login_failed',
    'session_started',
    'session_ended',
    'session_revoked',
    'federation_handshake',
    'unclassified',
  ],
  provides: [
    ...['time', 'kind', 'outcome', 'source.instance', 'source.raw_type'],
    ...REQUEST_FIELDS.filter((f) => f !== 'error.code' && f !== 'response_type'),
    ...['client.id', 'client.name', 'subject.ref', 'subject.type', 'session_ref'],
    ...['net.client_ip', 'net.ip_role', 'net.network', 'http.duration_ms', 'acr'],
    ...['corr.transaction_id', 'corr.request_id', 'ext'],
  ],
  confirmed_by: 'real_samples',
  references: [
    'PingFederate Server: Security audit logging, Writing audit log in CEF',
    'ArcSight Common Event Format, revision 25',
  ],
  parse,
});
