import { writeClientList } from '../../model/client_metadata.ts';
import type { AuthEventDraft } from '../../model/draft.ts';
import type { EventKind, Outcome } from '../../model/kinds.ts';
import { detailOf, type EntraRecord, operationOf } from './_entra_form.ts';
import { entryOf, idIn, objectsIn, parsed, unquoted } from './_microsoft_values.ts';
import { given, isJson, type Json, lookUp, objectIn, textIn, textList } from './_reading.ts';

/** Whom or what an operation is about. */
type About = 'client' | 'user' | 'policy';

interface Mapping {
  readonly kind: EventKind;
  readonly about: About;
  readonly outcome?: Outcome;
  readonly phase?: 'attempt';
}

const of = (kind: EventKind, about: About, ...names: readonly string[]): [string, Mapping][] =>
  names.map((name) => [name, { kind, about }]);

/** By the operation's name in lower case, without the full stop of the unified log. */
const OPERATIONS: Readonly<Record<string, Mapping>> = Object.fromEntries<Mapping>([
  ...of('consent_granted', 'client', 'consent to application'),
  ...of('consent_granted', 'client', 'add delegated permission grant', 'add oauth2permissiongrant'),
  ...of('consent_granted', 'client', 'add app role assignment to service principal'),
  ...of(
    'consent_revoked',
    'client',
    'remove delegated permission grant',
    'remove oauth2permissiongrant',
    'remove app role assignment from service principal',
    'revoke consent',
  ),
  ...of('client_registered', 'client', 'add application', 'add service principal'),
  ...of(
    'client_updated',
    'client',
    'update application',
    'update service principal',
    'restore application',
    'add owner to application',
    'add owner to service principal',
    'remove owner from application',
    'remove owner from service principal',
  ),
  ...of(
    'client_deleted',
    'client',
    'delete application',
    'hard delete application',
    'remove service principal',
    'hard delete service principal',
  ),
  ...of(
    'client_credential_changed',
    'client',
    'add service principal credentials',
    'remove service principal credentials',
    'update application - certificates and secrets management',
    'add federated identity credential',
    'remove federated identity credential',
  ),
  ...of('grant_revoked', 'user', 'update stsrefreshtokenvalidfrom timestamp'),
  ...of('session_revoked', 'user', 'revoke user sign-in sessions', 'revoke sign-in sessions'),
  ...of(
    'elevation_granted',
    'user',
    'add member to role',
    'add eligible member to role',
    'add member to role completed (pim activation)',
    'add member to role in pim completed (permanent)',
    'add member to role in pim completed (timebound)',
  ),
  ...of(
    'elevation_ended',
    'user',
    'remove member from role',
    'remove eligible member from role',
    'remove member from role (pim activation expired)',
    'remove member from role completed (pim deactivate)',
    'remove member from role in pim completed (permanent)',
    'remove member from role in pim completed (timebound)',
  ),
  ...of('policy_changed', 'policy', 'set domain authentication', 'verify domain'),
  ...of('policy_changed', 'policy', 'set federation settings on domain', 'set company information'),
  ...of('policy_changed', 'policy', 'add policy', 'added policy', 'update policy', 'delete policy'),
  ...of('policy_changed', 'policy', 'update authentication methods policy'),
  ...of('policy_changed', 'policy', 'authentication methods policy update'),
  ...of(
    'policy_changed',
    'policy',
    'update authorization policy',
    'update permission grant policy',
  ),
  ...of(
    'policy_changed',
    'policy',
    'add conditional access policy',
    'update conditional access policy',
    'delete conditional access policy',
  ),
]);

/** A role that was asked for and not yet given: the completed one counts. */
const REQUESTED =
  /^add member to role (?:in pim )?requested \((?:permanent|timebound|pim activation)\)$/;

function mappingOf(record: EntraRecord, operation: string): Mapping {
  const name = operation
    .toLowerCase()
    .replaceAll('–', '-')
    .replace(/\s{1,8}/g, ' ')
    .trim();
  const known = lookUp(OPERATIONS, name);
  if (known !== undefined) return known;
  if (REQUESTED.test(name)) {
    return { kind: 'elevation_granted', about: 'user', outcome: 'pending', phase: 'attempt' };
  }
  const isPolicy = textIn(record.p, 'category') === 'Policy';
  return { kind: isPolicy ? 'policy_changed' : 'unclassified', about: 'policy' };
}

/** What the two audit logs (directory audit, unified) say of one operation, in one shape. */
interface Audit {
  readonly record: EntraRecord;
  readonly mapping: Mapping;
  readonly targets: readonly Json[];
  /** Modified properties of all targets. */
  readonly changes: readonly Json[];
  readonly outcome: Outcome;
}

export function auditEvent(record: EntraRecord): AuthEventDraft {
  const { e, p } = record;
  const operation = operationOf(record);
  const a = auditOf(record, mappingOf(record, operation));
  const reason = textIn(p, 'resultReason', 'resultDescription');
  return given({
    kind: a.mapping.kind,
    time: record.time ?? 0n,
    observed_time: record.written,
    vendor_event_id: textIn(p, 'id', 'Id'),
    raw_type: operation,
    source_tenant: idIn(e, 'tenantId') ?? idIn(p, 'tenantId', 'OrganizationId'),
    phase: a.mapping.phase,
    outcome: a.outcome,
    error: a.outcome === 'failure' ? given({ detail: reason }) : undefined,
    ...actorAndNet(a),
    ...aboutOf(a),
    corr: given({
      request_id: idIn(p, 'IntraSystemId'),
      transaction_id: idIn(p, 'correlationId', 'InterSystemsId') ?? idIn(e, 'correlationId'),
    }),
  });
}

function auditOf(record: EntraRecord, mapping: Mapping): Audit {
  const { p } = record;
  const targets = objectsIn(p, 'targetResources');
  const changes = [
    ...targets.flatMap((t) => objectsIn(t, 'modifiedProperties')),
    ...objectsIn(p, 'ModifiedProperties'),
  ];
  const result = textIn(p, 'result', 'ResultStatus')?.toLowerCase() ?? '';
  const outcome: Outcome = result.startsWith('succe')
    ? (mapping.outcome ?? 'success')
    : result === 'failure' || result === 'failed' || result === 'clienterror'
      ? 'failure'
      : 'unknown';
  return { record, mapping, targets, changes, outcome };
}

/** Who did it: a person, or an application by itself. */
function actorAndNet({ record }: Audit): Partial<AuthEventDraft> {
  const { e, p } = record;
  const initiator = objectIn(p, 'initiatedBy');
  const user = objectIn(initiator, 'user');
  const app = objectIn(initiator, 'app');
  const person = idIn(user, 'id', 'userPrincipalName') ?? unifiedActor(p);
  const service = idIn(app, 'servicePrincipalId', 'appId', 'displayName');
  const address =
    textIn(user, 'ipAddress') ??
    textIn(app, 'ipAddress') ??
    idIn(p, 'ActorIpAddress', 'ClientIP') ??
    idIn(e, 'callerIpAddress');
  const userAgent = textIn(p, 'userAgent') ?? detailOf(record, 'User-Agent');
  return given({
    actor:
      person !== undefined
        ? { id: person, type: 'user' as const }
        : service === undefined
          ? undefined
          : { id: service, type: 'service' as const },
    net: given({
      client_ip: address,
      ip_role: person === undefined || address === undefined ? undefined : ('end_user' as const),
      user_agent: userAgent,
    }),
  });
}

const GUID = /^[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}$/i;

/** The unified log lists one actor by several ids; the directory's GUID is the one that sign-ins name too. */
export function unifiedActor(p: Json): string | undefined {
  const ids = objectsIn(p, 'Actor').flatMap((a) => idIn(a, 'ID') ?? []);
  return ids.find((id) => GUID.test(id)) ?? idIn(p, 'UserId', 'UserKey');
}

function aboutOf(a: Audit): Partial<AuthEventDraft> {
  if (a.mapping.about === 'user') return ofUser(a);
  return a.mapping.about === 'client' ? ofClient(a) : ofPolicy(a);
}

function ofUser({ record, targets, changes }: Audit): Partial<AuthEventDraft> {
  const user = targets.find((t) => textIn(t, 'type', 'Type') === 'User');
  const group = targets.find((t) => textIn(t, 'type', 'Type') === 'ServicePrincipal');
  const listed = objectsIn(record.p, 'Target').flatMap((t) => idIn(t, 'ID') ?? []);
  const id =
    (user === undefined ? undefined : idIn(user, 'id', 'userPrincipalName')) ??
    listed.find((one) => GUID.test(one));
  const service = group === undefined ? undefined : idIn(group, 'id');
  const role = targets.find((t) => textIn(t, 'type', 'Type') === 'Role');
  return given({
    subject:
      id !== undefined
        ? { id, type: 'user' as const }
        : service === undefined
          ? undefined
          : { id: service, type: 'service' as const },
    ext: given({ role: entryOf(changes, 'Role.DisplayName') ?? oldRole(changes) ?? nameOf(role) }),
  });
}

const nameOf = (target: Json | undefined): string | undefined =>
  target === undefined ? undefined : textIn(target, 'displayName');

/** A role that was taken away stands in the old value. */
function oldRole(changes: readonly Json[]): string | undefined {
  const change = changes.find((c) => textIn(c, 'displayName', 'Name') === 'Role.DisplayName');
  const old = change === undefined ? undefined : textIn(change, 'oldValue', 'OldValue');
  return old === undefined ? undefined : unquoted(old);
}

function ofPolicy({ targets }: Audit): Partial<AuthEventDraft> {
  const policy = targets.find((t) => textIn(t, 'type', 'Type') === 'Policy');
  return given({ policy: given({ path: nameOf(policy) }) });
}

function ofClient(a: Audit): Partial<AuthEventDraft> {
  const { record, targets, changes, mapping } = a;
  const isGrant = mapping.kind === 'consent_granted' || mapping.kind === 'consent_revoked';
  const target = targets.find((t) =>
    /^(?:ServicePrincipal|Application)$/.test(textIn(t, 'type', 'Type') ?? ''),
  );
  const isAppRole = entryOf(changes, 'AppRole.Value') !== undefined;
  // An app role is assigned on the API: the client is then among what was modified.
  const named = isAppRole ? undefined : (target ?? targets[0]);
  const id =
    plainId(entryOf(changes, 'ServicePrincipal.AppId')) ??
    plainId(entryOf(changes, 'AppId')) ??
    plainId(detailOf(record, 'AppId')) ??
    plainId(entryOf(changes, 'ServicePrincipal.ObjectID')) ??
    (named === undefined ? undefined : idIn(named, 'id')) ??
    idIn(record.p, 'ObjectId');
  const name = entryOf(changes, 'ServicePrincipal.DisplayName') ?? nameOf(named);
  return given({
    client: given({ id, name }),
    ...(isGrant
      ? consentOf(a)
      : mapping.kind === 'client_credential_changed'
        ? credentialOf(changes, record)
        : given({ ext: clientMetadata(changes) })),
  });
}

/** App ids are written as JSON lists at times. */
function plainId(text: string | undefined): string | undefined {
  const value = text === undefined ? undefined : parsed(text);
  const one: unknown = Array.isArray(value) ? value[0] : value;
  return typeof one === 'string' && one !== '' && one.length <= 128 ? one : undefined;
}

/**
 * `[] => [[Id: .., ConsentType: Principal, Scope: User.Read openid, ..]]`: what stands after the arrow is what
 * holds now. Consent for everybody names no subject.
 */
function consentOf({ record, changes, mapping }: Audit): Partial<AuthEventDraft> {
  const permissions = entryOf(changes, 'ConsentAction.Permissions') ?? '';
  const granted = permissions.slice(permissions.indexOf('=>') + 1).slice(0, 16_384);
  const scopes = [...granted.matchAll(/\bScope: {0,4}([^,\]]{0,4000})/g)].map((m) => m[1] ?? '');
  const delegated = entryOf(changes, 'DelegatedPermissionGrant.Scope');
  const role = entryOf(changes, 'AppRole.Value');
  const consent =
    /\bConsentType: {0,4}(\w{1,32})/.exec(granted)?.[1] ??
    entryOf(changes, 'DelegatedPermissionGrant.ConsentType') ??
    (role === undefined ? undefined : 'Application');
  const forAll =
    consent === 'AllPrincipals' ||
    consent === 'Application' ||
    entryOf(changes, 'ConsentContext.OnBehalfOfAll')?.toLowerCase() === 'true';
  const user = objectIn(objectIn(record.p, 'initiatedBy'), 'user');
  const person = idIn(user, 'id', 'userPrincipalName') ?? unifiedActor(record.p);
  const list = textList([...scopes, delegated, role].map((s) => s?.trim()));
  return given({
    subject: forAll || person === undefined ? undefined : { id: person, type: 'user' as const },
    scopes_granted: mapping.kind === 'consent_granted' ? list : undefined,
    ext: given({
      consent_type: consent,
      admin_consent: entryOf(changes, 'ConsentContext.IsAdminConsent')?.toLowerCase(),
    }),
  });
}

/** `[KeyIdentifier=..,KeyType=Password,KeyUsage=Verify,DisplayName=..]`, a list of them, before and after. */
function credentialOf(changes: readonly Json[], record: EntraRecord): Partial<AuthEventDraft> {
  const change = changes.find((c) => textIn(c, 'displayName', 'Name') === 'KeyDescription');
  const ids = (name: string, other: string): string[] => {
    const text = change === undefined ? '' : (textIn(change, name, other) ?? '');
    const found = text.slice(0, 16_384).matchAll(/KeyIdentifier=([0-9A-Za-z-]{1,64})/g);
    return [...found].map((m) => m[1] ?? '');
  };
  const before = ids('oldValue', 'OldValue');
  const after = ids('newValue', 'NewValue');
  const added = after.find((id) => !before.includes(id));
  const removed = before.find((id) => !after.includes(id));
  const type = change === undefined ? undefined : textIn(change, 'newValue', 'NewValue');
  return given({
    key: given({ kid: added ?? removed, operation: operationOf(record) }),
    ext: given({
      key_type: /KeyType=(\w{1,32})/.exec(type ?? '')?.[1] ?? entryOf(changes, 'KeyType'),
    }),
  });
}

/** Registered redirect URIs, where the operation changed them (RFC 7591 section 2). */
function clientMetadata(changes: readonly Json[]): Readonly<Record<string, string>> | undefined {
  const change = changes.find((c) => textIn(c, 'displayName', 'Name') === 'AppAddress');
  if (change === undefined) return undefined;
  const list = parsed(textIn(change, 'newValue', 'NewValue'));
  if (!Array.isArray(list)) return undefined;
  const uris = (list as readonly unknown[])
    .filter(isJson)
    .flatMap((a) => textIn(a, 'Address') ?? []);
  return writeClientList('redirect_uris', uris);
}
