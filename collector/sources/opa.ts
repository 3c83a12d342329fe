import { defineSource, type ParseResult, type SourceRecord } from '../../model/define_source.ts';
import type { AuthEventDraft, PrincipalDraft, TokenDraft } from '../../model/draft.ts';
import type { Outcome } from '../../model/kinds.ts';
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

/** Bundles whose revision is written down. */
const BUNDLES_MAX = 20;
/** Parts of a path that an input gives as a list. */
const PATH_PARTS_MAX = 100;
const NS_PER_MS = 1e6;

/** `no_result`: the rule is undefined for this input, which enforcement points commonly take as a refusal. */
type Decision = 'allow' | 'deny' | 'no_result';

const OUTCOMES: Readonly<Record<Decision, Outcome>> = {
  allow: 'success',
  deny: 'denied',
  no_result: 'unknown',
};

/** Rules that state what is refused: what they hold is the opposite of a permission. */
const REFUSING = /(?:^|[/.])(?:deny|denied|violations?)$/;
const VERDICT_NAMES = ['allow', 'allowed', 'authorized', 'permit', 'permitted'];

/**
 * A policy may decide anything; taken is what is a permission by its form: a boolean, an object with such a
 * member, or the set of a rule that states what is refused.
 */
function decisionOf(result: unknown, refusing: boolean): Decision | undefined {
  if (Array.isArray(result) && refusing) return result.length === 0 ? 'allow' : 'deny';
  if (isJson(result)) {
    const verdict = VERDICT_NAMES.map((n) => own(result, n)).find((v) => typeof v === 'boolean');
    return verdict === undefined ? undefined : decisionOf(verdict, false);
  }
  if (result !== true && result !== false && result !== 'true' && result !== 'false') {
    return undefined;
  }
  return (result === true || result === 'true') === refusing ? 'deny' : 'allow';
}

interface Reading {
  readonly value: Json;
  readonly time: bigint;
  readonly input: Json;
  /** The request that Envoy asks about (`envoy.service.auth.v3`). */
  readonly envoy: Json;
  readonly path: string | undefined;
}

/** Headers by lower-case names, of the input or as OPA's server noted them. */
function headerOf(r: Reading, name: string): string | undefined {
  const noted = objectIn(objectIn(objectIn(r.value, 'request_context'), 'http'), 'headers');
  for (const headers of [objectIn(r.envoy, 'headers'), objectIn(r.input, 'headers'), noted]) {
    const text = textList(own(headers, name))?.[0];
    if (text !== undefined) return text;
  }
  return undefined;
}

/** The members that policies commonly take the decoded token from. */
const CLAIMS_NAMES = ['claims', 'token_payload', 'jwt', 'token', 'principal', 'user', 'subject'];

function claimsOf(r: Reading): Json {
  const found = CLAIMS_NAMES.map((n) => objectIn(r.input, n)).find(
    (c) => textIn(c, 'sub', 'jti') !== undefined,
  );
  return found ?? {};
}

/** Who the decision is about: claims of the token, else what the input calls the user. */
function subjectOf(r: Reading, claims: Json): PrincipalDraft | undefined {
  const sub = textIn(claims, 'sub');
  if (sub !== undefined) return { id: sub };
  for (const name of ['user', 'subject', 'principal']) {
    const member = own(r.input, name);
    const id = isJson(member) ? textIn(member, 'id', 'username', 'name') : scalarText(member);
    if (id !== undefined) return { id };
  }
  const peer = textIn(objectIn(objectIn(r.input, 'attributes'), 'source'), 'principal');
  if (peer !== undefined) return { id: peer, type: 'service' };
  const admitted = objectIn(objectIn(r.input, 'request'), 'userInfo');
  const name = textIn(admitted, 'username');
  return name === undefined ? undefined : { id: name };
}

/** The token that the caller presented: decoded, or as it came, which makes a reference of it. */
function tokensOf(r: Reading, claims: Json): TokenDraft[] {
  const jti = textIn(claims, 'jti');
  const common = { role: 'presented' as const, type: 'access' as const };
  if (jti !== undefined) {
    const times = { issued_at: timeNs(own(claims, 'iat')), expires_at: timeNs(own(claims, 'exp')) };
    return [given({ ...common, jti, ...times })];
  }
  const bearer = /^\s{0,4}(?:Bearer|DPoP)\s+(\S+)/i.exec(headerOf(r, 'authorization') ?? '')?.[1];
  const plain = own(r.input, 'token');
  const raw = bearer ?? (typeof plain === 'string' && plain !== '' ? plain : undefined);
  return raw === undefined ? [] : [{ ...common, secret: new Secret(raw) }];
}

/** `[2001:db8::1]:59943` and `203.0.113.9:36412` without the port. */
function addressOf(peer: string | undefined): string | undefined {
  return /^\[([^\]]{2,60})\](?::\d{1,5})?$|^([^:]{3,40})(?::\d{1,5})?$/
    .exec(peer ?? '')
    ?.slice(1)
    .find(Boolean);
}

/** The caller as Envoy saw it; else who asked OPA, which is the enforcement point. */
function netOf(r: Reading): AuthEventDraft['net'] {
  const address = objectIn(objectIn(objectIn(r.input, 'attributes'), 'source'), 'address');
  const socket = objectIn(address, 'socketAddress');
  const downstream =
    textIn(socket, 'address') ?? textIn(objectIn(address, 'socket_address'), 'address');
  const asker = addressOf(textIn(r.value, 'requested_by'));
  return given({
    client_ip: downstream ?? asker,
    ip_role: downstream === undefined && asker !== undefined ? ('proxy' as const) : undefined,
    user_agent: headerOf(r, 'user-agent'),
  });
}

function routeOf(r: Reading): string | undefined {
  const path = own(r.input, 'path');
  const parts = Array.isArray(path) ? textList(path.slice(0, PATH_PARTS_MAX)) : undefined;
  const text =
    textIn(r.envoy, 'path') ?? (parts === undefined ? scalarText(path) : `/${parts.join('/')}`);
  return text?.split(/[?#]/, 1)[0];
}

function httpOf(r: Reading): AuthEventDraft['http'] {
  const ns = numberOf(own(objectIn(r.value, 'metrics'), 'timer_server_handler_ns'));
  return given({
    method: textIn(r.envoy, 'method') ?? textIn(r.input, 'method'),
    route: routeOf(r),
    duration_ms: ns === undefined ? undefined : ns / NS_PER_MS,
  });
}

/** One bundle's revision; of several, each by its name. */
function revisionOf(value: Json): string | undefined {
  const bundles = objectIn(value, 'bundles');
  const revisions = Object.keys(bundles)
    .slice(0, BUNDLES_MAX)
    .sort()
    .map((name) => [name, textIn(objectIn(bundles, name), 'revision') ?? ''] as const)
    .filter(([, revision]) => revision !== '');
  if (revisions.length === 1) return revisions[0]?.[1];
  if (revisions.length === 0) return textIn(value, 'revision');
  return revisions.map(([name, revision]) => `${name}=${revision}`).join(' ');
}

function instanceOf(value: Json): string | undefined {
  const labels = objectIn(value, 'labels');
  const app = textIn(labels, 'app', 'service', 'name');
  const id = textIn(labels, 'id');
  return app !== undefined && id !== undefined ? `${app}/${id}` : (app ?? id);
}

function errorOf(value: Json): AuthEventDraft['error'] {
  const error = own(value, 'error');
  if (error === undefined || error === null) return undefined;
  if (isJson(error)) {
    return given({ code: textIn(error, 'code') ?? 'error', detail: textIn(error, 'message') });
  }
  return given({ code: 'error', detail: scalarText(error) });
}

const isListed = (value: unknown): boolean => Array.isArray(value) && value.length > 0;

function draftOf(r: Reading): AuthEventDraft {
  const { value, path } = r;
  const error = errorOf(value);
  const result = own(value, 'mapped_result') ?? own(value, 'result');
  const isHidden = own(value, 'erased');
  const wasErased = Array.isArray(isHidden) && isHidden.includes('/result');
  const decision =
    result === undefined
      ? wasErased
        ? undefined
        : 'no_result'
      : decisionOf(result, REFUSING.test(path ?? ''));
  const claims = claimsOf(r);
  const client = textIn(claims, 'client_id', 'azp');
  const host = textIn(r.envoy, 'host');
  return given({
    kind: 'policy_decided' as const,
    time: r.time,
    vendor_event_id: textIn(value, 'decision_id'),
    raw_type: path,
    instance: instanceOf(value),
    outcome:
      error !== undefined
        ? ('failure' as const)
        : (lookUp<Outcome>(OUTCOMES, decision ?? '') ?? 'unknown'),
    error,
    client: client === undefined ? undefined : { id: client },
    subject: subjectOf(r, claims),
    issuer: textIn(claims, 'iss'),
    audience: textList(own(claims, 'aud')),
    resource: host === undefined ? undefined : [host],
    scopes_granted: textList(own(claims, 'scope') ?? own(claims, 'scp')),
    tokens: tokensOf(r, claims),
    net: netOf(r),
    http: httpOf(r),
    policy: given({
      decision_id: textIn(value, 'decision_id'),
      path,
      decision: error === undefined ? decision : undefined,
      bundle_revision: revisionOf(value),
    }),
    corr: given({
      trace_id: textIn(value, 'trace_id'),
      span_id: textIn(value, 'span_id'),
      request_id: headerOf(r, 'x-request-id') ?? textIn(value, 'req_id'),
    }),
    upstream_redaction:
      isListed(own(value, 'erased')) || isListed(own(value, 'masked')) ? true : undefined,
  });
}

function parse(record: SourceRecord): ParseResult {
  if (record.form === 'text') return refuse('unsupported_form', 'text: allowed is a JSON object');
  const { value } = record;
  if (!isJson(value)) return refuse('not_an_object', 'record: must be a JSON object');
  if (textIn(value, 'decision_id') === undefined) {
    return refuse('unrecognised_record', 'record: no decision of OPA; decision_id is needed');
  }
  const rawTime = own(value, 'timestamp');
  if (rawTime === undefined) return refuse('missing_field', 'timestamp: is required');
  const time = timeNs(rawTime);
  if (time === undefined) return refuse('invalid_time', `timestamp: not a time; ${TIME_ALLOWED}`);
  const input = objectIn(value, 'input');
  const request = objectIn(objectIn(input, 'attributes'), 'request');
  const path =
    textIn(value, 'path') ?? (textIn(value, 'query') === undefined ? undefined : 'query');
  const reading = { value, time, input, envoy: objectIn(request, 'http'), path };
  return { ok: true, events: [draftOf(reading)] };
}

/**
 * Decision logs of Open Policy Agent: what OPA uploads (`decision_logs.service`), or its console writes. Of the
 * input is read what describes a request and its caller in the shapes of Envoy's external authorization, of OPA's
 * own HTTP examples and of Kubernetes admission; nothing else of it is stored.
 */
export default defineSource({
  id: 'opa',
  title: 'Open Policy Agent decision log',
  vendor: 'openpolicyagent',
  product: 'opa',
  description: 'Decision logs of Open Policy Agent, as it uploads or prints them.',
  forms: ['json'],
  kinds: ['policy_decided'],
  provides: [
    ...['event_id', 'time', 'kind', 'phase', 'outcome', 'source.instance', 'source.raw_type'],
    ...['error.code', 'error.detail', 'client.id', 'subject.ref', 'subject.type'],
    ...['issuer', 'audience', 'resource', 'scopes_granted'],
    ...['tokens', 'tokens.role', 'tokens.type', 'tokens.ref', 'tokens.ref_kind'],
    ...['tokens.issued_at', 'tokens.expires_at'],
    ...['net.client_ip', 'net.ip_role', 'net.network', 'net.user_agent', 'net.ua_family'],
    ...['http.method', 'http.route', 'http.duration_ms'],
    ...['policy.decision_id', 'policy.path', 'policy.decision', 'policy.bundle_revision'],
    ...['corr.trace_id', 'corr.span_id', 'corr.request_id'],
  ],
  confirmed_by: 'real_samples',
  references: [
    'Open Policy Agent: Decision logs',
    'Open Policy Agent: Envoy external authorization input',
  ],
  parse,
});
