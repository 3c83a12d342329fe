import type { AuthEventDraft, TokenDraft } from '../../model/draft.ts';
import type { EventKind, Outcome } from '../../model/kinds.ts';
import { entraError, type EntraError } from './_entra_errors.ts';
import type { EntraRecord } from './_entra_form.ts';
import { entryOf, idIn, objectOrText, objectsIn, parsed, tokenGuid } from './_microsoft_values.ts';
import { given, type Json, lookUp, numberOf, own, textIn, textList } from './_reading.ts';

type Who = 'person' | 'app_for_person' | 'service' | 'managed_identity';

const WHO: Readonly<Record<string, Who>> = {
  noninteractiveusersigninlogs: 'app_for_person',
  serviceprincipalsigninlogs: 'service',
  managedidentitysigninlogs: 'managed_identity',
};

/**
 * The members of Graph's `signInEventTypes`. The names of the logs say the same, but one of them is as long and
 * mixed as a token, and would not come through redaction.
 */
const WHO_NAMES: Readonly<Record<Who, string>> = {
  person: 'interactiveUser',
  app_for_person: 'nonInteractiveUser',
  service: 'servicePrincipal',
  managed_identity: 'managedIdentity',
};

const DEVICE_CODE = 'urn:ietf:params:oauth:grant-type:device_code';
const GRANTS: Readonly<Record<string, string>> = {
  ropc: 'password',
  deviceCode: DEVICE_CODE,
};
/** These answer with an assertion, not with an OAuth token. */
const NO_OAUTH = new Set(['saml20', 'wsFederation', 'wsFed']);

/** How the client proved itself, in the words of RFC 7591 section 2 where it has one. */
const AUTH_METHODS: Readonly<Record<string, string>> = {
  clientSecret: 'client_secret',
  clientAssertion: 'private_key_jwt',
  federatedIdentityCredential: 'private_key_jwt',
  certificate: 'private_key_jwt',
  managedIdentity: 'managed_identity',
};

interface SignIn {
  readonly record: EntraRecord;
  readonly who: Who;
  readonly code: string;
  readonly failed: boolean;
  readonly error: EntraError;
  readonly protocol: string;
}

/** The events of one sign-in: an interactive one that gave a token is a login and an issue. */
export function signInEvents(record: EntraRecord): AuthEventDraft[] {
  const s = signInOf(record);
  // Added to what is fresh: spreading objects of many shapes takes more time than all the rest.
  if (s.failed) return [Object.assign(common(s), failureOf(s))];
  const issue = issueOf(s);
  if (s.who !== 'person' || s.protocol === 'ropc') return [issue];
  const entered: AuthEventDraft = Object.assign(common(s), {
    kind: 'login' as const,
    outcome: 'success' as const,
    endpoint: 'authorization',
  });
  const hasToken = issue.tokens !== undefined && !NO_OAUTH.has(s.protocol);
  return hasToken ? [entered, Object.assign(issue, { sub_id: 'token' })] : [entered];
}

function signInOf(record: EntraRecord): SignIn {
  const { p, e, category } = record;
  const named = textIn(objectOrText(p, 'status'), 'errorCode');
  const outer = textIn(e, 'resultType') ?? '';
  const code = named ?? (/^\d{1,9}$/.test(outer) ? outer : '');
  return {
    record,
    who: lookUp(WHO, category.toLowerCase()) ?? quietOr(p),
    code,
    failed: code === '' ? /^fail/i.test(outer) : code !== '0',
    error: entraError(code),
    protocol: textIn(p, 'authenticationProtocol') ?? '',
  };
}

const quietOr = (p: Json): Who => (own(p, 'isInteractive') === false ? 'app_for_person' : 'person');

/** What every event of a sign-in says. */
function common(s: SignIn): Omit<AuthEventDraft, 'kind'> {
  const { record, who } = s;
  const { e, p } = record;
  const session = idIn(p, 'sessionId');
  const isBound = textIn(p, 'signInTokenProtectionStatus') === 'bound';
  const risk = textIn(p, 'riskLevelDuringSignIn');
  const resource = idIn(p, 'resourceId');
  return given({
    time: record.time ?? 0n,
    observed_time: record.written,
    vendor_event_id: textIn(p, 'id'),
    raw_type: record.category === 'ADFSSignInLogs' ? record.category : `signIn ${WHO_NAMES[who]}`,
    source_tenant: idIn(e, 'tenantId') ?? idIn(p, 'tenantId', 'resourceTenantId', 'homeTenantId'),
    client: given({
      id: idIn(p, 'appId'),
      name: textIn(p, 'appDisplayName'),
      auth_method: lookUp(AUTH_METHODS, textIn(p, 'clientCredentialType') ?? ''),
    }),
    subject: subjectOf(p, who),
    audience: resource === undefined ? undefined : [resource],
    binding: isBound ? ('device' as const) : undefined,
    session: session === undefined ? undefined : { id: session },
    net: netOf(s),
    http: given({ duration_ms: numberOf(own(p, 'processingTimeInMilliseconds')) }),
    policy: policyOf(p),
    key: given({
      kid: idIn(p, 'servicePrincipalCredentialKeyId', 'servicePrincipalCredentialThumbprint'),
    }),
    risk: risk === 'none' || risk === 'hidden' ? undefined : risk,
    acr: textIn(p, 'authenticationRequirement'),
    amr: methodsOf(p),
    corr: given({
      request_id: textIn(p, 'originalRequestId') ?? textIn(p, 'id'),
      transaction_id: idIn(p, 'correlationId') ?? idIn(e, 'correlationId'),
    }),
    ext: extOf(p, s.protocol),
  });
}

function subjectOf(p: Json, who: Who): AuthEventDraft['subject'] {
  if (who === 'service' || who === 'managed_identity') {
    const id = idIn(p, 'servicePrincipalId', 'appId');
    return id === undefined ? undefined : { id, type: 'service' };
  }
  const id = idIn(p, 'userId', 'userPrincipalName');
  return id === undefined ? undefined : { id, type: 'user' };
}

/** Only where a person sits in front of it is the address theirs. */
function netOf({ record, who }: SignIn): AuthEventDraft['net'] {
  const { e, p } = record;
  const outer = textIn(e, 'location');
  return given({
    client_ip: textIn(p, 'ipAddress') ?? textIn(e, 'callerIpAddress'),
    ip_role:
      who === 'person' ? 'end_user' : who === 'app_for_person' ? 'unknown' : 'client_backend',
    country:
      textIn(objectOrText(p, 'location'), 'countryOrRegion') ??
      (outer?.length === 2 ? outer : undefined),
    user_agent: textIn(p, 'userAgent'),
  });
}

const DECISIONS: Readonly<Record<string, string>> = { success: 'allow', failure: 'deny' };

/** Conditional access, and the policies that failed. */
function policyOf(p: Json): AuthEventDraft['policy'] {
  const decision = lookUp(DECISIONS, textIn(p, 'conditionalAccessStatus') ?? '');
  const failing = objectsIn(p, 'appliedConditionalAccessPolicies')
    .filter((policy) => textIn(policy, 'result') === 'failure')
    .flatMap((policy) => textIn(policy, 'displayName', 'id') ?? []);
  return given({ decision, path: failing.length === 0 ? undefined : failing.join(', ') });
}

function methodsOf(p: Json): string[] | undefined {
  const steps = objectsIn(p, 'authenticationDetails');
  const methods = steps
    .filter((step) => own(step, 'succeeded') === true)
    .flatMap((step) => textIn(step, 'authenticationMethod') ?? [])
    .filter((method) => method !== 'Previously satisfied');
  return methods.length === 0 ? undefined : methods;
}

function extOf(p: Json, protocol: string): Record<string, string> {
  const transfer = textIn(p, 'originalTransferMethod');
  const incoming = textIn(p, 'incomingTokenType');
  return given({
    client_app: textIn(p, 'clientAppUsed'),
    resource_name: textIn(p, 'resourceDisplayName'),
    authentication_protocol: protocol === '' || protocol === 'none' ? undefined : protocol,
    incoming_token: incoming === 'none' ? undefined : incoming,
    original_transfer_method: transfer === 'none' ? undefined : transfer,
    cross_tenant: textIn(p, 'crossTenantAccessType'),
  });
}

/** The scopes, where the processing details name them, as JSON text. */
function scopesOf(p: Json): string[] | undefined {
  const told = entryOf(objectsIn(p, 'authenticationProcessingDetails'), 'Oauth Scope Info');
  return told === undefined ? undefined : textList(parsed(told));
}

function grantOf(s: SignIn): string | undefined {
  if (s.who === 'service' || s.who === 'managed_identity') return 'client_credentials';
  const { p } = s.record;
  if (textIn(p, 'originalTransferMethod') === 'deviceCodeFlow' && s.who === 'person') {
    return DEVICE_CODE;
  }
  return (
    lookUp(GRANTS, s.protocol) ??
    (textIn(p, 'incomingTokenType') === 'refreshToken' ? 'refresh_token' : undefined)
  );
}

function issueOf(s: SignIn): AuthEventDraft {
  const c = common(s);
  const grant = grantOf(s);
  const id = tokenGuid(textIn(s.record.p, 'uniqueTokenIdentifier'));
  const tokens: TokenDraft[] | undefined =
    id === undefined
      ? undefined
      : [{ role: 'issued', type: 'access', vendor_id: id, issued_at: c.time }];
  const issued = given({
    kind: grant === 'refresh_token' ? ('token_refreshed' as const) : ('token_issued' as const),
    outcome: 'success' as const,
    endpoint: 'token',
    grant_type: grant,
    scopes_granted: scopesOf(s.record.p),
    tokens,
  });
  return Object.assign(c, issued);
}

/** Interactive: what became of the sign-in; else a refused token request. */
function failureOf(s: SignIn): Partial<AuthEventDraft> & { kind: EventKind } {
  const { p, e } = s.record;
  const isToken = s.who !== 'person' || s.protocol === 'ropc';
  const kind: EventKind = isToken ? 'token_request_failed' : (s.error.kind ?? 'login_failed');
  const outcome: Outcome = s.error.outcome ?? 'failure';
  // Nobody is told invalid_grant in a browser: it is the token endpoint's word.
  const oauth = !isToken && s.error.oauth === 'invalid_grant' ? undefined : s.error.oauth;
  const reason = textIn(objectOrText(p, 'status'), 'failureReason');
  const asked = scopesOf(p);
  return given({
    kind,
    outcome,
    error: given({
      code: s.code === '' ? undefined : `AADSTS${s.code}`,
      oauth_error: oauth,
      detail: reason ?? textIn(e, 'resultDescription'),
    }),
    endpoint: isToken ? 'token' : 'authorization',
    grant_type: isToken ? grantOf(s) : undefined,
    requested_client_id: kind === 'authorization_failed' ? idIn(p, 'appId') : undefined,
    scopes_requested: asked,
  });
}
