import type { EventKind, IpRole, Outcome, Phase } from '../../model/kinds.ts';

/** How a log of one type is read. */
export interface Mapping {
  readonly kind: EventKind;
  readonly outcome: Outcome;
  readonly endpoint?: string;
  readonly grant_type?: string;
  /** Whose address `ip` is. Left out: the log does not say. */
  readonly ip_role?: IpRole;
  /** `attempt`: another log tells how it ended. */
  readonly phase?: Phase;
  readonly risk?: string;
  readonly status?: number;
}

const CODE = 'authorization_code';
const CREDENTIALS = 'client_credentials';
const REFRESH = 'refresh_token';
const DEVICE = 'urn:ietf:params:oauth:grant-type:device_code';
const EXCHANGE = 'urn:ietf:params:oauth:grant-type:token-exchange';
const BEARER = 'urn:ietf:params:oauth:grant-type:jwt-bearer';
const CIBA = 'urn:openid:params:grant-type:ciba';
/** Auth0's own grants. */
const VAULT = 'urn:auth0:params:oauth:grant-type:token-exchange:federated-connection-access-token';
const MFA_OOB = 'http://auth0.com/oauth/grant-type/mfa-oob';
const MFA_OTP = 'http://auth0.com/oauth/grant-type/mfa-otp';
const MFA_RECOVERY = 'http://auth0.com/oauth/grant-type/mfa-recovery-code';
const PASSWORDLESS = 'http://auth0.com/oauth/grant-type/passwordless/otp';

const issued = (grant_type: string, kind: EventKind = 'token_issued'): Mapping => ({
  kind,
  outcome: 'success',
  endpoint: 'token',
  grant_type,
});
const refused = (grant_type: string): Mapping => ({
  kind: 'token_request_failed',
  outcome: 'failure',
  endpoint: 'token',
  grant_type,
});

/** At the authorization endpoint, where the address is the browser's. */
const browser = (kind: EventKind, outcome: Outcome): Mapping => ({
  kind,
  outcome,
  endpoint: 'authorization',
  ip_role: 'end_user',
});
const mfa = (kind: EventKind, outcome: Outcome, phase: Phase = 'single'): Mapping => ({
  kind,
  outcome,
  phase,
  ip_role: 'end_user',
});
const leaked: Mapping = {
  kind: 'risk_signal',
  outcome: 'unknown',
  ip_role: 'end_user',
  risk: 'leaked_password',
};
const other = (outcome: Outcome): Mapping => ({ kind: 'unclassified', outcome });

/**
 * Types of logs whose meaning does not depend on their details ("Log Event Type Codes" of the documentation). What is
 * not listed is `unclassified`.
 */
export const MAPPINGS: Readonly<Record<string, Mapping>> = {
  s: browser('login', 'success'),
  f: browser('login_failed', 'failure'),
  fp: browser('login_failed', 'failure'),
  fu: browser('login_failed', 'failure'),
  // Followed by `s` when the browser comes back with the ticket.
  scoa: { ...browser('login', 'success'), phase: 'attempt' },
  fcoa: browser('login_failed', 'failure'),
  ssa: browser('authorization_requested', 'success'),
  fsa: browser('authorization_failed', 'failure'),
  slo: { kind: 'session_ended', outcome: 'success', endpoint: 'end_session', ip_role: 'end_user' },
  flo: { kind: 'session_ended', outcome: 'failure', endpoint: 'end_session', ip_role: 'end_user' },
  universal_logout_succeeded: { kind: 'session_revoked', outcome: 'success' },
  universal_logout_failed: { kind: 'session_revoked', outcome: 'failure' },

  seacft: issued(CODE),
  feacft: refused(CODE),
  seccft: { ...issued(CREDENTIALS), ip_role: 'client_backend' },
  feccft: { ...refused(CREDENTIALS), ip_role: 'client_backend' },
  sertft: issued(REFRESH, 'token_refreshed'),
  fertft: refused(REFRESH),
  ferrt: refused(REFRESH),
  sede: issued(DEVICE),
  fede: refused(DEVICE),
  sepft: issued('password'),
  fepft: refused('password'),
  seoobft: issued(MFA_OOB),
  feoobft: refused(MFA_OOB),
  seotpft: issued(MFA_OTP),
  feotpft: refused(MFA_OTP),
  sercft: issued(MFA_RECOVERY),
  fercft: refused(MFA_RECOVERY),
  sepkoobft: issued(MFA_OOB),
  sepkotpft: issued(MFA_OTP),
  sepkrcft: issued(MFA_RECOVERY),
  sepotpft: issued(PASSWORDLESS),
  fepotpft: refused(PASSWORDLESS),
  sens: issued(EXCHANGE, 'token_exchanged'),
  fens: refused(EXCHANGE),
  secte: issued(EXCHANGE, 'token_exchanged'),
  fecte: refused(EXCHANGE),
  seta: issued(VAULT, 'token_exchanged'),
  feta: refused(VAULT),
  failed_on_behalf_of_token_exchange: refused(EXCHANGE),
  idjag_exchange_succeeded: issued(BEARER),
  idjag_exchange_failed: refused(BEARER),
  jwt_bearer_exchange_failed: refused(BEARER),
  ciba_start_succeeded: {
    kind: 'backchannel_auth_requested',
    outcome: 'success',
    endpoint: 'backchannel_authentication',
  },
  ciba_start_failed: {
    kind: 'backchannel_auth_requested',
    outcome: 'failure',
    endpoint: 'backchannel_authentication',
  },
  ciba_exchange_succeeded: issued(CIBA),
  ciba_exchange_failed: refused(CIBA),

  fpar: { kind: 'par_pushed', outcome: 'failure', endpoint: 'pushed_authorization_request' },
  fdeaz: {
    kind: 'device_authorization_requested',
    outcome: 'failure',
    endpoint: 'device_authorization',
  },
  fdeac: { kind: 'device_authorized', outcome: 'failure', endpoint: 'device', ip_role: 'end_user' },
  fdecc: { kind: 'device_authorized', outcome: 'denied', endpoint: 'device', ip_role: 'end_user' },
  srrt: { kind: 'token_revoked', outcome: 'success', endpoint: 'revocation' },

  mfar: mfa('mfa_challenged', 'challenge', 'attempt'),
  gd_start_auth: mfa('mfa_challenged', 'challenge'),
  gd_send_pn: mfa('mfa_challenged', 'challenge', 'attempt'),
  gd_send_sms: mfa('mfa_challenged', 'challenge', 'attempt'),
  gd_send_email: mfa('mfa_challenged', 'challenge', 'attempt'),
  gd_send_voice: mfa('mfa_challenged', 'challenge', 'attempt'),
  gd_send_pn_failure: mfa('mfa_challenged', 'failure', 'attempt'),
  gd_send_sms_failure: mfa('mfa_challenged', 'failure', 'attempt'),
  gd_send_voice_failure: mfa('mfa_challenged', 'failure', 'attempt'),
  gd_auth_succeed: mfa('mfa_result', 'success'),
  gd_auth_failed: mfa('mfa_result', 'failure'),
  gd_auth_rejected: mfa('mfa_result', 'denied'),
  gd_recovery_succeed: mfa('mfa_result', 'success'),
  gd_recovery_failed: mfa('mfa_result', 'failure'),
  gd_otp_rate_limit_exceed: { ...mfa('rate_limited', 'denied'), endpoint: 'mfa' },
  gd_recovery_rate_limit_exceed: { ...mfa('rate_limited', 'denied'), endpoint: 'mfa' },
  gd_tenant_update: { kind: 'policy_changed', outcome: 'success' },
  gd_enrollment_complete: other('success'),
  gd_unenroll: other('success'),

  // One person's account is closed to an address, or an address to everybody.
  limit_wc: { kind: 'account_locked', outcome: 'success', ip_role: 'end_user' },
  limit_sul: { kind: 'account_locked', outcome: 'success', ip_role: 'end_user' },
  limit_mu: { kind: 'rate_limited', outcome: 'denied', endpoint: 'login', ip_role: 'end_user' },
  limit_delegation: { kind: 'rate_limited', outcome: 'denied', endpoint: 'delegation' },
  api_limit: { kind: 'rate_limited', outcome: 'denied', status: 429 },
  pwd_leak: leaked,
  signup_pwd_leak: leaked,
  reset_pwd_leak: leaked,

  ss: other('success'),
  fs: other('failure'),
  scp: other('success'),
  fcp: other('failure'),
  scpr: other('success'),
  fcpr: other('failure'),
  sv: other('success'),
  fv: other('failure'),
  sdu: other('success'),
  fdu: other('failure'),
  sd: other('success'),
  fd: other('failure'),
};

/** States of a key in Auth0's key management (NIST SP 800-57 part 1 section 7), and what reaching one means. */
export const KIND_OF_KEY_STATE: Readonly<Record<string, EventKind>> = {
  'pre-activation': 'key_created',
  active: 'key_rotated',
  suspended: 'key_disabled',
  deactivated: 'key_disabled',
  compromised: 'key_disabled',
  destroyed: 'key_deleted',
};

/** Short names of the endpoints whose calls `api_limit` counts. */
export const ENDPOINT_OF_PATH: Readonly<Record<string, string>> = {
  '/authorize': 'authorization',
  '/oauth/token': 'token',
  '/oauth/revoke': 'revocation',
  '/oauth/device/code': 'device_authorization',
  '/oauth/par': 'pushed_authorization_request',
  '/oidc/register': 'registration',
  '/bc-authorize': 'backchannel_authentication',
  '/userinfo': 'userinfo',
};
