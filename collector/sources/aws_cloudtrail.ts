import { defineSource, type ParseResult, type SourceRecord } from '../../model/define_source.ts';
import type { AuthEventDraft, PrincipalDraft, TokenDraft } from '../../model/draft.ts';
import type { EventKind, Outcome } from '../../model/kinds.ts';
import { AWS_OPERATIONS, type AwsOperation } from './_aws_operations.ts';
import {
  isAwsMask,
  readCloudTrail,
  unwrapCloudTrail,
  type CloudTrailRecord,
} from './_cloudtrail_record.ts';
import {
  given,
  isJson,
  type Json,
  lookUp,
  objectIn,
  own,
  textIn,
  textList,
  timeNs,
} from './_reading.ts';

/** Secrets and parameters told of in one record. */
const NAMES_MAX = 50;

/** Temporary credentials: their id says so, is no secret, and stands in every call that they make. */
const TEMPORARY_KEY = /^ASIA[A-Z0-9]{12,124}$/;

interface Reading {
  readonly record: CloudTrailRecord;
  readonly operation: AwsOperation;
  readonly kind: EventKind;
  readonly outcome: Outcome;
}

const UNCLASSIFIED: AwsOperation = { kind: 'unclassified' };
const API_CALL: AwsOperation = { kind: 'api_accessed' };

function operationOf(record: CloudTrailRecord): AwsOperation {
  const known = lookUp(AWS_OPERATIONS, `${record.service}:${record.name}`);
  // A parameter that is not decrypted may be a secret, but is not shown.
  const isPlain = record.service === 'ssm' && own(record.request, 'withDecryption') !== true;
  if (known?.kind === 'secret_read' && isPlain) return API_CALL;
  if (known !== undefined) return known;
  return textIn(record.value, 'eventType') === 'AwsApiCall' ? API_CALL : UNCLASSIFIED;
}

/** A sign-in is an answer, not an error: `{"ConsoleLogin": "Failure"}`. */
function outcomeOf(record: CloudTrailRecord): Outcome {
  const told = textIn(record.response, record.name)?.toLowerCase();
  if (told === 'failure') return 'failure';
  return record.common.outcome ?? 'unknown';
}

/** `Aug 13, 2020, 12:03:12 AM`, the form of times in responses, in UTC. */
const RESPONSE_TIME = /^([A-Z][a-z]{2}) (\d{1,2}), (\d{4}),? (\d{1,2}):(\d{2}):(\d{2})\s?(AM|PM)$/;
const MONTHS = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'];

function responseTime(value: unknown): bigint | undefined {
  if (typeof value !== 'string' || value.length > 40) return timeNs(value);
  // Newer Java puts a narrow no-break space before AM and PM.
  const m = RESPONSE_TIME.exec(value.replace('\u202f', ' '));
  if (m === null) return timeNs(value);
  const [, month = '', day = '', year = '', hour = '', minute = '', second = '', half = ''] = m;
  const hours = (Number(hour) % 12) + (half === 'PM' ? 12 : 0);
  const two = (n: number | string): string => String(n).padStart(2, '0');
  return timeNs(
    `${year}-${two(MONTHS.indexOf(month) + 1)}-${two(day)}T${two(hours)}:${minute}:${second}Z`,
  );
}

function accessKeyOf(identity: Json): string | undefined {
  const id = textIn(identity, 'accessKeyId');
  return id !== undefined && TEMPORARY_KEY.test(id) ? id : undefined;
}

/** Temporary credentials are the access tokens of AWS, named by their access key id. */
function tokensOf(r: Reading): TokenDraft[] {
  const { record, kind } = r;
  const caller = accessKeyOf(record.identity);
  const isExchange = kind === 'token_exchanged' || kind === 'token_issued';
  const tokens: TokenDraft[] = [];
  if (caller !== undefined) {
    tokens.push({ role: isExchange ? 'subject' : 'presented', type: 'access', vendor_id: caller });
  }
  const made = objectIn(record.response, 'credentials');
  const id = accessKeyOf(made);
  if (!isExchange || id === undefined) return tokens;
  return [
    ...tokens,
    given({
      role: 'issued' as const,
      type: 'access' as const,
      vendor_id: id,
      parent: caller === undefined ? undefined : { vendor_id: caller },
      issued_at: record.time,
      expires_at: responseTime(own(made, 'expiration')),
    }),
  ];
}

/** An identity provider by its URL, which is the issuer of its tokens. */
function issuerOf(record: CloudTrailRecord): string | undefined {
  const provider =
    textIn(record.response, 'provider') ?? textIn(record.identity, 'identityProvider');
  if (provider === undefined) return undefined;
  const host = /^arn:[^:]{1,20}:iam::\d{0,20}:oidc-provider\/(.+)$/.exec(provider)?.[1] ?? provider;
  return /^[a-z0-9.-]+\.[a-z]{2,}(?:\/|$)/i.test(host) ? `https://${host}` : host;
}

/** The account or role behind a call, without the name of the session. */
function clientOf(r: Reading): AuthEventDraft['client'] {
  const { record, operation } = r;
  if (operation.about === 'client') {
    const id = textIn(record.request, 'clientId') ?? textIn(record.response, 'clientId');
    const name = textIn(record.request, 'clientName');
    return given({ id: id === undefined || isAwsMask(id) ? undefined : id, name });
  }
  const issuer = objectIn(objectIn(record.identity, 'sessionContext'), 'sessionIssuer');
  const id = textIn(issuer, 'arn');
  return id === undefined ? undefined : { id };
}

function isPersonIdentity(identity: Json): boolean {
  const arn = textIn(identity, 'arn') ?? '';
  // Roles that Identity Center makes are taken by people alone.
  return /:assumed-role\/AWSReservedSSO_/.test(arn);
}

function actorOf({ record }: Reading): PrincipalDraft | undefined {
  const { actor } = record.common;
  if (actor === undefined || !isPersonIdentity(record.identity)) return actor;
  return { ...actor, type: 'user' };
}

function principalsOf(r: Reading): Pick<AuthEventDraft, 'subject' | 'actor'> {
  const { record, kind } = r;
  const web = textIn(record.response, 'subjectFromWebIdentityToken');
  if (kind === 'token_exchanged') {
    const sub =
      web ??
      (textIn(record.identity, 'type') === 'WebIdentityUser'
        ? textIn(record.identity, 'userName')
        : undefined);
    if (sub !== undefined) return { subject: { id: sub, type: 'unknown' } };
  }
  const actor = actorOf(r);
  const isOwn =
    kind === 'login' ||
    kind === 'login_failed' ||
    kind === 'api_accessed' ||
    kind.startsWith('token_') ||
    kind.startsWith('mfa_');
  return given(isOwn ? { subject: actor } : { actor });
}

const accountOf = (record: CloudTrailRecord): string => record.common.source_tenant ?? '';
const regionOf = (record: CloudTrailRecord): string => textIn(record.value, 'awsRegion') ?? '';

/** The KMS key by its ARN: the request may name it by an alias. */
function kmsKeyOf(record: CloudTrailRecord): string | undefined {
  const resources = own(record.value, 'resources');
  const listed = Array.isArray(resources) ? (resources as readonly unknown[]) : [];
  const arns = listed
    .slice(0, NAMES_MAX)
    .map((x) => (isJson(x) ? textIn(x, 'ARN', 'arn') : undefined));
  const arn = arns.find((a) => a?.includes(':key/') === true);
  const { request, response } = record;
  const metadata = objectIn(response, 'keyMetadata');
  const id =
    arn ??
    textIn(metadata, 'arn', 'keyId') ??
    textIn(request, 'targetKeyId', 'keyId') ??
    textIn(response, 'keyId') ??
    textIn(objectIn(record.value, 'serviceEventDetails'), 'keyId');
  if (id === undefined || id.startsWith('arn:')) return id;
  return `arn:aws:kms:${regionOf(record)}:${accountOf(record)}:${id.startsWith('alias/') ? id : `key/${id}`}`;
}

const SECRET_ARN =
  /^arn:[^:]{1,20}:secretsmanager:([^:]{1,30}):(\d{1,20}):secret:(.+?)(?:-[A-Za-z0-9]{6})?$/;

/**
 * A secret by account, region and name: calls give its name or its ARN, with six characters appended. Not by the
 * ARN, whose word `secret:` makes whatever follows it look like one.
 */
function secretOf(record: CloudTrailRecord, name: string): string {
  const m = SECRET_ARN.exec(name);
  if (m !== null) return `secretsmanager/${m[2] ?? ''}/${m[1] ?? ''}/${m[3] ?? ''}`;
  return `${storeOf(record)}/${name}`;
}

function parameterOf(record: CloudTrailRecord, name: string): string {
  if (name.startsWith('arn:')) return name;
  return `arn:aws:ssm:${regionOf(record)}:${accountOf(record)}:parameter/${name.replace(/^\//, '')}`;
}

function textsIn(value: Json, ...names: readonly string[]): readonly string[] {
  for (const name of names) {
    const texts = textList(own(value, name));
    if (texts !== undefined) return texts;
  }
  return [];
}

/** What the record is about; several of them where several secrets were asked for at once. */
function keysOf({ record, operation }: Reading): readonly string[] {
  const { request, response } = record;
  switch (operation.about) {
    case 'kms_key':
      return [kmsKeyOf(record) ?? ''].filter((k) => k !== '');
    case 'secret': {
      const names = [
        ...textsIn(request, 'secretId', 'secretIdList', 'name'),
        ...textsIn(response, 'arn', 'aRN', 'ARN'),
        ...textsIn(record.additional, 'SecretId'),
      ];
      const keys = names.slice(0, NAMES_MAX).map((n) => secretOf(record, n));
      const isList = own(request, 'secretIdList') !== undefined;
      return isList ? [...new Set(keys)] : keys.slice(0, 1);
    }
    case 'parameter':
      return textsIn(request, 'name', 'names', 'path')
        .slice(0, NAMES_MAX)
        .map((n) => parameterOf(record, n));
    default:
      return [];
  }
}

function policyOf({ record, operation, kind }: Reading): AuthEventDraft['policy'] {
  if (kind !== 'policy_changed' || operation.about !== 'policy') return undefined;
  const target = textIn(record.request, 'roleName', 'userName', 'groupName');
  const policy = textIn(
    record.request,
    'policyArn',
    'policyName',
    'openIDConnectProviderArn',
    'url',
    'name',
  );
  const path = [target, policy].filter(Boolean).join(' ');
  return path === '' ? undefined : { path };
}

const GRANT_TYPES: Readonly<Record<string, EventKind>> = { refresh_token: 'token_refreshed' };

function readingOf(record: CloudTrailRecord): Reading {
  const operation = operationOf(record);
  const outcome = outcomeOf(record);
  const hasFailed = outcome === 'failure' || outcome === 'denied';
  const byGrant = lookUp(GRANT_TYPES, textIn(record.request, 'grantType') ?? '');
  const kind =
    operation.kind === 'token_issued' && operation.about === 'client'
      ? (byGrant ?? operation.kind)
      : operation.kind;
  return { record, operation, outcome, kind: hasFailed ? (operation.failed ?? kind) : kind };
}

/** True where AWS removed a value of the request or the response. */
function isMaskedIn(values: Json): boolean {
  return Object.values(values).some((v) => typeof v === 'string' && isAwsMask(v));
}

function extOf({ record }: Reading): Record<string, string> {
  const roleArn = textIn(record.request, 'roleArn');
  return given({
    aws_service: record.service,
    role_arn: roleArn,
    event_type: textIn(record.value, 'eventType'),
    pending_window_days: textIn(record.request, 'pendingWindowInDays'),
  });
}

function errorOf({ record, outcome }: Reading): AuthEventDraft['error'] {
  if (record.common.error !== undefined || outcome !== 'failure') return record.common.error;
  return given({ code: 'Failure', detail: textIn(record.value, 'errorMessage') });
}

function draftOf(r: Reading): AuthEventDraft {
  const { record, operation } = r;
  const { request, response, common } = record;
  const audience = textIn(response, 'audience');
  const hasMfa = textIn(record.additional, 'MFAUsed') === 'Yes';
  const { subject, actor } = principalsOf(r);
  // Member by member: spreading objects of many shapes takes more time than all the rest.
  return given({
    kind: r.kind,
    time: common.time,
    vendor_event_id: common.vendor_event_id,
    raw_type: `${record.service}:${record.name}`,
    instance: common.instance,
    source_tenant: common.source_tenant,
    outcome: r.outcome,
    error: errorOf(r),
    endpoint: operation.endpoint,
    grant_type: textIn(request, 'grantType'),
    client: clientOf(r),
    subject,
    actor,
    issuer: issuerOf(record),
    audience: audience === undefined ? undefined : [audience],
    tokens: tokensOf(r),
    net: given({
      client_ip: common.net?.client_ip,
      ip_role: r.kind === 'login' || r.kind === 'login_failed' ? ('end_user' as const) : undefined,
      user_agent: common.net?.user_agent,
    }),
    policy: policyOf(r),
    amr: hasMfa ? ['mfa'] : undefined,
    corr: common.corr,
    upstream_redaction: isMaskedIn(request) || isMaskedIn(response) ? true : undefined,
    ext: extOf(r),
  });
}

function storeOf(record: CloudTrailRecord): string {
  return `${record.service}/${accountOf(record)}/${regionOf(record)}`;
}

function parse(record: SourceRecord): ParseResult {
  const read = readCloudTrail(record);
  if (!read.ok) return read;
  const reading = readingOf(read.record);
  const event = draftOf(reading);
  const keys = keysOf(reading);
  if (keys.length === 0) return { ok: true, events: [event] };
  const store = storeOf(read.record);
  return {
    ok: true,
    events: keys.map((kid, i) => ({
      ...event,
      ...(i === 0 ? {} : { sub_id: kid }),
      key: { kid, operation: read.record.name, store },
    })),
  };
}

/**
 * AWS CloudTrail: temporary credentials of STS from their issue to every call that they make, keys of KMS, secrets,
 * console sign-ins and Identity Center. Other API calls are told as such. Records of Amazon Cognito belong to the
 * source `cognito`.
 */
export default defineSource({
  id: 'aws_cloudtrail',
  title: 'AWS CloudTrail',
  vendor: 'aws',
  product: 'cloudtrail',
  description:
    'Records of AWS CloudTrail: STS, KMS, Secrets Manager, sign-in, Identity Center and other API calls.',
  forms: ['json'],
  kinds: [
    'device_authorization_requested',
    'token_issued',
    'token_refreshed',
    'token_exchanged',
    'token_request_failed',
    'login',
    'login_failed',
    'mfa_challenged',
    'mfa_result',
    'session_ended',
    'client_registered',
    'client_credential_changed',
    'policy_changed',
    'key_created',
    'key_rotated',
    'key_disabled',
    'key_deleted',
    'key_used',
    'secret_read',
    'secret_changed',
    'api_accessed',
    'federation_handshake',
    'unclassified',
  ],
  provides: [
    ...['event_id', 'time', 'kind', 'phase', 'outcome', 'source.instance', 'source.tenant'],
    ...['source.raw_type', 'error.code', 'error.detail', 'endpoint', 'grant_type'],
    ...['client.id', 'client.name', 'subject.ref', 'subject.type', 'actor.ref', 'actor.type'],
    ...['issuer', 'audience', 'tokens', 'tokens.role', 'tokens.type', 'tokens.ref'],
    ...['tokens.ref_kind', 'tokens.parent_ref', 'tokens.issued_at', 'tokens.expires_at'],
    ...['net.client_ip', 'net.ip_role', 'net.network', 'net.user_agent', 'net.ua_family'],
    ...['policy.path', 'key.kid', 'key.operation', 'key.store', 'amr', 'corr.request_id', 'ext'],
  ],
  blind_for: {
    code_redeemed_twice: 'temporary credentials are neither codes nor refresh tokens',
    refresh_family_fork: 'temporary credentials are neither codes nor refresh tokens',
    refresh_token_reuse: 'temporary credentials are neither codes nor refresh tokens',
  },
  confirmed_by: 'real_samples',
  references: [
    'AWS CloudTrail: record contents, userIdentity element, console sign-in events',
    'AWS KMS, AWS STS, AWS Secrets Manager: logging API calls with CloudTrail',
  ],
  unwrap: unwrapCloudTrail,
  parse,
});
