import { defineSource, type ParseResult, type SourceRecord } from '../../model/define_source.ts';
import type { AuthEventDraft, PrincipalDraft } from '../../model/draft.ts';
import type { EventKind, IpRole, Outcome } from '../../model/kinds.ts';
import {
  given,
  isJson,
  type Json,
  lookUp,
  objectIn,
  own,
  refuse,
  scalarText,
  textIn,
  textList,
  timeNs,
  TIME_ALLOWED,
} from './_reading.ts';

/** Events of one activity, and parameters of one event, that are read. */
const EVENTS_MAX = 100;
const PARAMETERS_MAX = 200;

interface Mapping {
  readonly kind: EventKind;
  readonly outcome: Outcome;
  readonly endpoint?: string;
  /** Whose address `ipAddress` is. */
  readonly ip_role?: IpRole;
  readonly risk?: string;
}

const user = (kind: EventKind, outcome: Outcome = 'success', endpoint?: string): Mapping => ({
  kind,
  outcome,
  ip_role: 'end_user',
  ...(endpoint === undefined ? {} : { endpoint }),
});
const suspicious: Mapping = { ...user('risk_signal', 'unknown'), risk: 'suspicious' };
const locked: Mapping = { kind: 'account_locked', outcome: 'success' };

/** Events by application and name (reports API, activity events). What is not listed is `unclassified`. */
const MAPPINGS: Readonly<Record<string, Mapping>> = {
  'token.authorize': user('consent_granted', 'success', 'authorization'),
  'token.revoke': user('consent_revoked'),
  // Called by the client, from wherever it runs.
  'token.activity': { kind: 'api_accessed', outcome: 'success', endpoint: 'api' },

  'login.login_success': user('login'),
  'login.login_failure': user('login_failed', 'failure'),
  'login.login_challenge': user('mfa_challenged', 'challenge'),
  'login.login_verification': user('mfa_result', 'unknown'),
  'login.logout': user('session_ended'),
  'login.suspicious_login': suspicious,
  'login.suspicious_login_less_secure_app': suspicious,
  'login.suspicious_programmatic_login': suspicious,
  'login.risky_sensitive_action_allowed': suspicious,
  'login.risky_sensitive_action_blocked': { ...suspicious, outcome: 'denied' },
  'login.gov_attack_warning': { ...suspicious, risk: 'government_attack' },
  'login.user_signed_out_due_to_suspicious_session_cookie': {
    ...user('session_revoked'),
    risk: 'suspicious',
  },
  'login.account_disabled_generic': locked,
  'login.account_disabled_hijacked': locked,
  'login.account_disabled_password_leak': locked,
  'login.account_disabled_spamming': locked,
  'login.account_disabled_spamming_through_relay': locked,

  'saml.login_success': user('federation_handshake'),
  'saml.login_failure': user('federation_handshake', 'failure'),

  'admin.AUTHORIZE_API_CLIENT_ACCESS': user('consent_granted'),
  'admin.REMOVE_API_CLIENT_ACCESS': user('consent_revoked'),
  'admin.REVOKE_3LO_TOKEN': user('consent_revoked'),
  'admin.REVOKE_3LO_DEVICE_TOKENS': user('token_revoked'),
  'admin.RESET_SIGNIN_COOKIES': user('session_revoked'),

  'context_aware_access.ACCESS_DENY_EVENT': user('policy_decided', 'denied'),
  // What the policy would have denied, had it been enforced.
  'context_aware_access.MONITOR_MODE_ACCESS_DENY_EVENT': user('policy_decided', 'success'),
};

/** Settings that govern sign-in and which applications may have access, by type or by name. */
const POLICY_TYPES = new Set(['SECURITY_SETTINGS', 'APPLICATION_SETTINGS']);
const POLICY_NAME = /_OAUTH2?_APPS?$/;

interface Reading {
  readonly activity: Json;
  readonly app: string;
  readonly name: string;
  readonly type: string;
  readonly time: bigint;
  readonly mapping: Mapping;
  /** The values of a parameter, in whatever form they came. */
  readonly parameter: (name: string) => readonly string[];
}

/** `[{name, value | multiValue | intValue | boolValue}]`, or `{name: value}` where a store has turned it round. */
function readParameters(event: Json): (name: string) => readonly string[] {
  const parameters = own(event, 'parameters') ?? own(event, 'parameter');
  if (isJson(parameters)) return (name) => textList(own(parameters, name)) ?? [];
  const values = new Map<string, readonly string[]>();
  const list = Array.isArray(parameters) ? (parameters as readonly unknown[]) : [];
  for (const entry of list.slice(0, PARAMETERS_MAX).filter(isJson)) {
    const name = textIn(entry, 'name');
    if (name !== undefined && !values.has(name)) values.set(name, valuesOf(entry));
  }
  return (name) => values.get(name) ?? [];
}

function valuesOf(entry: Json): readonly string[] {
  for (const name of ['value', 'multiValue', 'intValue', 'multiIntValue', 'boolValue']) {
    const texts = textList(own(entry, name));
    if (texts !== undefined) return texts;
  }
  return [];
}

function mappingOf(app: string, name: string, type: string): Mapping {
  const known = lookUp(MAPPINGS, `${app}.${name}`);
  if (known !== undefined) return known;
  const isPolicy = app === 'admin' && (POLICY_TYPES.has(type) || POLICY_NAME.test(name));
  return isPolicy ? user('policy_changed') : { kind: 'unclassified', outcome: 'unknown' };
}

/** Google says how a challenge ended in the event that tells of it. */
function challenged(mapping: Mapping, status: string | undefined): Mapping {
  if (status === undefined) return mapping;
  const isPassed = /pass|success/i.test(status);
  const isFailed = /fail|abandon|incorrect/i.test(status);
  if (!isPassed && !isFailed) return mapping;
  return { ...mapping, kind: 'mfa_result', outcome: isPassed ? 'success' : 'failure' };
}

/** People are named by their address, which the events about them have in common; its case varies. */
function personOf(email: string | undefined): PrincipalDraft | undefined {
  return email === undefined ? undefined : { id: email.toLowerCase(), type: 'user' };
}

function callerOf({ activity }: Reading): PrincipalDraft | undefined {
  const actor = objectIn(activity, 'actor');
  const person = personOf(textIn(actor, 'email'));
  if (person !== undefined) return person;
  const id = textIn(actor, 'profileId');
  if (id !== undefined) return { id, type: 'user' };
  const key = textIn(actor, 'key');
  return key === undefined ? undefined : { id: key, type: 'service' };
}

function principals(r: Reading): Pick<AuthEventDraft, 'subject' | 'actor'> {
  const caller = callerOf(r);
  if (r.app !== 'admin') return given({ subject: caller });
  const [email] = r.parameter('USER_EMAIL');
  return given({ subject: personOf(email), actor: caller });
}

function clientOf({ parameter }: Reading): AuthEventDraft['client'] {
  const first = (...names: readonly string[]): string | undefined =>
    names.map((n) => parameter(n)[0]).find((v) => v !== undefined);
  return given({
    id: first('client_id', 'API_CLIENT_NAME', 'APP_ID', 'OAUTH2_APP_ID'),
    name: first('app_name', 'OAUTH2_APP_NAME', 'application_name'),
  });
}

/** Parameters that say something of their own; the names of people, files and messages stay out. */
const EXT_PARAMETERS = [
  'client_type',
  'api_name',
  'method_name',
  'product_bucket',
  'login_type',
  'login_challenge_method',
  'login_challenge_status',
  'is_second_factor',
  'initiated_by',
  'OAUTH2_SERVICE_NAME',
] as const;

function extOf({ parameter }: Reading): Record<string, string> {
  const told = EXT_PARAMETERS.map((name) => [name, parameter(name).join(' ')] as const);
  return Object.fromEntries(told.filter(([, value]) => value !== ''));
}

function errorOf(r: Reading): AuthEventDraft['error'] {
  const [code] = [...r.parameter('login_failure_type'), ...r.parameter('failure_type')];
  return code === undefined ? undefined : { code };
}

function netOf({ activity, mapping }: Reading): AuthEventDraft['net'] {
  return given({
    client_ip: textIn(activity, 'ipAddress'),
    ip_role: mapping.ip_role ?? ('unknown' as const),
    country: textIn(objectIn(activity, 'networkInfo'), 'regionCode'),
  });
}

/** `login_success` of a sign-in that Google itself doubts. */
function riskOf({ mapping, parameter }: Reading): string | undefined {
  return mapping.risk ?? (parameter('is_suspicious')[0] === 'true' ? 'suspicious' : undefined);
}

function scopesOf({ parameter }: Reading): readonly string[] | undefined {
  const scopes = [...parameter('scope'), ...parameter('API_SCOPES')];
  return scopes.length === 0 ? undefined : scopes;
}

function policyOf(r: Reading): AuthEventDraft['policy'] {
  if (r.mapping.kind !== 'policy_decided') return undefined;
  const isMonitored = r.name.startsWith('MONITOR_MODE');
  return { decision: isMonitored ? 'monitor_deny' : 'deny' };
}

function draftOf(r: Reading): AuthEventDraft {
  const id = objectIn(r.activity, 'id');
  const qualifier = textIn(id, 'uniqueQualifier');
  const customer = textIn(id, 'customerId');
  const apis = r.parameter('api_name');
  const { mapping } = r;
  const isUse = mapping.kind === 'api_accessed';
  return given({
    kind: mapping.kind,
    time: r.time,
    // Unique within a customer, an application and an instant.
    vendor_event_id:
      qualifier === undefined
        ? undefined
        : [customer ?? '', r.app, String(r.time), qualifier].join('/'),
    raw_type: `${r.app}.${r.name}`,
    source_tenant: customer,
    outcome: mapping.outcome,
    error: errorOf(r),
    endpoint: mapping.endpoint,
    client: clientOf(r),
    ...principals(r),
    resource: isUse && apis.length > 0 ? apis : undefined,
    scopes_granted: scopesOf(r),
    net: netOf(r),
    policy: policyOf(r),
    risk: riskOf(r),
    ext: extOf(r),
  });
}

/** The events of an activity: a list, one object, or the activity itself where a store has parted it. */
function eventsIn(activity: Json): readonly Json[] | undefined {
  const events = own(activity, 'events');
  if (Array.isArray(events)) {
    return (events as readonly unknown[]).slice(0, EVENTS_MAX).filter(isJson);
  }
  if (isJson(events)) return [events];
  return textIn(activity, 'name') === undefined ? undefined : [activity];
}

function readingOf(activity: Json, event: Json, app: string, time: bigint): Reading {
  const name = (textIn(event, 'name') ?? '').slice(0, 200);
  const type = textIn(event, 'type') ?? '';
  const parameter = readParameters(event);
  const mapping = mappingOf(app, name, type);
  const isChallenge = mapping.kind === 'mfa_challenged' || mapping.kind === 'mfa_result';
  const [status] = parameter('login_challenge_status');
  return {
    ...{ activity, app, name, type, time, parameter },
    mapping: isChallenge ? challenged(mapping, status) : mapping,
  };
}

/** A page of the reports API. */
function unwrap(value: unknown): readonly unknown[] | undefined {
  const items = isJson(value) ? own(value, 'items') : undefined;
  return Array.isArray(items) ? (items as readonly unknown[]) : undefined;
}

function parse(record: SourceRecord): ParseResult {
  if (record.form === 'text') return refuse('unsupported_form', 'text: allowed is a JSON object');
  const { value } = record;
  if (!isJson(value)) return refuse('not_an_object', 'record: must be a JSON object');
  const id = objectIn(value, 'id');
  const app = scalarText(own(id, 'applicationName'))?.slice(0, 100);
  const events = eventsIn(value);
  if (app === undefined || events === undefined) {
    return refuse(
      'unrecognised_record',
      'record: no activity of Google Workspace; id.applicationName and events are needed',
    );
  }
  const stamp = own(id, 'time');
  if (stamp === undefined) return refuse('missing_field', 'id.time: is required');
  const time = timeNs(stamp);
  if (time === undefined) return refuse('invalid_time', `id.time: not a time; ${TIME_ALLOWED}`);
  return {
    ok: true,
    events: events.map((event) => draftOf(readingOf(value, event, app, time))),
  };
}

/**
 * Activities of the Google Workspace reports API: the OAuth token log above all, and what the login, SAML, admin and
 * context-aware access logs say of sign-ins and of access for applications. Everything else is `unclassified`.
 *
 * Google tells consent and its withdrawal, not tokens: there is no token, session or grant to refer to.
 */
export default defineSource({
  id: 'google_workspace',
  title: 'Google Workspace',
  vendor: 'google',
  product: 'google_workspace',
  description: 'Activities of the Google Workspace reports API: token, login, SAML and admin logs.',
  forms: ['json'],
  unwrap,
  kinds: [
    'consent_granted',
    'consent_revoked',
    'token_revoked',
    'login',
    'login_failed',
    'mfa_challenged',
    'mfa_result',
    'session_ended',
    'session_revoked',
    'account_locked',
    'policy_changed',
    'policy_decided',
    'api_accessed',
    'risk_signal',
    'federation_handshake',
    'unclassified',
  ],
  provides: [
    ...['event_id', 'time', 'kind', 'phase', 'outcome', 'source.tenant', 'source.raw_type'],
    ...['error.code', 'endpoint', 'client.id', 'client.name'],
    ...['subject.ref', 'subject.type', 'actor.ref', 'actor.type', 'resource', 'scopes_granted'],
    ...['net.client_ip', 'net.ip_role', 'net.network', 'net.country'],
    ...['policy.decision', 'risk', 'ext'],
  ],
  confirmed_by: 'real_samples',
  references: [
    'Google Workspace Admin SDK, reports API: activities.list; token, login, SAML, admin and context-aware access events',
    'RFC 6749',
  ],
  parse,
});
