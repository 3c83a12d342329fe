import { defineSource, type ParseResult, type SourceRecord } from '../../model/define_source.ts';
import type { AuthEventDraft, PrincipalDraft, TokenDraft } from '../../model/draft.ts';
import type { EventKind, Outcome, SubjectType } from '../../model/kinds.ts';
import { Secret } from '../../model/secret.ts';
import {
  given,
  isJson,
  type Json,
  lookUp,
  numberOf,
  objectIn,
  own,
  refuse,
  scalarText,
  textIn,
  textList,
  timeNs,
  TIME_ALLOWED,
} from './_reading.ts';

const NS_PER_S = 1_000_000_000n;
const NS_PER_MS = 1e6;
/** Longest audit event that a log line of AKS or CloudWatch carries as text, characters. */
const LOG_TEXT_LENGTH_MAX = 4_194_304;
const TTL_S_MAX = 1e9;

const CREDENTIAL_ID = 'authentication.kubernetes.io/credential-id';
const ISSUED_CREDENTIAL_ID = 'authentication.kubernetes.io/issued-credential-id';

interface Mapping {
  readonly kind: EventKind;
  readonly failed?: EventKind;
  readonly endpoint?: string;
}

const READS = { get: 'secret_read', list: 'secret_read', watch: 'secret_read' } as const;
const changes = (kind: EventKind): Readonly<Record<string, EventKind>> => ({
  ...{ create: kind, update: kind, patch: kind, delete: kind, deletecollection: kind },
});

/** Kinds by resource and verb; every other request is an API call. */
const RESOURCES: Readonly<Record<string, Readonly<Record<string, EventKind>>>> = {
  secrets: { ...READS, ...changes('secret_changed') },
  roles: changes('policy_changed'),
  clusterroles: changes('policy_changed'),
  rolebindings: changes('policy_changed'),
  clusterrolebindings: changes('policy_changed'),
  validatingwebhookconfigurations: changes('policy_changed'),
  mutatingwebhookconfigurations: changes('policy_changed'),
  validatingadmissionpolicies: changes('policy_changed'),
  validatingadmissionpolicybindings: changes('policy_changed'),
  serviceaccounts: {
    create: 'client_registered',
    update: 'client_updated',
    patch: 'client_updated',
    delete: 'client_deleted',
  },
  subjectaccessreviews: { create: 'policy_decided' },
  localsubjectaccessreviews: { create: 'policy_decided' },
  selfsubjectaccessreviews: { create: 'policy_decided' },
};

const METHODS: Readonly<Record<string, string>> = {
  get: 'GET',
  list: 'GET',
  watch: 'GET',
  create: 'POST',
  update: 'PUT',
  patch: 'PATCH',
  delete: 'DELETE',
  deletecollection: 'DELETE',
};

interface Reading {
  readonly value: Json;
  readonly time: bigint;
  readonly stage: string;
  readonly isAttempt: boolean;
  readonly verb: string;
  readonly object: Json;
  /** `serviceaccounts/token`; '' for a path that is no resource. */
  readonly resource: string;
  readonly user: Json;
  readonly spec: Json;
  /** `status` of the object in the response. */
  readonly status: Json;
  readonly path: string;
  readonly mapping: Mapping;
}

function mappingOf(verb: string, resource: string, path: string): Mapping {
  if (resource === 'serviceaccounts/token' && verb === 'create') {
    return { kind: 'token_issued', failed: 'token_request_failed', endpoint: 'token' };
  }
  if (resource === 'tokenreviews' && verb === 'create') {
    return { kind: 'token_introspected', endpoint: 'introspection' };
  }
  if (resource === '' && path === '/openid/v1/jwks') {
    return { kind: 'jwks_fetched', endpoint: 'jwks' };
  }
  const kind = lookUp(lookUp(RESOURCES, resource) ?? {}, verb);
  // Without a verb nobody can say what was done.
  return { kind: kind ?? (verb === '' ? 'unclassified' : 'api_accessed') };
}

function outcomeOf(r: Reading): Outcome {
  if (r.isAttempt) return 'pending';
  if (r.stage === 'Panic') return 'failure';
  const code = statusCodeOf(r);
  if (code === undefined) {
    const decision = textIn(objectIn(r.value, 'annotations'), 'authorization.k8s.io/decision');
    return decision === 'forbid' ? 'denied' : 'unknown';
  }
  if (code === 401 || code === 403) return 'denied';
  return code < 400 ? 'success' : 'failure';
}

function statusCodeOf(r: Reading): number | undefined {
  return numberOf(own(objectIn(r.value, 'responseStatus'), 'code'));
}

function errorOf(r: Reading): AuthEventDraft['error'] {
  const status = objectIn(r.value, 'responseStatus');
  const code = statusCodeOf(r) ?? 0;
  if (code < 400) return undefined;
  return given({
    code: textIn(status, 'reason') ?? String(code),
    detail: textIn(status, 'message'),
  });
}

const SERVICE_ACCOUNT = 'system:serviceaccount:';

function subjectTypeOf(name: string): SubjectType {
  if (name === 'system:anonymous') return 'unknown';
  return name.startsWith('system:') ? 'service' : 'user';
}

function principal(name: string | undefined): PrincipalDraft | undefined {
  return name === undefined ? undefined : { id: name, type: subjectTypeOf(name) };
}

/** The service account that a request is about. */
function serviceAccountOf(r: Reading): string | undefined {
  const name = textIn(r.object, 'name');
  const namespace = textIn(r.object, 'namespace');
  return name === undefined || namespace === undefined
    ? undefined
    : `${SERVICE_ACCOUNT}${namespace}:${name}`;
}

/** Kinds of what administrators do: the caller is the actor, not the subject. */
const ADMINISTRATION = /^(?:secret_|policy_changed|client_)/;

function principalsOf(r: Reading): Pick<AuthEventDraft, 'subject' | 'actor'> {
  const caller = principal(textIn(r.user, 'username'));
  const impersonated = principal(textIn(objectIn(r.value, 'impersonatedUser'), 'username'));
  switch (r.mapping.kind) {
    case 'token_issued':
      return given({ subject: principal(serviceAccountOf(r)), actor: caller });
    case 'token_introspected':
      return given({
        subject: principal(textIn(objectIn(r.status, 'user'), 'username')),
        actor: caller,
      });
    case 'policy_decided':
      return given({ subject: principal(textIn(r.spec, 'user')) ?? caller, actor: caller });
    default:
      if (ADMINISTRATION.test(r.mapping.kind)) return given({ actor: impersonated ?? caller });
      return given({ subject: impersonated ?? caller, actor: impersonated && caller });
  }
}

function clientOf(r: Reading): AuthEventDraft['client'] {
  const about = r.resource.startsWith('serviceaccounts') ? serviceAccountOf(r) : undefined;
  const caller = textIn(r.user, 'username');
  const id = about ?? (caller?.startsWith(SERVICE_ACCOUNT) === true ? caller : undefined);
  return id === undefined ? undefined : { id };
}

/** `JTI=<uuid>`: the credential is a token of the cluster. A certificate (`X509SHA256=`) is none. */
function jtiOf(credential: string | undefined): string | undefined {
  return credential?.startsWith('JTI=') === true ? credential.slice('JTI='.length) : undefined;
}

function credentialOf(user: Json): string | undefined {
  return jtiOf(textList(own(objectIn(user, 'extra'), CREDENTIAL_ID))?.[0]);
}

function rawToken(object: Json): TokenDraft['secret'] {
  const token = textIn(object, 'token');
  return token === undefined ? undefined : new Secret(token);
}

/** What was asked for, where the response with the exact time is not logged. */
function expiryOf(r: Reading): bigint | undefined {
  const exact = timeNs(own(r.status, 'expirationTimestamp'));
  const seconds = numberOf(own(r.spec, 'expirationSeconds'));
  if (exact !== undefined || seconds === undefined || seconds <= 0 || seconds > TTL_S_MAX)
    return exact;
  return r.time + BigInt(Math.trunc(seconds)) * NS_PER_S;
}

function tokensOf(r: Reading): TokenDraft[] {
  const caller = credentialOf(r.user);
  const presented: TokenDraft[] =
    caller === undefined ? [] : [{ role: 'presented', type: 'access', jti: caller }];
  if (r.mapping.kind === 'token_issued') {
    const jti = jtiOf(textIn(objectIn(r.value, 'annotations'), ISSUED_CREDENTIAL_ID));
    const secret = jti === undefined ? rawToken(r.status) : undefined;
    if (jti === undefined && secret === undefined) return [];
    return [given({ role: 'issued', type: 'access', jti, secret, expires_at: expiryOf(r) })];
  }
  if (r.mapping.kind === 'token_introspected') {
    const jti = credentialOf(objectIn(r.status, 'user'));
    const secret = jti === undefined ? rawToken(r.spec) : undefined;
    if (jti === undefined && secret === undefined) return [];
    return [given({ role: 'presented', type: 'access', jti, secret })];
  }
  return presented;
}

function keyOf(r: Reading): AuthEventDraft['key'] {
  if (r.resource !== 'secrets') return undefined;
  const namespace = textIn(r.object, 'namespace') ?? '*';
  return {
    kid: `${namespace}/secrets/${textIn(r.object, 'name') ?? '*'}`,
    operation: r.verb,
    store: `${namespace}/secrets`,
  };
}

function policyOf(r: Reading): AuthEventDraft['policy'] {
  if (r.mapping.kind === 'policy_changed') {
    return {
      path: [r.resource, textIn(r.object, 'namespace'), textIn(r.object, 'name')]
        .filter(Boolean)
        .join('/'),
    };
  }
  if (r.mapping.kind !== 'policy_decided') return undefined;
  const allowed = own(r.status, 'allowed');
  const asked = objectIn(r.spec, 'resourceAttributes');
  const path = [textIn(asked, 'verb'), textIn(asked, 'resource')].filter(Boolean).join(' ');
  return given({
    decision: allowed === true ? 'allow' : allowed === false ? 'deny' : undefined,
    path: path === '' ? undefined : path,
  });
}

function httpOf(r: Reading): AuthEventDraft['http'] {
  const from = timeNs(own(r.value, 'requestReceivedTimestamp'));
  const to = timeNs(own(r.value, 'stageTimestamp'));
  const isOver = r.stage === 'ResponseComplete' && r.verb !== 'watch';
  return given({
    method: lookUp(METHODS, r.verb) ?? r.verb,
    route: r.path,
    status: statusCodeOf(r),
    duration_ms:
      from === undefined || to === undefined || !isOver ? undefined : Number(to - from) / NS_PER_MS,
  });
}

function draftOf(r: Reading): AuthEventDraft {
  const { value, mapping } = r;
  const outcome = outcomeOf(r);
  const hasFailed = outcome === 'failure' || outcome === 'denied';
  const audience = mapping.kind === 'token_issued' ? textList(own(r.spec, 'audiences')) : undefined;
  return given({
    kind: hasFailed ? (mapping.failed ?? mapping.kind) : mapping.kind,
    time: r.time,
    observed_time: timeNs(own(value, 'stageTimestamp')),
    vendor_event_id: textIn(value, 'auditID'),
    sub_id: r.isAttempt ? r.stage : '',
    raw_type: r.resource === '' ? r.verb : `${r.verb} ${r.resource}`,
    phase: r.isAttempt ? ('attempt' as const) : ('single' as const),
    outcome,
    error: errorOf(r),
    endpoint: mapping.endpoint,
    client: clientOf(r),
    ...principalsOf(r),
    audience,
    tokens: tokensOf(r),
    net: given({
      client_ip: textList(own(value, 'sourceIPs'))?.[0],
      user_agent: textIn(value, 'userAgent'),
    }),
    http: httpOf(r),
    policy: policyOf(r),
    key: keyOf(r),
    ext: given({
      namespace: textIn(r.object, 'namespace'),
      object: textIn(r.object, 'name'),
      authorization_reason: textIn(objectIn(value, 'annotations'), 'authorization.k8s.io/reason'),
    }),
  });
}

/** Why a token was not good, told by the words of the authenticators. */
const REJECTIONS: readonly (readonly [pattern: RegExp, code: string])[] = [
  [/expired/i, 'expired'],
  [/not (?:yet )?valid|nbf/i, 'not_yet_valid'],
  [/signature|cryptographic primitive/i, 'invalid_signature'],
  [/audience/i, 'invalid_audience'],
  [/issuer/i, 'unknown_issuer'],
];

/** A review that finds the token not good has answered well; that the token was refused is an event of its own. */
function rejectionOf(r: Reading, event: AuthEventDraft): AuthEventDraft[] {
  const isRefused = event.outcome === 'success' && own(r.status, 'authenticated') !== true;
  if (event.kind !== 'token_introspected' || !isRefused || Object.keys(r.status).length === 0)
    return [];
  const detail = scalarText(own(r.status, 'error'));
  const code = REJECTIONS.find(([p]) => p.test(detail?.slice(0, 1_000) ?? ''))?.[1];
  return [
    {
      ...event,
      kind: 'token_rejected',
      outcome: 'failure',
      sub_id: 'token_rejected',
      error: given({ code: code ?? 'invalid_token', detail }),
    },
  ];
}

function isAuditEvent(value: Json): boolean {
  const version = textIn(value, 'apiVersion') ?? '';
  if (version.startsWith('audit.k8s.io/')) return textIn(value, 'kind') === 'Event';
  // In an EventList the items leave out what they are.
  return (
    version === '' && textIn(value, 'auditID') !== undefined && textIn(value, 'stage') !== undefined
  );
}

function parse(record: SourceRecord): ParseResult {
  if (record.form === 'text') return refuse('unsupported_form', 'text: allowed is a JSON object');
  const { value } = record;
  if (!isJson(value)) return refuse('not_an_object', 'record: must be a JSON object');
  if (!isAuditEvent(value)) {
    return refuse(
      'unrecognised_record',
      'record: no Kubernetes audit event; kind Event of audit.k8s.io, or auditID and stage, are needed',
    );
  }
  const rawTime = own(value, 'requestReceivedTimestamp') ?? own(value, 'stageTimestamp');
  if (rawTime === undefined) {
    return refuse('missing_field', 'requestReceivedTimestamp: is required, or stageTimestamp');
  }
  const time = timeNs(rawTime);
  if (time === undefined) {
    return refuse('invalid_time', `requestReceivedTimestamp: not a time; ${TIME_ALLOWED}`);
  }
  const object = objectIn(value, 'objectRef');
  const resource = [textIn(object, 'resource'), textIn(object, 'subresource')]
    .filter(Boolean)
    .join('/');
  const verb = textIn(value, 'verb') ?? '';
  const stage = textIn(value, 'stage') ?? '';
  const path = textIn(value, 'requestURI')?.split(/[?#]/, 1)[0] ?? '';
  const reading: Reading = {
    ...{ value, time, stage, verb, object, resource, path },
    isAttempt: stage === 'RequestReceived' || stage === 'ResponseStarted',
    user: objectIn(value, 'user'),
    spec: objectIn(objectIn(value, 'requestObject'), 'spec'),
    status: objectIn(objectIn(value, 'responseObject'), 'status'),
    mapping: mappingOf(verb, resource, path),
  };
  const event = draftOf(reading);
  return { ok: true, events: [event, ...rejectionOf(reading, event)] };
}

/** The event that a cloud's log record carries as text: AKS (`properties.log`), EKS by CloudWatch (`message`). */
function carriedBy(record: unknown): unknown {
  if (!isJson(record)) return record;
  const text = own(objectIn(record, 'properties'), 'log') ?? own(record, 'message');
  if (typeof text !== 'string' || !text.startsWith('{') || text.length > LOG_TEXT_LENGTH_MAX) {
    return record;
  }
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return record;
  }
}

function unwrap(value: unknown): readonly unknown[] | undefined {
  if (!isJson(value)) return undefined;
  for (const name of ['items', 'records', 'logEvents']) {
    const records = own(value, name);
    if (Array.isArray(records)) return (records as readonly unknown[]).map(carriedBy);
  }
  const carried = carriedBy(value);
  return carried === value ? undefined : [carried];
}

/**
 * Audit events of the Kubernetes API server: its log file, its webhook (an EventList), or the log of a cloud that
 * carries them. A token of a service account is known by its `jti` from the request that issued it to each request
 * that presents it. Stages before the last are attempts.
 */
export default defineSource({
  id: 'kubernetes_audit',
  title: 'Kubernetes audit log',
  vendor: 'kubernetes',
  product: 'kube-apiserver',
  description: 'Audit events of the Kubernetes API server, by file, webhook or the log of a cloud.',
  forms: ['json'],
  kinds: [
    'token_issued',
    'token_request_failed',
    'token_rejected',
    'token_introspected',
    'client_registered',
    'client_updated',
    'client_deleted',
    'policy_changed',
    'jwks_fetched',
    'secret_read',
    'secret_changed',
    'policy_decided',
    'api_accessed',
    'unclassified',
  ],
  provides: [
    ...['event_id', 'time', 'observed_time', 'kind', 'phase', 'outcome', 'source.raw_type'],
    ...['error.code', 'error.detail', 'endpoint', 'client.id', 'audience'],
    ...['subject.ref', 'subject.type', 'actor.ref', 'actor.type'],
    ...['tokens', 'tokens.role', 'tokens.type', 'tokens.ref', 'tokens.ref_kind'],
    ...['tokens.expires_at', 'net.client_ip', 'net.network', 'net.user_agent', 'net.ua_family'],
    ...['http.method', 'http.route', 'http.status', 'http.duration_ms'],
    ...['policy.decision', 'policy.path', 'key.kid', 'key.operation', 'key.store', 'ext'],
  ],
  blind_for: {
    code_redeemed_twice: 'tokens of service accounts come without codes',
    refresh_token_reuse: 'tokens of service accounts are not refreshed',
  },
  confirmed_by: 'real_samples',
  references: [
    'Kubernetes: Auditing, audit.k8s.io/v1 Event',
    'Kubernetes: Managing service accounts, TokenRequest and TokenReview',
    'KEP-4193 (credential ids in audit events)',
  ],
  unwrap,
  parse,
});
