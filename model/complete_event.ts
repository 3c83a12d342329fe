import type { AuthEvent, TokenMention } from './auth_event.ts';

type PartialDeep<T> = T extends bigint | string | number | boolean | null
  ? T
  : T extends readonly unknown[]
    ? T
    : { [K in keyof T]?: PartialDeep<T[K]> };

/** A mentioned token in short; `role`, `type` and `ref` are needed. */
export type PartialToken = Pick<TokenMention, 'role' | 'type' | 'ref'> & Partial<TokenMention>;

/** An event in short: what is left out is unknown. */
export type PartialEvent = Omit<PartialDeep<AuthEvent>, 'tokens' | 'ext'> &
  Pick<AuthEvent, 'event_id' | 'time' | 'kind'> & {
    tokens?: readonly PartialToken[];
    ext?: Readonly<Record<string, string>>;
  };

/** Fills in a token; everything unknown is '', null or hmac. */
export function completeToken(token: PartialToken): TokenMention {
  return {
    ref_kind: 'hmac',
    family_ref: '',
    parent_ref: '',
    counter: null,
    issued_at: null,
    expires_at: null,
    kid: '',
    alg: '',
    ...token,
  };
}

/** Fills in an event, so that every AuthEvent has all fields (see model/auth_event.ts for what absent means). */
export function completeEvent(e: PartialEvent): AuthEvent {
  return {
    event_id: e.event_id,
    tenant: e.tenant ?? 'default',
    time: e.time,
    observed_time: e.observed_time ?? e.time,
    source: {
      id: '',
      vendor: '',
      product: '',
      instance: '',
      tenant: '',
      raw_type: '',
      ...e.source,
    },
    kind: e.kind,
    phase: e.phase ?? 'single',
    outcome: e.outcome ?? 'unknown',
    error: { code: '', oauth_error: '', detail: '', ...e.error },
    grant_type: e.grant_type ?? '',
    response_type: e.response_type ?? '',
    endpoint: e.endpoint ?? '',
    client: { id: '', name: '', auth_method: '', ...e.client },
    requested_client_id: e.requested_client_id ?? '',
    subject: { ref: '', type: 'unknown', ...e.subject },
    actor: { ref: '', type: 'unknown', ...e.actor },
    issuer: e.issuer ?? '',
    audience: e.audience ?? [],
    resource: e.resource ?? [],
    scopes_requested: e.scopes_requested ?? [],
    scopes_granted: e.scopes_granted ?? [],
    redirect_uri: e.redirect_uri ?? '',
    pkce: e.pkce ?? 'unknown',
    binding: e.binding ?? 'unknown',
    binding_thumbprint: e.binding_thumbprint ?? '',
    tokens: (e.tokens ?? []).map(completeToken),
    session_ref: e.session_ref ?? '',
    grant_ref: e.grant_ref ?? '',
    ...completeContext(e),
  };
}

type Context = Pick<
  AuthEvent,
  'net' | 'http' | 'policy' | 'key' | 'risk' | 'acr' | 'amr' | 'corr' | 'redaction' | 'ext'
>;

function completeContext(e: PartialEvent): Context {
  const agent = { user_agent: '', ua_family: '', ja4: '' };
  const place = { asn: 0, as_org: '', country: '', latitude: null, longitude: null, flags: [] };
  return {
    net: { client_ip: '', network: '', ...place, ...agent, ip_role: 'unknown', ...e.net },
    http: { method: '', route: '', status: null, duration_ms: null, ...e.http },
    policy: { decision_id: '', path: '', decision: '', bundle_revision: '', ...e.policy },
    key: { kid: '', operation: '', store: '', ...e.key },
    risk: e.risk ?? '',
    acr: e.acr ?? '',
    amr: e.amr ?? [],
    corr: { trace_id: '', span_id: '', request_id: '', transaction_id: '', ...e.corr },
    redaction: { fields: [], upstream: false, key_id: '', ...e.redaction },
    ext: { ...e.ext },
  };
}
