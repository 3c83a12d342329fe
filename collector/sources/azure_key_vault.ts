import { defineSource, type ParseResult, type SourceRecord } from '../../model/define_source.ts';
import type { AuthEventDraft, PrincipalDraft } from '../../model/draft.ts';
import type { EventKind, Outcome } from '../../model/kinds.ts';
import {
  given,
  isJson,
  type Json,
  lookUp,
  numberOf,
  objectIn,
  own,
  refuse,
  textIn,
  textList,
  timeNs,
  TIME_ALLOWED,
} from './_reading.ts';

/** Kinds by operation. Looking at a vault, and at the public half of a key, are calls of an API. */
const KINDS: Readonly<Record<string, EventKind>> = {
  KeyCreate: 'key_created',
  KeyImport: 'key_created',
  KeyRestore: 'key_created',
  KeyRotate: 'key_rotated',
  KeyDelete: 'key_deleted',
  KeyPurge: 'key_deleted',
  KeySign: 'key_used',
  KeyVerify: 'key_used',
  KeyEncrypt: 'key_used',
  KeyDecrypt: 'key_used',
  KeyWrap: 'key_used',
  KeyUnwrap: 'key_used',
  KeyBackup: 'key_used',
  KeyRelease: 'key_used',
  KeyGet: 'api_accessed',
  KeyList: 'api_accessed',
  KeyListVersions: 'api_accessed',
  KeyGetDeleted: 'api_accessed',
  KeyListDeleted: 'api_accessed',
  KeyGetRotationPolicy: 'api_accessed',
  KeyUpdateRotationPolicy: 'policy_changed',
  SecretGet: 'secret_read',
  // A backup holds the secret; who may restore it into a vault of his own may read it.
  SecretBackup: 'secret_read',
  SecretSet: 'secret_changed',
  SecretUpdate: 'secret_changed',
  SecretDelete: 'secret_changed',
  SecretPurge: 'secret_changed',
  SecretRestore: 'secret_changed',
  SecretRecover: 'secret_changed',
  SecretList: 'api_accessed',
  SecretListVersions: 'api_accessed',
  SecretGetDeleted: 'api_accessed',
  SecretListDeleted: 'api_accessed',
  CertificateCreate: 'key_created',
  CertificateImport: 'key_created',
  CertificateRestore: 'key_created',
  CertificateDelete: 'key_deleted',
  CertificatePurge: 'key_deleted',
  CertificateBackup: 'key_used',
  CertificateGet: 'api_accessed',
  CertificateList: 'api_accessed',
  CertificateListVersions: 'api_accessed',
  VaultGet: 'api_accessed',
  VaultList: 'api_accessed',
  VaultPut: 'policy_changed',
  VaultPatch: 'policy_changed',
  VaultDelete: 'policy_changed',
  VaultAccessPolicyChangedEventGridNotification: 'policy_changed',
  Authentication: 'api_accessed',
};

/** What the vault answered, in its words. `resultType` says `Success` for all of them. */
const SIGNATURES: Readonly<Record<string, Outcome>> = {
  ok: 'success',
  accepted: 'success',
  created: 'success',
  'no content': 'success',
  forbidden: 'denied',
  unauthorized: 'denied',
  'not found': 'failure',
  conflict: 'failure',
  'bad request': 'failure',
  'too many requests': 'failure',
};

const MANAGED_HSM_OR_VAULT = /\/providers\/microsoft\.keyvault\/(?:vaults|managedhsms)\/([^/]+)/i;

/** `keys/name` of `https://shop.vault.azure.net/keys/name/version`; deleted things keep their name. */
const OBJECT_PATH = /^\/(?:deleted)?(keys|secrets|certificates)\/([^/?#]+)(?:\/([^/?#]+))?/;

interface Reading {
  readonly value: Json;
  readonly time: bigint;
  readonly operation: string;
  readonly properties: Json;
  readonly claims: Json;
}

interface KeyObject {
  readonly host: string;
  readonly name: string;
  readonly version: string | undefined;
}

function objectOf(r: Reading): KeyObject | undefined {
  const id = textIn(r.properties, 'id')?.slice(0, 1_024) ?? '';
  const m = /^https?:\/\/([^/@]+)(\/[^?#]*)/i.exec(id);
  const host = (m?.[1] ?? '').toLowerCase();
  const path = OBJECT_PATH.exec(m?.[2] ?? '');
  if (host === '' || path === null) return undefined;
  return { host, name: `${path[1] ?? ''}/${path[2] ?? ''}`, version: path[3] };
}

/** The name of the vault: in the id of the object, else of the resource. */
function vaultOf(r: Reading): string | undefined {
  const host = /^https?:\/\/([^/.]+)\.(?:vault|managedhsm)\./i.exec(
    textIn(r.properties, 'id') ?? '',
  )?.[1];
  const resource = MANAGED_HSM_OR_VAULT.exec(
    textIn(r.value, 'resourceId')?.slice(0, 1_024) ?? '',
  )?.[1];
  return (host ?? resource)?.toLowerCase();
}

function keyOf(r: Reading): AuthEventDraft['key'] {
  const object = objectOf(r);
  if (object === undefined) return undefined;
  return {
    kid: `${object.host}/${object.name}`,
    operation: r.operation,
    store: object.host,
  };
}

/** A key is switched off by an update of its attributes. */
function kindOf(r: Reading): EventKind {
  if (r.operation !== 'KeyUpdate' && r.operation !== 'CertificateUpdate') {
    return lookUp(KINDS, r.operation) ?? 'unclassified';
  }
  const what = r.operation === 'KeyUpdate' ? 'keyProperties' : 'certificateProperties';
  const enabled = own(objectIn(objectIn(r.properties, what), 'attributes'), 'enabled');
  return enabled === false || enabled === 'false' ? 'key_disabled' : 'policy_changed';
}

function outcomeOf(r: Reading): Outcome {
  const status = numberOf(own(r.properties, 'httpStatusCode'));
  const signature = textIn(r.value, 'resultSignature')?.toLowerCase();
  // Without a token the vault answers where to get one: the first half of every connection.
  if (status === 401 && Object.keys(r.claims).length === 0) return 'challenge';
  const said = signature === undefined ? undefined : lookUp(SIGNATURES, signature);
  if (said !== undefined) return said;
  if (status === undefined) return 'unknown';
  if (status === 401 || status === 403) return 'denied';
  return status < 400 ? 'success' : 'failure';
}

function errorOf(r: Reading, outcome: Outcome): AuthEventDraft['error'] {
  if (outcome !== 'denied' && outcome !== 'failure') return undefined;
  const status = textIn(r.properties, 'httpStatusCode');
  return given({
    code: textIn(r.value, 'resultSignature') ?? status,
    detail: textIn(r.value, 'resultDescription'),
  });
}

const CLAIM = 'http://schemas.microsoft.com/identity/claims/';
const SOAP_CLAIM = 'http://schemas.xmlsoap.org/ws/2005/05/identity/claims/';

/** Who called, by the object id of the directory; a name that only people have makes it a person. */
function actorOf(r: Reading): PrincipalDraft | undefined {
  const id = textIn(r.claims, 'oid', `${CLAIM}objectidentifier`) ?? textIn(r.claims, 'appid');
  if (id === undefined) return undefined;
  const isPerson =
    textIn(r.claims, 'upn', `${SOAP_CLAIM}upn`) !== undefined ||
    textIn(r.claims, 'scp') !== undefined;
  return { id, type: isPerson ? 'user' : 'service' };
}

/** The vault's own id of a call may be the caller's: with the time and the operation it names one record. */
function recordId(r: Reading): string | undefined {
  const correlation = textIn(r.value, 'correlationId');
  if (correlation === undefined) return undefined;
  const id = textIn(r.properties, 'id') ?? '';
  return [correlation, textIn(r.value, 'time'), r.operation, id].join(' ');
}

function routeOf(r: Reading): string | undefined {
  return textIn(r.properties, 'requestUri')?.split(/[?#]/, 1)[0];
}

function draftOf(r: Reading): AuthEventDraft {
  const { value, properties, claims } = r;
  const outcome = outcomeOf(r);
  const kind = kindOf(r);
  const vault = vaultOf(r);
  const client = textIn(claims, 'appid', 'azp');
  const scopes = kind === 'api_accessed' ? textList(own(claims, 'scp')) : undefined;
  return given({
    kind,
    time: r.time,
    vendor_event_id: recordId(r),
    raw_type: r.operation,
    instance: vault,
    outcome,
    error: errorOf(r, outcome),
    client: client === undefined ? undefined : { id: client },
    actor: actorOf(r),
    scopes_granted: scopes,
    net: given({
      client_ip: textIn(value, 'callerIpAddress'),
      user_agent: textIn(properties, 'clientInfo'),
    }),
    http: given({
      route: routeOf(r),
      status: numberOf(own(properties, 'httpStatusCode')),
      duration_ms: numberOf(own(value, 'durationMs')),
    }),
    policy: kind === 'policy_changed' ? given({ path: vault }) : undefined,
    key: keyOf(r),
    amr: textList(own(claims, 'amr')),
    corr: given({ transaction_id: textIn(value, 'correlationId') }),
    ext: given({ object_version: objectOf(r)?.version }),
  });
}

function parse(record: SourceRecord): ParseResult {
  if (record.form === 'text') return refuse('unsupported_form', 'text: allowed is a JSON object');
  const { value } = record;
  if (!isJson(value)) return refuse('not_an_object', 'record: must be a JSON object');
  const operation = textIn(value, 'operationName');
  const category = textIn(value, 'category');
  if (operation === undefined || (category !== undefined && category !== 'AuditEvent')) {
    return refuse(
      'unrecognised_record',
      'record: no audit record of Key Vault; operationName and the category AuditEvent are needed',
    );
  }
  const rawTime = own(value, 'time');
  if (rawTime === undefined) return refuse('missing_field', 'time: is required');
  const time = timeNs(rawTime);
  if (time === undefined) return refuse('invalid_time', `time: not a time; ${TIME_ALLOWED}`);
  const reading = {
    ...{ value, time, operation },
    properties: objectIn(value, 'properties'),
    claims: objectIn(objectIn(value, 'identity'), 'claim'),
  };
  return { ok: true, events: [draftOf(reading)] };
}

/**
 * Resource logs of Azure Key Vault (category AuditEvent), by Event Hub, storage account or file. `resultType` says
 * `Success` for calls that were refused: `resultSignature` is what counts.
 */
export default defineSource({
  id: 'azure_key_vault',
  title: 'Azure Key Vault audit log',
  vendor: 'microsoft',
  product: 'azure_key_vault',
  description: 'Audit records of Azure Key Vault, as its diagnostic settings export them.',
  forms: ['json'],
  kinds: [
    'policy_changed',
    'key_created',
    'key_rotated',
    'key_disabled',
    'key_deleted',
    'key_used',
    'secret_read',
    'secret_changed',
    'api_accessed',
    'unclassified',
  ],
  provides: [
    ...['event_id', 'time', 'kind', 'phase', 'outcome', 'source.instance', 'source.raw_type'],
    ...['error.code', 'error.detail', 'client.id', 'actor.ref', 'actor.type', 'scopes_granted'],
    ...['net.client_ip', 'net.network', 'net.user_agent', 'net.ua_family'],
    ...['http.route', 'http.status', 'http.duration_ms', 'policy.path'],
    ...['key.kid', 'key.operation', 'key.store', 'amr', 'corr.transaction_id', 'ext'],
  ],
  confirmed_by: 'real_samples',
  references: ['Microsoft Azure: Key Vault logging', 'Microsoft Azure: AZKVAuditLogs'],
  unwrap: (value) => {
    const records = isJson(value) ? own(value, 'records') : undefined;
    return Array.isArray(records) ? (records as readonly unknown[]) : undefined;
  },
  parse,
});
