import { defineSource, type ParseResult, type SourceRecord } from '../../model/define_source.ts';
import type {
  AuthEventDraft,
  PrincipalDraft,
  TokenDraft,
  TokenIdentity,
} from '../../model/draft.ts';
import type { EventKind, SubjectType } from '../../model/kinds.ts';
import { Secret } from '../../model/secret.ts';
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

/** Longest SET that is decoded, characters. */
const SET_LENGTH_MAX = 65_536;
/** Events in one SET; more than one are aspects of the same thing (RFC 8417 section 2.2). */
const EVENTS_MAX = 20;
/** SETs in one poll response (RFC 8936). */
const SETS_MAX = 10_000;

/** Kinds by the last two parts of an event's URI: profile and type. What only informs is a signal of risk. */
const KINDS: Readonly<Record<string, EventKind>> = {
  'caep session-revoked': 'session_revoked',
  'caep session-established': 'session_started',
  'caep token-claims-change': 'risk_signal',
  'caep credential-change': 'risk_signal',
  'caep assurance-level-change': 'risk_signal',
  'caep device-compliance-change': 'risk_signal',
  'caep risk-level-change': 'risk_signal',
  'risc sessions-revoked': 'session_revoked',
  'risc account-disabled': 'account_locked',
  'risc account-credential-change-required': 'risk_signal',
  'risc account-enabled': 'risk_signal',
  'risc account-purged': 'risk_signal',
  'risc credential-compromise': 'risk_signal',
  'risc identifier-changed': 'risk_signal',
  'risc identifier-recycled': 'risk_signal',
  'risc recovery-activated': 'risk_signal',
  'risc recovery-information-changed': 'risk_signal',
  'oauth token-revoked': 'token_revoked',
  'oauth tokens-revoked': 'grant_revoked',
};

/** Sent to test the stream, not about anybody. */
const NOISE: ReadonlySet<string> = new Set([
  'ssf verification',
  'sse verification',
  'risc verification',
]);

const EVENT_URI = /\/secevent\/([a-z]{2,10})\/event-type\/([a-z0-9-]{1,64})$/;

/** `caep session-revoked` of its URI; the URI itself where it is of none of the profiles. */
function shortName(uri: string): string {
  const m = EVENT_URI.exec(uri.slice(0, 512));
  return m === null ? uri : `${m[1] ?? ''} ${m[2] ?? ''}`;
}

interface Reading {
  readonly set: Json;
  readonly type: string;
  readonly event: Json;
  readonly subject: Json;
  readonly time: bigint;
}

/** The format of a subject identifier, in the spelling of RFC 9493; drafts called it `subject_type`, with hyphens. */
function formatOf(subject: Json): string {
  return (textIn(subject, 'format', 'subject_type') ?? '').replaceAll('-', '_');
}

/** Members of a complex subject (Shared Signals Framework section 3.2). */
const COMPLEX_MEMBERS = ['user', 'device', 'session', 'application', 'tenant', 'org_unit', 'group'];

function isComplex(subject: Json): boolean {
  const format = formatOf(subject);
  return (
    format === 'complex' || (format === '' && COMPLEX_MEMBERS.some((m) => isJson(own(subject, m))))
  );
}

/** Which member of a simple identifier names it. */
const NAME_OF_FORMAT: Readonly<Record<string, string>> = {
  account: 'uri',
  email: 'email',
  iss_sub: 'sub',
  opaque: 'id',
  phone_number: 'phone_number',
  did: 'url',
  uri: 'uri',
};

function idOf(subject: Json): string | undefined {
  const format = formatOf(subject);
  if (format === 'aliases') {
    const identifiers = own(subject, 'identifiers');
    const list = Array.isArray(identifiers) ? (identifiers as readonly unknown[]) : [];
    const simple = list.slice(0, 10).filter(isJson);
    // The subject as the issuer's tokens name it joins with what the authorization server tells.
    const best = simple.find((s) => formatOf(s) === 'iss_sub') ?? simple[0];
    return best === undefined || formatOf(best) === 'aliases' ? undefined : idOf(best);
  }
  const name = lookUp(NAME_OF_FORMAT, format);
  return name === undefined ? undefined : textIn(subject, name);
}

function principalOf(subject: Json, type: SubjectType): PrincipalDraft | undefined {
  const id = idOf(subject);
  return id === undefined ? undefined : { id, type };
}

function subjectOf(r: Reading): PrincipalDraft | undefined {
  const { subject } = r;
  if (!isComplex(subject)) {
    const isToken = ['jwt_id', 'saml_assertion_id', 'oauth_token'].includes(formatOf(subject));
    return isToken ? undefined : principalOf(subject, 'user');
  }
  return (
    principalOf(objectIn(subject, 'user'), 'user') ??
    principalOf(objectIn(subject, 'device'), 'device')
  );
}

const REVOKING: ReadonlySet<string> = new Set([
  'session_revoked',
  'token_revoked',
  'grant_revoked',
]);

function mentionOf(subject: Json, kind: EventKind): TokenDraft[] {
  const identity = tokenIdentity(subject);
  if (identity === undefined) return [];
  const role = REVOKING.has(kind) ? 'revoked' : 'subject';
  const format = formatOf(subject);
  const named = textIn(subject, 'token_type');
  const type =
    format === 'saml_assertion_id' ? 'assertion' : named === 'refresh_token' ? 'refresh' : 'access';
  return [{ role, type, ...identity }];
}

/** A token by its `jti`, by the id of its assertion, or by the hash or text of an OAuth token event. */
function tokenIdentity(subject: Json): TokenIdentity | undefined {
  switch (formatOf(subject)) {
    case 'jwt_id': {
      const jti = textIn(subject, 'jti');
      return jti === undefined ? undefined : { jti };
    }
    case 'saml_assertion_id': {
      const vendor_id = textIn(subject, 'assertion_id');
      return vendor_id === undefined ? undefined : { vendor_id };
    }
    case 'oauth_token': {
      const token = textIn(subject, 'token');
      if (token === undefined) return undefined;
      return textIn(subject, 'token_identifier_alg') === 'plain'
        ? { secret: new Secret(token) }
        : { vendor_hash: token };
    }
    default:
      return undefined;
  }
}

function sessionOf(r: Reading): AuthEventDraft['session'] {
  const { subject } = r;
  const named = isComplex(subject) ? idOf(objectIn(subject, 'session')) : undefined;
  const sid = named ?? textIn(r.event, 'ext_id') ?? textIn(r.set, 'sid');
  return sid === undefined ? undefined : { id: sid };
}

/** Whose tokens the subject's are: its own issuer, else the transmitter. */
function issuerOf(r: Reading): string | undefined {
  const user = isComplex(r.subject) ? objectIn(r.subject, 'user') : r.subject;
  return textIn(user, 'iss', 'issuer') ?? textIn(r.set, 'iss');
}

/** The English text of a reason, which has one per language, or is plain text. */
function reasonOf(event: Json, name: string): string | undefined {
  const reason = own(event, name);
  if (!isJson(reason)) return scalarText(reason);
  return textIn(reason, 'en', 'en-US') ?? scalarText(Object.values(reason)[0]);
}

const EXT_FIELDS = [
  ...['initiating_entity', 'credential_type', 'change_type', 'current_level', 'previous_level'],
  ...['change_direction', 'namespace', 'current_status', 'previous_status', 'principal'],
  ...['risk_reason', 'reason'],
];

function extOf(r: Reading): AuthEventDraft['ext'] {
  const fields = EXT_FIELDS.map((name) => [name, textIn(r.event, name)] as const);
  const claims = Object.keys(objectIn(r.event, 'claims')).slice(0, 20).join(' ');
  return given({
    ...Object.fromEntries(fields),
    claims_changed: claims === '' ? undefined : claims,
    reason_admin: reasonOf(r.event, 'reason_admin'),
  });
}

function riskOf(r: Reading): string | undefined {
  return r.type === 'caep risk-level-change'
    ? textIn(r.event, 'current_level')?.toLowerCase()
    : undefined;
}

function tenantOf(subject: Json): string | undefined {
  return isComplex(subject) ? idOf(objectIn(subject, 'tenant')) : undefined;
}

function draftOf(r: Reading, isOneOfMany: boolean): AuthEventDraft {
  const { set, subject } = r;
  const kind = lookUp(KINDS, r.type) ?? 'unclassified';
  const application = isComplex(subject) ? idOf(objectIn(subject, 'application')) : undefined;
  return given({
    kind,
    time: r.time,
    vendor_event_id: textIn(set, 'jti'),
    sub_id: isOneOfMany ? r.type : '',
    raw_type: r.type,
    instance: textIn(set, 'iss'),
    source_tenant: tenantOf(subject),
    outcome: 'success' as const,
    client: application === undefined ? undefined : { id: application },
    subject: subjectOf(r),
    issuer: issuerOf(r),
    audience: textList(own(set, 'aud')),
    session: sessionOf(r),
    tokens: mentionOf(isComplex(subject) ? objectIn(subject, 'session') : subject, kind),
    net: given({
      client_ip: textList(own(r.event, 'ips'))?.[0],
      ip_role: own(r.event, 'ips') === undefined ? undefined : ('end_user' as const),
      user_agent: textIn(r.event, 'fp_ua'),
    }),
    risk: riskOf(r),
    acr: textIn(r.event, 'acr'),
    amr: textList(own(r.event, 'amr')),
    corr: given({ transaction_id: textIn(set, 'txn') }),
    ext: extOf(r),
  });
}

/** A session that is named by its token: the token is no longer good either, and rules follow tokens. */
function companions(event: AuthEventDraft): AuthEventDraft[] {
  if (event.kind !== 'session_revoked' || event.tokens?.length !== 1) return [];
  return [{ ...event, kind: 'token_revoked', sub_id: 'token_revoked' }];
}

/** The claims of a SET in compact form. Its signature was the receiver's to check. */
function decodeSet(text: string): unknown {
  const parts = text.trim().split('.');
  if (parts.length !== 3 || text.length > SET_LENGTH_MAX) return undefined;
  try {
    return JSON.parse(Buffer.from(parts[1] ?? '', 'base64url').toString('utf8')) as unknown;
  } catch {
    return undefined;
  }
}

const NEEDED = 'record: no security event token; the claims events, iss and jti are needed';

function parseSet(set: Json): ParseResult {
  const events = objectIn(set, 'events');
  const uris = Object.keys(events).slice(0, EVENTS_MAX);
  if (uris.length === 0 || textIn(set, 'iss') === undefined || textIn(set, 'jti') === undefined)
    return refuse('unrecognised_record', NEEDED);
  const drafts: AuthEventDraft[] = [];
  for (const uri of uris) {
    const event = objectIn(events, uri);
    const type = shortName(uri);
    if (NOISE.has(type)) continue;
    const rawTime = own(event, 'event_timestamp') ?? own(set, 'toe') ?? own(set, 'iat');
    if (rawTime === undefined) return refuse('missing_field', 'iat: is required');
    const time = timeNs(rawTime);
    if (time === undefined) return refuse('invalid_time', `iat: not a time; ${TIME_ALLOWED}`);
    const given_ = own(set, 'sub_id') ?? own(event, 'subject') ?? subjectOfClaims(set);
    const subject = isJson(given_) ? given_ : {};
    const draft = draftOf({ set, type, event, subject, time }, uris.length > 1);
    drafts.push(draft, ...companions(draft));
  }
  return { ok: true, events: drafts };
}

/** A SET may name its subject as other JWTs do. */
function subjectOfClaims(set: Json): Json | undefined {
  const sub = textIn(set, 'sub');
  return sub === undefined ? undefined : given({ format: 'iss_sub', iss: textIn(set, 'iss'), sub });
}

function parse(record: SourceRecord): ParseResult {
  if (record.form === 'text') {
    const claims = decodeSet(record.line);
    return isJson(claims)
      ? parseSet(claims)
      : refuse(
          'unrecognised_record',
          'line: no signed JWT (three parts of base64url, at most 65536 characters)',
        );
  }
  if (!isJson(record.value)) return refuse('not_an_object', 'record: must be a JSON object');
  return parseSet(record.value);
}

/** A poll response (RFC 8936 section 2.4): SETs in compact form by their ids. */
function unwrap(value: unknown): readonly unknown[] | undefined {
  const sets = isJson(value) ? own(value, 'sets') : undefined;
  if (!isJson(sets)) return undefined;
  return Object.values(sets)
    .slice(0, SETS_MAX)
    .map((set) => (typeof set === 'string' ? (decodeSet(set) ?? set) : set));
}

/**
 * Security event tokens (RFC 8417) of the Shared Signals Framework: CAEP, RISC and OAuth events, in compact form or
 * decoded. Signatures are not checked here: whoever may post to this source is believed.
 */
export default defineSource({
  id: 'ssf',
  title: 'Shared signals (CAEP and RISC)',
  vendor: 'openid',
  product: 'shared_signals',
  description: 'Security event tokens of CAEP, RISC and OAuth event types, signed or decoded.',
  forms: ['json', 'text'],
  kinds: [
    'token_revoked',
    'grant_revoked',
    'session_started',
    'session_revoked',
    'account_locked',
    'risk_signal',
    'unclassified',
  ],
  provides: [
    ...['event_id', 'time', 'kind', 'phase', 'outcome', 'source.instance', 'source.tenant'],
    ...['source.raw_type', 'client.id', 'subject.ref', 'subject.type'],
    ...['issuer', 'audience', 'session_ref', 'tokens', 'tokens.role', 'tokens.type'],
    ...['tokens.ref', 'tokens.ref_kind', 'net.client_ip', 'net.ip_role', 'net.network'],
    ...['net.user_agent', 'net.ua_family', 'risk', 'acr', 'amr', 'corr.transaction_id', 'ext'],
  ],
  confirmed_by: 'documents',
  references: [
    'RFC 8417, RFC 8935, RFC 8936, RFC 9493',
    'OpenID Shared Signals Framework 1.0, CAEP 1.0, RISC 1.0',
  ],
  unwrap,
  parse,
});
