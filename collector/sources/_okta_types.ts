import type { EventKind, IpRole, Phase } from '../../model/kinds.ts';
import { lookUp } from './_reading.ts';

/** How an event of one type is read. The outcome is the event's own. */
export interface Mapping {
  readonly kind: EventKind;
  /** Kind where the outcome is a failure or a denial. */
  readonly failed?: EventKind;
  readonly endpoint?: string;
  readonly ip_role?: IpRole;
  readonly phase?: Phase;
  /** What failed, where the type itself says so. */
  readonly code?: string;
  readonly response_type?: string;
}

const user = (kind: EventKind, more: Partial<Mapping> = {}): Mapping => ({
  kind,
  ip_role: 'end_user',
  ...more,
});
const authorize = (kind: EventKind, more: Partial<Mapping> = {}): Mapping => ({
  kind,
  failed: 'authorization_failed',
  endpoint: 'authorization',
  ip_role: 'end_user',
  ...more,
});
const token: Mapping = {
  kind: 'token_issued',
  failed: 'token_request_failed',
  endpoint: 'token',
};

/**
 * Types without `app.oauth2.` and, for custom authorization servers, `as.`. One token request is told by one event for
 * each token: that of the access token counts.
 */
const OAUTH: Readonly<Record<string, Mapping>> = {
  authorize: authorize('authorization_requested'),
  'authorize.code': authorize('code_issued'),
  'authorize.implicit': authorize('token_issued', { response_type: 'token' }),
  'authorize.implicit.access_token': authorize('token_issued', { response_type: 'token' }),
  'authorize.implicit.id_token': authorize('token_issued', { response_type: 'id_token' }),
  'authorize.scope_denied': authorize('authorization_failed', { code: 'scope_denied' }),
  'token.grant': token,
  'token.grant.access_token': token,
  'token.grant.id_token': { ...token, phase: 'attempt' },
  'token.grant.refresh_token': { ...token, phase: 'attempt' },
  'token.grant.id_jag': token,
  'token.revoke': { kind: 'token_revoked', endpoint: 'revocation' },
  'token.detect_reuse': { kind: 'token_reuse_detected', endpoint: 'token' },
  introspect: { kind: 'token_introspected', endpoint: 'introspection' },
  invalid_client_credentials: {
    kind: 'token_request_failed',
    endpoint: 'token',
    code: 'invalid_client_credentials',
  },
  invalid_client_ids: {
    kind: 'token_request_failed',
    endpoint: 'token',
    code: 'client_not_found',
  },
  'consent.grant': user('consent_granted', { failed: 'consent_denied' }),
  'admin.consent.grant': user('consent_granted', { failed: 'consent_denied' }),
  'consent.revoke': user('consent_revoked'),
  'consent.revoke.implicit.as': user('consent_revoked'),
  'consent.revoke.implicit.client': user('consent_revoked'),
  'consent.revoke.implicit.scope': user('consent_revoked'),
  'consent.revoke.implicit.user': user('consent_revoked'),
  'consent.revoke.user': user('consent_revoked'),
  'consent.revoke.user.client': user('consent_revoked'),
  'admin.consent.revoke': user('consent_revoked'),
  'key.rollover': { kind: 'key_rotated' },
  'client.lifecycle.create': user('client_registered'),
  'client.lifecycle.update': user('client_updated'),
  'client.lifecycle.activate': user('client_updated'),
  'client.lifecycle.deactivate': user('client_updated'),
  'client.lifecycle.delete': user('client_deleted'),
  'client.privilege.grant': user('policy_changed'),
  'client.privilege.revoke': user('policy_changed'),
  'client.read_client_secret': user('secret_read'),
  'credentials.lifecycle.create': user('client_credential_changed'),
  'credentials.lifecycle.activate': user('client_credential_changed'),
  'credentials.lifecycle.deactivate': user('client_credential_changed'),
  'credentials.lifecycle.delete': user('client_credential_changed'),
  'trusted_server.add': user('policy_changed'),
  'trusted_server.delete': user('policy_changed'),
  'lifecycle.create': user('policy_changed'),
  'lifecycle.update': user('policy_changed'),
  'lifecycle.activate': user('policy_changed'),
  'lifecycle.deactivate': user('policy_changed'),
  'lifecycle.delete': user('policy_changed'),
};

const limited: Mapping = { kind: 'rate_limited' };
const challenge = user('mfa_challenged');

const OTHERS: Readonly<Record<string, Mapping>> = {
  'user.session.start': user('login', { failed: 'login_failed' }),
  // The login that these belong to is told by `user.session.start`.
  'user.authentication.auth_via_AD_agent': user('login', {
    failed: 'login_failed',
    phase: 'attempt',
  }),
  'user.authentication.auth_via_LDAP_agent': user('login', {
    failed: 'login_failed',
    phase: 'attempt',
  }),
  'user.authentication.auth_via_radius': user('login', { failed: 'login_failed' }),
  'user.authentication.auth_via_richclient': user('login', { failed: 'login_failed' }),
  'user.authentication.auth_via_IDP': user('federation_handshake'),
  'user.authentication.auth_via_social': user('federation_handshake'),
  'user.authentication.auth_via_inbound_SAML': user('federation_handshake'),
  'user.authentication.sso': user('federation_handshake'),
  'user.authentication.auth_via_mfa': user('mfa_result'),
  'user.mfa.okta_verify.deny_push': user('mfa_result'),
  'system.push.send_factor_verify_push': challenge,
  'system.sms.send_factor_verify_message': challenge,
  'system.voice.send_mfa_challenge_call': challenge,
  'system.email.send_factor_verify_message': challenge,
  'user.session.end': user('session_ended'),
  'user.session.expire': { kind: 'session_ended' },
  'user.session.clear': user('session_revoked'),
  'user.session.impersonation.grant': user('impersonation'),
  'user.session.impersonation.initiate': user('impersonation'),
  'user.account.lock': user('account_locked'),
  'user.account.lock.limit': user('account_locked'),
  'policy.evaluate_sign_on': user('policy_decided'),
  'system.api_token.create': user('secret_changed'),
  'system.api_token.update': user('secret_changed'),
  'system.api_token.revoke': user('secret_changed'),
  'system.org.rate_limit.violation': limited,
  'system.operation.rate_limit.violation': limited,
  'system.client.rate_limit.violation': limited,
  'core.concurrency.org.limit.violation': limited,
  'application.integration.rate_limit_exceeded': limited,
  'security.threat.detected': { kind: 'risk_signal' },
  'security.session.detect_client_roaming': user('risk_signal'),
  'user.session.context.change': user('risk_signal'),
  'user.risk.detect': { kind: 'risk_signal' },
  'user.risk.change': { kind: 'risk_signal' },
  'user.account.report_suspicious_activity_by_enduser': user('risk_signal'),
};

/** Changes of what is allowed, whatever it is called behind the prefix. */
const POLICY_CHANGE =
  /^(?:policy\.(?:lifecycle|rule)\.|zone\.|system\.idp\.lifecycle\.|oauth2\.(?:as|claim|scope)\.)/;

const OAUTH_PREFIX = /^app\.oauth2\.(?:as\.)?/;

/** The mapping of an event type; `unclassified` where it is not known. */
export function mappingOfType(type: string): Mapping {
  const prefix = OAUTH_PREFIX.exec(type)?.[0];
  if (prefix === undefined) {
    const known = lookUp(OTHERS, type);
    if (known !== undefined) return known;
    return POLICY_CHANGE.test(type) ? user('policy_changed') : { kind: 'unclassified' };
  }
  const name = type.slice(prefix.length);
  const known = lookUp(OAUTH, name);
  if (known !== undefined) return known;
  if (name.startsWith('token.revoke.')) return { kind: 'token_revoked', endpoint: 'revocation' };
  // Older orgs name the failure in the type: `authorize.user_not_assigned`.
  const failure = /^authorize\.([a-z_]{1,60})$/.exec(name)?.[1];
  return failure === undefined
    ? { kind: 'unclassified' }
    : authorize('authorization_failed', { code: failure });
}
