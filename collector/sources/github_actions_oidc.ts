import { defineSource, type ParseResult, type SourceRecord } from '../../model/define_source.ts';
import type { AuthEventDraft, TokenDraft } from '../../model/draft.ts';
import type { EventKind, Outcome } from '../../model/kinds.ts';
import { TOKEN_FIELDS } from './_field_groups.ts';
import {
  given,
  isJson,
  type Json,
  lookUp,
  objectIn,
  own,
  refuse,
  textIn,
  textList,
  timeNs,
  TIME_ALLOWED,
} from './_reading.ts';

/** A longer token is none of GitHub's, characters. */
const TOKEN_LENGTH_MAX = 16_384;

/** github.com, an enterprise's own path on it, or a GitHub Enterprise Server. */
const ISSUER =
  /^https:\/\/(?:token\.actions\.githubusercontent\.com(?:\/[\w.-]{1,100})?|[^/?#]{1,253}\/_services\/token)\/?$/;

/** What relying parties call their verdict. */
const VERDICTS: Readonly<Record<string, Outcome>> = {
  accepted: 'success',
  success: 'success',
  valid: 'success',
  rejected: 'failure',
  failure: 'failure',
  invalid: 'failure',
  denied: 'denied',
};

/** Reasons in the words that rules know, by what libraries call them. */
const REASONS: Readonly<Record<string, string>> = {
  ERR_JWT_EXPIRED: 'expired',
  token_expired: 'expired',
  expired_token: 'expired',
  exp: 'expired',
  nbf: 'not_yet_valid',
  iat: 'not_yet_valid',
  ERR_JWS_SIGNATURE_VERIFICATION_FAILED: 'invalid_signature',
  signature: 'invalid_signature',
  ERR_JWKS_NO_MATCHING_KEY: 'unknown_key',
  kid: 'unknown_key',
  aud: 'invalid_audience',
  audience: 'invalid_audience',
  iss: 'invalid_issuer',
  issuer: 'invalid_issuer',
  sub: 'untrusted_subject',
};

/** Claims that say where a token comes from. */
const EXT_CLAIMS = [
  ...['repository', 'repository_owner', 'repository_visibility', 'environment', 'ref', 'ref_type'],
  ...['ref_protected', 'base_ref', 'head_ref', 'event_name', 'workflow', 'workflow_ref'],
  ...['job_workflow_ref', 'runner_environment', 'run_id', 'run_attempt', 'enterprise'],
];

interface Token {
  readonly claims: Json;
  readonly header: Json;
}

/** The claims as the relying party logged them, from its record, from the token itself, or as the record itself. */
function tokenOf(value: Json): Token {
  const raw = textIn(value, 'token');
  const decoded = raw === undefined ? undefined : decode(raw);
  if (decoded !== undefined) return decoded;
  const nested = objectIn(value, 'claims');
  const isNested = Object.keys(nested).length > 0;
  return { claims: isNested ? nested : value, header: objectIn(value, 'header') };
}

function decode(raw: string): Token | undefined {
  const [header = '', payload = '', signature] = raw.trim().split('.', 4);
  if (raw.length > TOKEN_LENGTH_MAX || signature === undefined) return undefined;
  const claims = partOf(payload);
  return claims === undefined ? undefined : { claims, header: partOf(header) ?? {} };
}

function partOf(text: string): Json | undefined {
  try {
    const value: unknown = JSON.parse(Buffer.from(text, 'base64url').toString('utf8'));
    return isJson(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

/** A forged token may name another issuer: the claims that only these tokens have tell as well. */
function isOfActions(claims: Json): boolean {
  if (ISSUER.test(textIn(claims, 'iss') ?? '')) return true;
  return (
    textIn(claims, 'repository') !== undefined &&
    textIn(claims, 'workflow_ref', 'job_workflow_ref', 'run_id') !== undefined
  );
}

function presentedOf({ claims, header }: Token): TokenDraft {
  return given({
    role: 'presented' as const,
    type: 'id' as const,
    jti: textIn(claims, 'jti'),
    issued_at: timeNs(own(claims, 'iat')),
    expires_at: timeNs(own(claims, 'exp')),
    kid: textIn(header, 'kid'),
    alg: textIn(header, 'alg'),
  });
}

function errorOf(value: Json, outcome: Outcome): AuthEventDraft['error'] {
  if (outcome === 'success') return undefined;
  const error = objectIn(value, 'error');
  const code = textIn(value, 'error', 'reason') ?? textIn(error, 'code', 'name');
  const claim = textIn(error, 'claim') ?? textIn(value, 'claim');
  const known = lookUp(REASONS, claim ?? '') ?? lookUp(REASONS, code ?? '');
  return given({
    code: known ?? code,
    detail: textIn(error, 'message') ?? textIn(value, 'detail'),
  });
}

function extOf(claims: Json): Record<string, string> {
  return given(
    Object.fromEntries(EXT_CLAIMS.map((name) => [name, textIn(claims, name)])),
  ) as Record<string, string>;
}

function draftOf(value: Json, token: Token, time: bigint): AuthEventDraft {
  const { claims } = token;
  const verdict = textIn(value, 'outcome', 'result', 'verdict')?.toLowerCase() ?? '';
  const outcome = lookUp(VERDICTS, verdict) ?? 'unknown';
  const kind: EventKind =
    outcome === 'failure' || outcome === 'denied' ? 'token_rejected' : 'token_validated';
  const request = objectIn(value, 'request');
  const sub = textIn(claims, 'sub');
  const actor = textIn(claims, 'actor_id', 'actor');
  const run = textIn(claims, 'run_id');
  const resource = textIn(value, 'resource', 'audience_resource');
  return given({
    kind,
    time,
    vendor_event_id: value === claims ? undefined : textIn(value, 'id'),
    raw_type: verdict === '' ? 'id_token' : `id_token ${verdict}`,
    instance: value === claims ? undefined : textIn(value, 'instance'),
    source_tenant: textIn(claims, 'repository_owner'),
    outcome,
    error: value === claims ? undefined : errorOf(value, outcome),
    client: given({ id: textIn(claims, 'repository'), name: textIn(claims, 'workflow') }),
    subject: sub === undefined ? undefined : { id: sub, type: 'service' as const },
    actor: actor === undefined ? undefined : { id: actor, type: 'user' as const },
    issuer: textIn(claims, 'iss'),
    audience: textList(own(claims, 'aud')),
    resource: resource === undefined ? undefined : [resource],
    tokens: [presentedOf(token)],
    // One run of a workflow, however many tokens it asks for.
    session: run === undefined ? undefined : { id: `${textIn(claims, 'repository') ?? ''}/${run}` },
    net: given({
      client_ip: textIn(request, 'ip'),
      ip_role: 'client_backend' as const,
      user_agent: textIn(request, 'user_agent'),
    }),
    corr: given({ request_id: textIn(request, 'id') }),
    ext: extOf(claims),
  });
}

function parse(record: SourceRecord): ParseResult {
  if (record.form === 'text') {
    return refuse('unsupported_form', 'text: allowed is JSON with the claims of the token');
  }
  const { value } = record;
  if (!isJson(value)) return refuse('not_an_object', 'record: must be a JSON object');
  const token = tokenOf(value);
  if (!isOfActions(token.claims)) {
    return refuse(
      'unrecognised_record',
      'record: no ID token of GitHub Actions; claims with iss, or with repository and workflow_ref, are needed',
    );
  }
  const stamp =
    own(value, 'time') ??
    own(value, 'timestamp') ??
    own(value, '@timestamp') ??
    own(token.claims, 'iat');
  if (stamp === undefined) return refuse('missing_field', 'time: is required, or iat');
  const time = timeNs(stamp);
  if (time === undefined) return refuse('invalid_time', `time: not a time; ${TIME_ALLOWED}`);
  return { ok: true, events: [draftOf(value, token, time)] };
}

/**
 * The ID tokens of GitHub Actions where they are presented: what a relying party (a cloud's token service, a vault, an
 * API of one's own) saw in one and decided. A record is `{time, outcome, claims, header, error, resource, request}`, or
 * the claims alone. A token in `token` is read for its claims and never kept; its signature is the relying party's matter.
 */
export default defineSource({
  id: 'github_actions_oidc',
  title: 'GitHub Actions OIDC',
  vendor: 'github',
  product: 'actions_oidc',
  description: 'ID tokens of GitHub Actions workflows, as a relying party sees and judges them.',
  forms: ['json'],
  kinds: ['token_validated', 'token_rejected'],
  provides: [
    ...['event_id', 'time', 'kind', 'outcome'],
    ...['source.instance', 'source.tenant', 'source.raw_type', 'error.code', 'error.detail'],
    ...['client.id', 'client.name', 'subject.ref', 'subject.type', 'actor.ref', 'actor.type'],
    ...['issuer', 'audience', 'resource'],
    ...TOKEN_FIELDS.filter((f) => f !== 'tokens.family_ref'),
    ...['tokens.issued_at', 'tokens.expires_at', 'tokens.kid', 'tokens.alg', 'session_ref'],
    ...['net.client_ip', 'net.ip_role', 'net.network', 'net.user_agent', 'net.ua_family'],
    ...['corr.request_id', 'ext'],
  ],
  blind_for: {
    refresh_family_fork: 'identity tokens are not refreshed',
    refresh_token_reuse: 'identity tokens are not refreshed',
  },
  confirmed_by: 'documents',
  references: [
    'GitHub Docs: OpenID Connect reference, OIDC token claims',
    'OpenID Connect Core 1.0 section 2; RFC 7519',
  ],
  parse,
});
