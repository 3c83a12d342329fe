import { z } from 'zod';
import {
  BINDINGS,
  EVENT_KINDS,
  IP_ROLES,
  NETWORK_FLAGS,
  OUTCOMES,
  PHASES,
  PKCE_METHODS,
  REF_KINDS,
  SUBJECT_TYPES,
  TOKEN_ROLES,
  TOKEN_TYPES,
} from './kinds.ts';

/**
 * The one event that every source becomes (section 4 of docs/ARCHITECTURE.md). An `AuthEvent` is already
 * redacted: it holds references, never secrets. Absent text is '' and absent numbers are null; absent
 * enums are `unknown`. Nothing here is optional, so that every event has one shape.
 * Columns of `grantscope.auth_events` follow it one to one (`model/event_columns.ts`).
 */
const text = z.string();
const ref = z.string();
/** Nanoseconds since the Unix epoch. */
const timeNs = z.bigint();

export const TokenMention = z.object({
  /** What happened to the token in this event. */
  role: z.enum(TOKEN_ROLES),
  type: z.enum(TOKEN_TYPES),
  ref,
  ref_kind: z.enum(REF_KINDS),
  /** Rotation family (RFC 9700 section 4.14): equal for all refresh tokens that descend from one grant. */
  family_ref: ref,
  /** The token, code or device code that this one was obtained with. */
  parent_ref: ref,
  /** Position in the family where the vendor counts; null where it does not. */
  counter: z.number().nullable(),
  issued_at: timeNs.nullable(),
  expires_at: timeNs.nullable(),
  kid: text,
  alg: text,
});
export type TokenMention = z.infer<typeof TokenMention>;

export const AuthEvent = z.object({
  /** UUID text: the vendor's own id where it is a UUID, else a hash of source and id or content. */
  event_id: z.string(),
  tenant: text,
  /** When it happened, as the source says. */
  time: timeNs,
  /** When the source or its shipper wrote it; the collector's clock where unknown. */
  observed_time: timeNs,
  source: z.object({
    /** Adapter id, e.g. `keycloak`. */
    id: text,
    vendor: text,
    product: text,
    /** Host, pod or service name of the emitting system. */
    instance: text,
    tenant: text,
    /** The vendor's own event name, e.g. `REFRESH_TOKEN_ERROR`. */
    raw_type: text,
  }),
  kind: z.enum(EVENT_KINDS),
  phase: z.enum(PHASES),
  outcome: z.enum(OUTCOMES),
  error: z.object({
    /** The vendor's code. */
    code: text,
    /** RFC 6749 section 5.2 and its kin, e.g. `invalid_grant`. */
    oauth_error: text,
    /** Scrubbed free text. */
    detail: text,
  }),
  grant_type: text,
  response_type: text,
  /** Short name of the protocol endpoint: authorization, token, introspection, revocation, userinfo, ... */
  endpoint: text,
  client: z.object({ id: text, name: text, auth_method: text }),
  requested_client_id: text,
  subject: z.object({ ref, type: z.enum(SUBJECT_TYPES) }),
  actor: z.object({ ref, type: z.enum(SUBJECT_TYPES) }),
  issuer: text,
  audience: z.array(text),
  resource: z.array(text),
  scopes_requested: z.array(text),
  scopes_granted: z.array(text),
  /** Scheme, host, port and path only. */
  redirect_uri: text,
  pkce: z.enum(PKCE_METHODS),
  binding: z.enum(BINDINGS),
  /** `jkt` or `x5t#S256`. */
  binding_thumbprint: text,
  tokens: z.array(TokenMention),
  session_ref: ref,
  grant_ref: ref,
  net: z.object({
    client_ip: text,
    ip_role: z.enum(IP_ROLES),
    /** The /24 or /48 prefix. */
    network: text,
    /** Autonomous system number; 0 where no database is configured or it does not know the address. */
    asn: z.number().int(),
    /** Organization of the autonomous system, as the database spells it. */
    as_org: text,
    /** ISO 3166-1 alpha-2: the source's word, else the database's. */
    country: text,
    /** Degrees, rounded to 0.1 (about 10 km); null where unknown. Both or none. */
    latitude: z.number().nullable(),
    longitude: z.number().nullable(),
    /** What the address is a part of, sorted; empty where unknown or where nothing is. */
    flags: z.array(z.enum(NETWORK_FLAGS)),
    user_agent: text,
    ua_family: text,
    ja4: text,
  }),
  http: z.object({
    method: text,
    route: text,
    status: z.number().nullable(),
    duration_ms: z.number().nullable(),
  }),
  policy: z.object({ decision_id: text, path: text, decision: text, bundle_revision: text }),
  key: z.object({ kid: text, operation: text, store: text }),
  risk: text,
  acr: text,
  amr: z.array(text),
  corr: z.object({ trace_id: text, span_id: text, request_id: text, transaction_id: text }),
  redaction: z.object({
    /** Paths of fields that were hashed, scrubbed or dropped. */
    fields: z.array(text),
    /** True where the source had masked values itself. */
    upstream: z.boolean(),
    /** Id of the key that made this event's references. */
    key_id: text,
  }),
  ext: z.record(z.string(), z.string()),
});
export type AuthEvent = z.infer<typeof AuthEvent>;
