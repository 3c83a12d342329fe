import { isJson, type Json, objectIn, own, textIn } from './_reading.ts';
import { entryOf, microsoftTime, objectsIn } from './_microsoft_values.ts';

/** What a record is about, whatever form it came in. */
type EntraTopic = 'sign_in' | 'audit' | 'risk' | 'graph' | 'unified' | 'other';

/** One record, opened: `p` holds the facts, `e` the envelope around them ({} in the flat form). */
export interface EntraRecord {
  readonly topic: EntraTopic;
  readonly e: Json;
  readonly p: Json;
  /** Category of the diagnostic settings, in their spelling; that of the same log for flat records. */
  readonly category: string;
  /** The value that the time was read from, readable or not; undefined where there is none. */
  readonly rawTime: unknown;
  readonly time: bigint | undefined;
  /** When Entra wrote the record, where that is told apart from when it happened. */
  readonly written?: bigint | undefined;
}

const TOPIC_OF_CATEGORY: Readonly<Record<string, EntraTopic>> = {
  signinlogs: 'sign_in',
  noninteractiveusersigninlogs: 'sign_in',
  serviceprincipalsigninlogs: 'sign_in',
  managedidentitysigninlogs: 'sign_in',
  adfssigninlogs: 'sign_in',
  auditlogs: 'audit',
  userriskevents: 'risk',
  serviceprincipalriskevents: 'risk',
  riskyusers: 'risk',
  riskyserviceprincipals: 'risk',
  microsoftgraphactivitylogs: 'graph',
  aadgraphactivitylogs: 'graph',
  azureadgraphactivitylogs: 'graph',
};

/** Where the time lies, the first that is there. */
const TIMES: Readonly<Record<EntraTopic, readonly string[]>> = {
  sign_in: ['createdDateTime'],
  audit: ['activityDateTime'],
  risk: ['lastUpdatedDateTime', 'riskLastUpdatedDateTime', 'detectedDateTime', 'activityDateTime'],
  graph: ['timeGenerated'],
  unified: ['CreationTime'],
  other: ['createdDateTime'],
};

/** A record of any of the forms; undefined where it is none of Microsoft's. */
export function openEntra(value: Json): EntraRecord | undefined {
  const category = textIn(value, 'category', 'Category') ?? '';
  const isDiagnostic =
    own(value, 'operationName') !== undefined &&
    (isJson(own(value, 'properties')) || category !== '');
  if (isDiagnostic) return ofDiagnostics(value, category);
  if (own(value, 'Operation') !== undefined && own(value, 'CreationTime') !== undefined) {
    return record('unified', {}, value, textIn(value, 'Workload') ?? '');
  }
  return ofGraph(value);
}

function ofDiagnostics(e: Json, category: string): EntraRecord {
  const p = objectIn(e, 'properties');
  const known = Object.hasOwn(TOPIC_OF_CATEGORY, category.toLowerCase())
    ? TOPIC_OF_CATEGORY[category.toLowerCase()]
    : undefined;
  // Some shippers put the category of the audit record where that of the log was.
  const isAudit = own(p, 'activityDisplayName') !== undefined;
  return record(
    known ?? (isAudit ? 'audit' : 'other'),
    e,
    p,
    known === undefined && isAudit ? 'AuditLogs' : category,
  );
}

/** The flat forms of Microsoft Graph: directoryAudit, signIn, riskDetection, alert. */
function ofGraph(p: Json): EntraRecord | undefined {
  if (own(p, 'activityDisplayName') !== undefined) return record('audit', {}, p, 'AuditLogs');
  if (own(p, 'riskEventType') !== undefined || own(p, 'riskType') !== undefined) {
    return record('risk', {}, p, 'UserRiskEvents');
  }
  const isSignIn = own(p, 'appId') !== undefined || own(p, 'status') !== undefined;
  if (own(p, 'createdDateTime') === undefined) return undefined;
  if (isSignIn && own(p, 'serviceSource') === undefined) {
    return record('sign_in', {}, p, signInCategory(p));
  }
  return own(p, 'severity') === undefined ? undefined : record('other', {}, p, 'alert');
}

/** The log that a flat sign-in would stand in. */
function signInCategory(p: Json): string {
  const listed = own(p, 'signInEventTypes');
  const types: readonly unknown[] = Array.isArray(listed) ? listed : [];
  if (types.includes('managedIdentity')) return 'ManagedIdentitySignInLogs';
  const hasUser = (textIn(p, 'userId') ?? textIn(p, 'userPrincipalName')) !== undefined;
  if (types.includes('servicePrincipal')) return 'ServicePrincipalSignInLogs';
  if (!hasUser && textIn(p, 'servicePrincipalId') !== undefined)
    return 'ServicePrincipalSignInLogs';
  const isQuiet = types.includes('nonInteractiveUser') || own(p, 'isInteractive') === false;
  return isQuiet ? 'NonInteractiveUserSignInLogs' : 'SignInLogs';
}

function record(topic: EntraTopic, e: Json, p: Json, category: string): EntraRecord {
  const outer = own(e, 'time') ?? own(e, 'eventTimestamp');
  const inner = TIMES[topic].map((name) => own(p, name)).find((v) => v !== undefined && v !== null);
  const time = microsoftTime(inner) ?? microsoftTime(outer);
  const written = inner === undefined ? undefined : microsoftTime(outer);
  return { topic, e, p, category, rawTime: inner ?? outer, time, written };
}

/** The operation's name, which the Azure activity log writes as an object; '' where there is none. */
export function operationOf({ e, p }: EntraRecord): string {
  const named = textIn(p, 'activityDisplayName', 'Operation') ?? textIn(e, 'operationName');
  return (named ?? textIn(objectIn(e, 'operationName'), 'value') ?? '').replace(/\.$/, '');
}

/** Entries of `additionalDetails` or `ExtendedProperties`. */
export function detailOf({ p }: EntraRecord, name: string): string | undefined {
  return (
    entryOf(objectsIn(p, 'additionalDetails'), name) ??
    entryOf(objectsIn(p, 'ExtendedProperties'), name)
  );
}
