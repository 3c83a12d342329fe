import type {
  Binding,
  EventKind,
  IpRole,
  Outcome,
  Phase,
  PkceMethod,
  SubjectType,
  TokenRole,
  TokenType,
} from './kinds.ts';
import type { Ref } from './ids.ts';
import type { Secret } from './secret.ts';

/**
 * How a source names a token, before redaction. Give exactly one:
 * - `secret`: the raw token, code or opaque id that IS the bearer secret; becomes a keyed reference
 *   (for a JWT the redaction stage takes its `jti` instead, so that AS and RS join);
 * - `jti`: the `jti` claim of a JWT as the vendor logged it;
 * - `vendor_id`: another non-secret id that the vendor gave the token;
 * - `vendor_hash`: a hash that the vendor made;
 * - `ref`: a reference that our own instrumentation has already made.
 */
export interface TokenIdentity {
  secret?: Secret;
  jti?: string;
  vendor_id?: string;
  vendor_hash?: string;
  ref?: Ref;
  /** With `ref`, during a rotation of keys: what the next key calls the token. */
  next_ref?: Ref | undefined;
}

export interface TokenDraft extends TokenIdentity {
  role: TokenRole;
  type: TokenType;
  family?: TokenIdentity;
  parent?: TokenIdentity;
  counter?: number;
  issued_at?: bigint;
  expires_at?: bigint;
  kid?: string;
  alg?: string;
}

/** Who: either a raw identifier (pseudonymised by the redaction stage) or a reference made before. */
export interface PrincipalDraft {
  id?: string;
  ref?: Ref;
  next_ref?: Ref | undefined;
  type?: SubjectType;
}

/**
 * What an adapter makes of a vendor record: an AuthEvent in the making. Everything but `kind` and `time`
 * is optional; leave out what the source does not say. Identifiers of people, sessions and grants are raw
 * here and become references in `collector/processors/redact.ts`; all free text is scrubbed there.
 */
export interface AuthEventDraft {
  kind: EventKind;
  /** Nanoseconds since the epoch. */
  time: bigint;
  observed_time?: bigint;
  /** The vendor's id of this record (any text). Left out: a hash of source and content is used. */
  vendor_event_id?: string;
  /** Distinguishes several events made from one vendor record; default: position in the result. */
  sub_id?: string;
  raw_type?: string;
  instance?: string;
  source_tenant?: string;
  phase?: Phase;
  outcome?: Outcome;
  error?: { code?: string; oauth_error?: string; detail?: string };
  grant_type?: string;
  response_type?: string;
  endpoint?: string;
  client?: { id?: string; name?: string; auth_method?: string };
  requested_client_id?: string;
  subject?: PrincipalDraft;
  actor?: PrincipalDraft;
  issuer?: string;
  audience?: readonly string[];
  resource?: readonly string[];
  scopes_requested?: readonly string[];
  scopes_granted?: readonly string[];
  redirect_uri?: string;
  pkce?: PkceMethod;
  binding?: Binding;
  binding_thumbprint?: string;
  tokens?: readonly TokenDraft[];
  /** Raw session id or a reference made before. */
  session?: { id?: string; ref?: Ref; next_ref?: Ref | undefined };
  grant?: { id?: string; ref?: Ref; next_ref?: Ref | undefined };
  net?: {
    client_ip?: string;
    ip_role?: IpRole;
    country?: string;
    user_agent?: string;
    ja4?: string;
  };
  http?: { method?: string; route?: string; status?: number; duration_ms?: number };
  policy?: { decision_id?: string; path?: string; decision?: string; bundle_revision?: string };
  key?: { kid?: string; operation?: string; store?: string };
  risk?: string;
  acr?: string;
  amr?: readonly string[];
  corr?: { trace_id?: string; span_id?: string; request_id?: string; transaction_id?: string };
  /** Id of the key that made the references of this draft, where they were made before. */
  reference_key_id?: string;
  /** Id of the key that made the `next_ref`s of this draft. */
  next_reference_key_id?: string | undefined;
  /** True where the vendor had masked something in this record. */
  upstream_redaction?: boolean;
  /** Named extra fields; values are scrubbed. */
  ext?: Readonly<Record<string, string>>;
}
