/**
 * The OpenTelemetry attributes that `instrumentation/` writes and the collector reads: one place for both.
 *
 * A span or log record that carries `oauth.event.kind` is one auth event. A span event named
 * `oauth.auth_event` with that attribute is one more. All values are redacted before they leave the
 * process: tokens, subjects, sessions and grants travel as references only (see model/ids.ts).
 * Standard attributes of the semantic conventions are used where they exist (`client.address`,
 * `user_agent.original`, `http.request.method`, `http.route`, `http.response.status_code`).
 */
export const AUTH_EVENT_NAME = 'oauth.auth_event';

export const ATTR = {
  kind: 'oauth.event.kind',
  /** Id of the event, any text; makes a resend recognisable. */
  eventId: 'oauth.event.id',
  phase: 'oauth.event.phase',
  outcome: 'oauth.event.outcome',
  rawType: 'oauth.event.raw_type',
  errorCode: 'oauth.error.code',
  /** RFC 6749 error code. */
  oauthError: 'oauth.error',
  errorDetail: 'oauth.error.description',
  grantType: 'oauth.grant_type',
  responseType: 'oauth.response_type',
  endpoint: 'oauth.endpoint',
  clientId: 'oauth.client_id',
  clientName: 'oauth.client_name',
  clientAuthMethod: 'oauth.client_auth_method',
  requestedClientId: 'oauth.requested_client_id',
  subjectRef: 'oauth.subject.ref',
  subjectType: 'oauth.subject.type',
  actorRef: 'oauth.actor.ref',
  actorType: 'oauth.actor.type',
  issuer: 'oauth.issuer',
  /** string[] */
  audience: 'oauth.audience',
  /** string[] */
  resource: 'oauth.resource',
  /** string[] */
  scopesRequested: 'oauth.scopes_requested',
  /** string[] */
  scopesGranted: 'oauth.scopes_granted',
  redirectUri: 'oauth.redirect_uri',
  pkce: 'oauth.pkce',
  binding: 'oauth.binding',
  bindingThumbprint: 'oauth.binding_thumbprint',
  sessionRef: 'oauth.session.ref',
  grantRef: 'oauth.grant.ref',
  /** end_user, client_backend, proxy */
  ipRole: 'oauth.client_ip_role',
  policyDecision: 'oauth.policy.decision',
  acr: 'oauth.acr',
  /** string[] */
  amr: 'oauth.amr',
  durationMs: 'oauth.duration_ms',
  /** Id of the key that made the references. */
  keyId: 'oauth.redaction.key_id',
  /**
   * While the hash key is being changed (docs/adr/0007-key-rotation.md): the key that takes over next, and the
   * references that it makes of the same things; tokens have `next_ref` and its kin among their fields.
   */
  nextKeyId: 'oauth.redaction.next_key_id',
  subjectNextRef: 'oauth.subject.next_ref',
  actorNextRef: 'oauth.actor.next_ref',
  sessionNextRef: 'oauth.session.next_ref',
  grantNextRef: 'oauth.grant.next_ref',
  requestId: 'oauth.request_id',
  // Semantic conventions.
  clientAddress: 'client.address',
  userAgent: 'user_agent.original',
  httpMethod: 'http.request.method',
  httpRoute: 'http.route',
  httpStatus: 'http.response.status_code',
} as const;

/**
 * Registered client metadata on client_registered and client_updated events (RFC 7591 names), which the
 * collector keeps in `ext` under the part after `oauth.client.`: `redirect_uris` and `scope` joined by a
 * space, `grant_types` likewise.
 */
export const CLIENT_METADATA_PREFIX = 'oauth.client.metadata.';

/**
 * A mentioned token: `oauth.token.<role>.<type>.<field>` with field one of ref, ref_kind, family_ref,
 * parent_ref, counter, issued_at, expires_at (epoch seconds), kid, alg; while the hash key is being changed
 * also next_ref, next_family_ref, next_parent_ref.
 * Example: `oauth.token.issued.access.ref`.
 */
export const TOKEN_ATTRIBUTE_PREFIX = 'oauth.token.';

/** Further facts for `ext`: `oauth.ext.<name>` = text. */
export const EXT_ATTRIBUTE_PREFIX = 'oauth.ext.';

/** On a log record whose body is a vendor's record: the source id that must parse it. */
export const SOURCE_ATTRIBUTE = 'grantscope.source';
