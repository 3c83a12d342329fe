import type { AuthEvent, TokenMention } from '../../model/auth_event.ts';
import { KeyRing } from '../../runtime/keyring.ts';
import { TEST_KEY } from '../harness.ts';

const ring = KeyRing.fromKey(TEST_KEY);

/** What the test compares of an event, in the words of the clients: ids are raw here and become references below. */
export interface Seen {
  readonly kind: AuthEvent['kind'];
  readonly outcome?: AuthEvent['outcome'];
  readonly phase?: AuthEvent['phase'];
  /** Keycloak's word. */
  readonly error?: string;
  readonly oauthError?: string;
  readonly client?: string;
  readonly requestedClient?: string;
  readonly subject?: string;
  readonly actor?: string;
  readonly grantType?: string;
  readonly endpoint?: string;
  readonly asked?: readonly string[];
  readonly granted?: readonly string[];
  readonly audience?: readonly string[];
  readonly redirectUri?: string;
  readonly session?: string;
  /** The client whose part of the session it is; the event's own where left out, none where ''. */
  readonly grantClient?: string;
  readonly address?: string;
  readonly tokens?: readonly SeenToken[];
}

/** A token by the `jti` that its holder read in it. */
export interface SeenToken {
  readonly role: TokenMention['role'];
  readonly type: TokenMention['type'];
  readonly jti: string;
  readonly parent?: string;
  /** Refresh tokens, and what was got for one, have the family of their grant. */
  readonly family?: boolean;
}

/** The one form that expected and stored events are compared in. */
export type Compared = Readonly<Record<string, unknown>>;

/** The UUID in a `jti`, which Keycloak puts the token's make in front of. */
const uuidOf = (jti: string): string => jti.slice(jti.indexOf(':') + 1);
const refOf = (kind: 'session' | 'subject' | 'grant', id: string | undefined): string =>
  id === undefined ? '' : ring.ref(kind, id);

export function comparedOfSeen(rawType: string, atMs: number, seen: Seen): Compared {
  const { session, grantClient = seen.client ?? '' } = seen;
  const hasGrant = session !== undefined && grantClient !== '';
  const grant = hasGrant ? `${session}/${grantClient}` : undefined;
  return {
    at: new Date(atMs).toISOString(),
    raw_type: rawType,
    kind: seen.kind,
    phase: seen.phase ?? 'single',
    outcome: seen.outcome ?? 'success',
    error: [seen.error ?? '', seen.oauthError ?? ''],
    client: seen.client ?? '',
    requested_client: seen.requestedClient ?? '',
    subject: refOf('subject', seen.subject),
    actor: refOf('subject', seen.actor),
    grant_type: seen.grantType ?? '',
    endpoint: seen.endpoint ?? '',
    asked: [...(seen.asked ?? [])].sort(),
    granted: [...(seen.granted ?? [])].sort(),
    audience: seen.audience ?? [],
    redirect_uri: seen.redirectUri ?? '',
    session: refOf('session', session),
    grant: refOf('grant', grant),
    address: seen.address ?? '',
    tokens: (seen.tokens ?? []).map((t) => ({
      role: t.role,
      type: t.type,
      ref: uuidOf(t.jti),
      family: (t.family ?? t.type === 'refresh') && grant !== undefined ? ring.refOfJti(grant) : '',
      parent: t.parent === undefined ? '' : uuidOf(t.parent),
    })),
  };
}

export function comparedOfEvent(event: AuthEvent): Compared {
  return {
    at: new Date(Number(event.time / 1_000_000n)).toISOString(),
    raw_type: event.source.raw_type,
    kind: event.kind,
    phase: event.phase,
    outcome: event.outcome,
    error: [event.error.code, event.error.oauth_error],
    client: event.client.id,
    requested_client: event.requested_client_id,
    subject: event.subject.ref,
    actor: event.actor.ref,
    grant_type: event.grant_type,
    endpoint: event.endpoint,
    asked: event.scopes_requested,
    granted: event.scopes_granted,
    audience: event.audience,
    redirect_uri: event.redirect_uri,
    session: event.session_ref,
    grant: event.grant_ref,
    address: event.net.client_ip,
    tokens: event.tokens.map((t) => ({
      role: t.role,
      type: t.type,
      ref: t.ref,
      family: t.family_ref,
      parent: t.parent_ref,
    })),
  };
}
