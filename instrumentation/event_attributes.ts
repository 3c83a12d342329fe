import type { Attributes } from '@opentelemetry/api';
import {
  ATTR,
  CLIENT_METADATA_PREFIX,
  EXT_ATTRIBUTE_PREFIX,
  TOKEN_ATTRIBUTE_PREFIX,
} from '../model/attributes.ts';
import type { RefDomain } from '../model/ids.ts';
import type { KeyRing } from '../runtime/keyring.ts';
import { canonicalToken, tokenReference, type TokenReference } from '../runtime/token_reference.ts';
import type {
  RecordedAuthEvent,
  RecordedId,
  RecordedToken,
  RecordedTokenName,
} from './recorded_event.ts';
import { droppedUrlParts } from '../model/dropped_url_parts.ts';
import { scrubName, scrubText, withoutQuery } from './scrub.ts';

/** Values kept of a list such as scopes or redirect URIs; the rest is cut. */
export const LIST_LENGTH_MAX = 64;
/** Entries kept of `ext`. */
export const EXT_ENTRIES_MAX = 32;

type Target = Record<string, string | number | string[]>;

/** The attributes of one event, redacted: what model/attributes.ts documents. */
export function eventAttributes(event: RecordedAuthEvent, keyRing: KeyRing): Attributes {
  const to: Target = { [ATTR.kind]: event.kind, [ATTR.keyId]: keyRing.currentId };
  protocolAttributes(to, event);
  identityAttributes(to, event, keyRing);
  networkAttributes(to, event);
  for (const token of event.tokens ?? []) tokenAttributes(to, token, keyRing);
  clientMetadataAttributes(to, event);
  extAttributes(to, event);
  if (keyRing.next !== undefined) nextAttributes(to, event, keyRing.next);
  return to;
}

/** A name or id. */
function text(to: Target, key: string, value: string | undefined): void {
  if (value !== undefined && value !== '') to[key] = scrubName(value);
}

function freeText(to: Target, key: string, value: string | undefined): void {
  if (value !== undefined && value !== '') to[key] = scrubText(value);
}

function list(to: Target, key: string, values: readonly string[] | undefined): void {
  if (values !== undefined && values.length > 0) {
    to[key] = values.slice(0, LIST_LENGTH_MAX).map(scrubName);
  }
}

function number(to: Target, key: string, value: number | undefined): void {
  if (value !== undefined && Number.isFinite(value)) to[key] = value;
}

function protocolAttributes(to: Target, event: RecordedAuthEvent): void {
  text(to, ATTR.outcome, event.outcome);
  text(to, ATTR.phase, event.phase);
  text(to, ATTR.rawType, event.raw_type);
  text(to, ATTR.errorCode, event.error?.code);
  text(to, ATTR.oauthError, event.error?.oauth_error);
  freeText(to, ATTR.errorDetail, event.error?.detail);
  text(to, ATTR.grantType, event.grant_type);
  text(to, ATTR.responseType, event.response_type);
  text(to, ATTR.endpoint, event.endpoint);
  text(to, ATTR.clientId, event.client?.id);
  text(to, ATTR.clientName, event.client?.name);
  text(to, ATTR.clientAuthMethod, event.client?.auth_method);
  text(to, ATTR.requestedClientId, event.requested_client_id);
  text(to, ATTR.issuer, event.issuer);
  list(to, ATTR.audience, event.audience);
  list(to, ATTR.resource, event.resource?.map(withoutQuery));
  list(to, ATTR.scopesRequested, event.scopes_requested);
  list(to, ATTR.scopesGranted, event.scopes_granted);
  text(to, ATTR.redirectUri, event.redirect_uri && withoutQuery(event.redirect_uri));
  text(to, ATTR.pkce, event.pkce);
  text(to, ATTR.binding, event.binding);
  text(to, ATTR.bindingThumbprint, event.binding_thumbprint);
  text(to, ATTR.policyDecision, event.policy_decision);
  text(to, ATTR.acr, event.acr);
  list(to, ATTR.amr, event.amr);
  text(to, ATTR.requestId, event.request_id);
}

function identityAttributes(to: Target, event: RecordedAuthEvent, keyRing: KeyRing): void {
  text(to, ATTR.subjectRef, idReference(keyRing, 'subject', event.subject));
  text(to, ATTR.subjectType, event.subject?.type);
  text(to, ATTR.actorRef, idReference(keyRing, 'subject', event.actor));
  text(to, ATTR.actorType, event.actor?.type);
  text(to, ATTR.sessionRef, idReference(keyRing, 'session', event.session));
  text(to, ATTR.grantRef, idReference(keyRing, 'grant', event.grant));
}

function networkAttributes(to: Target, event: RecordedAuthEvent): void {
  text(to, ATTR.clientAddress, event.net?.client_ip);
  text(to, ATTR.ipRole, event.net?.ip_role);
  freeText(to, ATTR.userAgent, event.net?.user_agent);
  text(to, ATTR.httpMethod, event.http?.method);
  text(to, ATTR.httpRoute, event.http?.route && withoutQuery(event.http.route));
  number(to, ATTR.httpStatus, event.http?.status);
  number(to, ATTR.durationMs, event.http?.duration_ms);
}

function idReference(keyRing: KeyRing, domain: RefDomain, id: RecordedId | undefined): string {
  if (id === undefined) return '';
  return id.ref ?? (id.id === undefined ? '' : keyRing.ref(domain, id.id.trim()));
}

/** The reference of a named token; undefined where nothing names it. */
export function referenceOf(
  keyRing: KeyRing,
  name: RecordedTokenName | undefined,
): TokenReference | undefined {
  if (name === undefined) return undefined;
  if (name.ref !== undefined && name.ref !== '') {
    return { ref: name.ref, ref_kind: name.ref_kind ?? 'hmac' };
  }
  if (name.jti !== undefined && name.jti !== '') {
    return { ref: keyRing.refOfJti(name.jti), ref_kind: 'jti' };
  }
  if (name.value === undefined) return undefined;
  const reference = tokenReference(keyRing, name.value);
  return reference.ref === '' ? undefined : reference;
}

function tokenAttributes(to: Target, token: RecordedToken, keyRing: KeyRing): void {
  const prefix = `${TOKEN_ATTRIBUTE_PREFIX}${token.role}.${token.type}.`;
  const reference = referenceOf(keyRing, token);
  // The first of two tokens with one role and type stands: attributes have no place for a second.
  if (reference === undefined || `${prefix}ref` in to) return;
  to[`${prefix}ref`] = reference.ref;
  to[`${prefix}ref_kind`] = reference.ref_kind;
  text(to, `${prefix}family_ref`, idReference(keyRing, 'grant', token.family));
  text(to, `${prefix}parent_ref`, referenceOf(keyRing, token.parent)?.ref);
  const jwt = token.value === undefined ? {} : readJwt(token.value);
  number(to, `${prefix}counter`, token.counter);
  number(to, `${prefix}issued_at`, token.issued_at ?? jwt.issued_at);
  number(to, `${prefix}expires_at`, token.expires_at ?? jwt.expires_at);
  text(to, `${prefix}kid`, token.kid ?? jwt.kid);
  text(to, `${prefix}alg`, token.alg ?? jwt.alg);
}

/**
 * What the key that takes over next calls the same things, so that the collector can follow them across the
 * change of keys. References that the host made before have no other name here.
 */
function nextAttributes(to: Target, event: RecordedAuthEvent, next: KeyRing): void {
  to[ATTR.nextKeyId] = next.currentId;
  const id = (key: string, domain: RefDomain, value: RecordedId | undefined): void => {
    if (value?.ref === undefined) text(to, key, idReference(next, domain, value));
  };
  id(ATTR.subjectNextRef, 'subject', event.subject);
  id(ATTR.actorNextRef, 'subject', event.actor);
  id(ATTR.sessionNextRef, 'session', event.session);
  id(ATTR.grantNextRef, 'grant', event.grant);
  const told = new Set<string>();
  for (const token of event.tokens ?? []) {
    const prefix = `${TOKEN_ATTRIBUTE_PREFIX}${token.role}.${token.type}.`;
    const reference = referenceOf(next, token);
    // Of two tokens with one role and type the first stands, here as in `tokenAttributes`.
    if (reference === undefined || told.has(prefix)) continue;
    told.add(prefix);
    // A UUID `jti` has one name only.
    if (token.ref === undefined && reference.ref !== to[`${prefix}ref`]) {
      to[`${prefix}next_ref`] = reference.ref;
    }
    if (token.family?.ref === undefined) {
      text(to, `${prefix}next_family_ref`, idReference(next, 'grant', token.family));
    }
    const parent = token.parent?.ref === undefined ? referenceOf(next, token.parent) : undefined;
    if (parent?.ref !== to[`${prefix}parent_ref`])
      text(to, `${prefix}next_parent_ref`, parent?.ref);
  }
}

interface JwtFacts {
  kid?: string;
  alg?: string;
  issued_at?: number;
  expires_at?: number;
}

/** Header and times of a JWT as it claims them, unverified; nothing for an opaque token. */
function readJwt(raw: string): JwtFacts {
  const [header = '', payload = '', signature] = canonicalToken(raw).split('.', 3);
  if (signature === undefined || !header.startsWith('eyJ')) return {};
  const { kid, alg } = readPart(header);
  const { iat, exp } = readPart(payload);
  return {
    ...(typeof kid === 'string' ? { kid } : {}),
    ...(typeof alg === 'string' ? { alg } : {}),
    ...(typeof iat === 'number' ? { issued_at: iat } : {}),
    ...(typeof exp === 'number' ? { expires_at: exp } : {}),
  };
}

function readPart(part: string): {
  kid?: unknown;
  alg?: unknown;
  iat?: unknown;
  exp?: unknown;
} {
  try {
    const value: unknown = JSON.parse(Buffer.from(part, 'base64url').toString('utf8'));
    return typeof value === 'object' && value !== null ? value : {};
  } catch {
    return {};
  }
}

function clientMetadataAttributes(to: Target, event: RecordedAuthEvent): void {
  const metadata = event.client_metadata;
  if (metadata === undefined) return;
  const joined = (values: readonly string[] | undefined): string | undefined =>
    values?.slice(0, LIST_LENGTH_MAX).join(' ');
  const put = (name: string, value: string | undefined): void =>
    text(to, `${CLIENT_METADATA_PREFIX}${name}`, value);
  put('redirect_uris', joined(metadata.redirect_uris?.map(withoutQuery)));
  put('scope', metadata.scope);
  put('grant_types', joined(metadata.grant_types));
  put('response_types', joined(metadata.response_types));
  put('token_endpoint_auth_method', metadata.token_endpoint_auth_method);
  put('application_type', metadata.application_type);
}

function extAttributes(to: Target, event: RecordedAuthEvent): void {
  for (const [name, value] of Object.entries(event.ext ?? {}).slice(0, EXT_ENTRIES_MAX)) {
    freeText(to, `${EXT_ATTRIBUTE_PREFIX}${name}`, value);
  }
  if (event.redirect_uri !== undefined) {
    const dropped = droppedUrlParts(event.redirect_uri);
    if (dropped.length > 0) {
      to[`${EXT_ATTRIBUTE_PREFIX}redirect_uri_had`] = dropped.join(' ');
    }
  }
}
