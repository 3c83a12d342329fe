import type { AuthEvent } from '../../model/auth_event.ts';
import type {
  CandidateScope,
  ClientLookup,
  EventFact,
  HistorySelection,
  RegistryKeys,
} from '../../model/define_detector.ts';
import type { EventKind } from '../../model/kinds.ts';
import { param, sql, type Sql } from '../../model/sql.ts';
import { isRegisteredRedirect } from './_hosts.ts';
import { kindIn } from './_ledger.ts';
import { isRegistration, registrationCandidates } from './_registered.ts';

/** Events that name the redirect URI somebody asked for. */
export const REDIRECT_KINDS: readonly EventKind[] = [
  'authorization_requested',
  'authorization_failed',
  'par_pushed',
  'code_issued',
];

/** Error codes, in the words of several servers, that say: this redirect URI is not registered. */
export const REDIRECT_ERRORS: readonly string[] = [
  'invalid_redirect_uri',
  'redirect_uri_mismatch',
  'unregistered_redirect_uri',
];

/** Events read per client, day and URI. */
const EVENTS_PER_URI_MAX = 200;
/** Events read per client and day. */
const EVENTS_PER_DAY_MAX = 2_000;

/** Rows whose redirect URI was refused as such, or is missing from some known registration of the client. */
export function suspiciousRedirect(keys: RegistryKeys): Sql {
  return sql`redirect_uri != '' AND (
    (kind = 'authorization_failed' AND (error_code IN ${param.strings(REDIRECT_ERRORS)} OR error_oauth_error IN ${param.strings(REDIRECT_ERRORS)}))
    OR (client_id IN ${param.strings(keys.clients)}
      AND concat(client_id, '\n', redirect_uri) NOT IN ${param.strings(keys.always)}))`;
}

/** Whether new events like these may make a client a candidate of a redirect rule. */
export function concernsRedirects(fact: EventFact, clients: ClientLookup): boolean {
  if (isRegistration(fact) || fact.kind === 'authorization_failed') return true;
  const isKnown = clients.redirectKeys.clients.length > 0;
  return isKnown && REDIRECT_KINDS.some((k) => k === fact.kind);
}

export function redirectCandidates(scope: CandidateScope): Sql {
  const since = sql`fromUnixTimestamp64Nano(${param.int64(scope.timeFrom)}, 'UTC')`;
  return registrationCandidates(
    scope,
    REDIRECT_KINDS,
    suspiciousRedirect(scope.clients.redirectKeys),
    since,
  );
}

export function redirectHistory(selection: HistorySelection): Sql {
  return sql`
    SELECT entity, event_id, at FROM (
      SELECT entity, event_id, at FROM (
        SELECT client_id AS entity, event_id, any(redirect_uri) AS uri, any(time) AS at
        FROM grantscope.auth_events
        WHERE tenant = ${param.string(selection.tenant)} AND ${kindIn(REDIRECT_KINDS)}
          AND client_id IN ${param.strings(selection.entities)}
          AND time >= fromUnixTimestamp64Nano(${param.int64(selection.window?.readFrom ?? 0n)}, 'UTC')
          AND time < fromUnixTimestamp64Nano(${param.int64(selection.window?.to ?? 0n)}, 'UTC')
          AND ${suspiciousRedirect(selection.clients.redirectKeys)}
        GROUP BY client_id, event_id
      ) ORDER BY entity, at, event_id LIMIT ${param.uint(EVENTS_PER_URI_MAX)} BY entity, uri
    ) ORDER BY entity, at, event_id LIMIT ${param.uint(EVENTS_PER_DAY_MAX)} BY entity`;
}

/** The server itself refused the URI. */
export function wasRefused(event: AuthEvent): boolean {
  return (
    event.kind === 'authorization_failed' &&
    (REDIRECT_ERRORS.includes(event.error.code) ||
      REDIRECT_ERRORS.includes(event.error.oauth_error))
  );
}

/** Not registered at that time: by the registration where known, else by the server's own word. */
export function isUnregistered(event: AuthEvent, clients: ClientLookup): boolean {
  const registered = clients.at(event.client.id, event.time).redirectUris;
  if (registered === undefined) return wasRefused(event);
  return !isRegisteredRedirect(event.redirect_uri, registered);
}
