import type { Ref } from '../model/ids.ts';
import type {
  Binding,
  EventKind,
  IpRole,
  Outcome,
  Phase,
  PkceMethod,
  RefKind,
  SubjectType,
  TokenRole,
  TokenType,
} from '../model/kinds.ts';

/**
 * How the host names a token. Give exactly one:
 * - `value`: the raw token, code or request_uri; it becomes a reference inside the recorder and is never
 *   an attribute. For a JWT the `jti` is taken, so that the authorization server and the API join;
 * - `jti`: the `jti` claim of a JWT that is not at hand;
 * - `ref`: a reference made before (with `ref_kind`, else `hmac`).
 */
export interface RecordedTokenName {
  value?: string | undefined;
  jti?: string | undefined;
  ref?: Ref | undefined;
  ref_kind?: RefKind | undefined;
}

/** A raw identifier, which becomes a reference inside the recorder, or a reference made before. */
export interface RecordedId {
  id?: string | undefined;
  ref?: Ref | undefined;
}

/** A token that the event mentions: one for each pair of role and type. */
export interface RecordedToken extends RecordedTokenName {
  role: TokenRole;
  type: TokenType;
  /** The rotation family: any id that stays equal along all refreshes of one authorization. */
  family?: RecordedId | undefined;
  /** What this token was obtained with: the code, device code or the refresh token before. */
  parent?: RecordedTokenName | undefined;
  /** Position in the family, from 0. */
  counter?: number | undefined;
  /** Seconds since the epoch; read from a JWT where left out. */
  issued_at?: number | undefined;
  expires_at?: number | undefined;
  /** JOSE header of a JWT; read from `value` where left out. */
  kid?: string | undefined;
  alg?: string | undefined;
}

/**
 * What happened, as the host knows it. Close to AuthEvent (model/auth_event.ts), but raw: the recorder
 * turns tokens, subjects, sessions and grants into keyed references, cuts query and fragment off redirect
 * URIs, and scrubs free text. Leave out what is not known; never write a guess.
 */
export interface RecordedAuthEvent {
  kind: EventKind;
  outcome?: Outcome | undefined;
  phase?: Phase | undefined;
  /** The host's own name of the event. */
  raw_type?: string | undefined;
  error?:
    | { code?: string | undefined; oauth_error?: string | undefined; detail?: string | undefined }
    | undefined;
  grant_type?: string | undefined;
  response_type?: string | undefined;
  /** authorization, token, introspection, revocation, userinfo, ... */
  endpoint?: string | undefined;
  client?:
    | { id?: string | undefined; name?: string | undefined; auth_method?: string | undefined }
    | undefined;
  /** What the request named, where no registered client was found by it. */
  requested_client_id?: string | undefined;
  subject?: (RecordedId & { type?: SubjectType | undefined }) | undefined;
  actor?: (RecordedId & { type?: SubjectType | undefined }) | undefined;
  issuer?: string | undefined;
  audience?: readonly string[] | undefined;
  resource?: readonly string[] | undefined;
  scopes_requested?: readonly string[] | undefined;
  scopes_granted?: readonly string[] | undefined;
  redirect_uri?: string | undefined;
  pkce?: PkceMethod | undefined;
  binding?: Binding | undefined;
  binding_thumbprint?: string | undefined;
  tokens?: readonly RecordedToken[] | undefined;
  session?: RecordedId | undefined;
  grant?: RecordedId | undefined;
  net?:
    | {
        client_ip?: string | undefined;
        /** Whose address it is; left out = unknown. */
        ip_role?: IpRole | undefined;
        user_agent?: string | undefined;
      }
    | undefined;
  http?:
    | {
        method?: string | undefined;
        /** The route's pattern such as `/orders/:id`, never the path as asked. */
        route?: string | undefined;
        status?: number | undefined;
        duration_ms?: number | undefined;
      }
    | undefined;
  policy_decision?: string | undefined;
  acr?: string | undefined;
  amr?: readonly string[] | undefined;
  request_id?: string | undefined;
  /** RFC 7591 metadata of a client, on client_registered and client_updated. */
  client_metadata?:
    | {
        redirect_uris?: readonly string[] | undefined;
        scope?: string | undefined;
        grant_types?: readonly string[] | undefined;
        response_types?: readonly string[] | undefined;
        token_endpoint_auth_method?: string | undefined;
        application_type?: string | undefined;
      }
    | undefined;
  /** Further named facts; values are scrubbed. */
  ext?: Readonly<Record<string, string | undefined>> | undefined;
}
