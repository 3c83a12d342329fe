import type { EventKind, Outcome } from '../../model/kinds.ts';
import { lookUp } from './_reading.ts';

/** What an AADSTS number means. */
export interface EntraError {
  /** What the client was told: RFC 6749 sections 4.1.2.1 and 5.2, RFC 8628 section 3.5, OIDC Core section 3.1.2.6. */
  readonly oauth?: string;
  /** Kind of an interactive sign-in that ends so; left out: login_failed. */
  readonly kind?: EventKind;
  /** Left out: failure. */
  readonly outcome?: Outcome;
}

const refused = (kind: EventKind | undefined, oauth: string, outcome?: Outcome): EntraError => ({
  oauth,
  ...(kind === undefined ? {} : { kind }),
  ...(outcome === undefined ? {} : { outcome }),
});

const BAD_GRANT = refused(undefined, 'invalid_grant');
const BAD_CLIENT = refused('authorization_failed', 'invalid_client');
const BAD_REQUEST = refused('authorization_failed', 'invalid_request');
const BAD_SCOPE = refused('authorization_failed', 'invalid_scope');
const UNAUTHORIZED = refused('authorization_failed', 'unauthorized_client');
const MFA = refused('mfa_challenged', 'interaction_required', 'challenge');
/** The person is asked something more, such as whether to stay signed in: neither a success nor a failure yet. */
const INTERRUPTED = refused('login', 'interaction_required', 'pending');
const BLOCKED = refused(undefined, 'access_denied', 'denied');
const UNAVAILABLE = refused(undefined, 'temporarily_unavailable');

const of = (error: EntraError, ...codes: readonly number[]): readonly [string, EntraError][] =>
  codes.map((code) => [String(code), error]);

const ERRORS: Readonly<Record<string, EntraError>> = Object.fromEntries([
  ...of(BAD_GRANT, 50013, 50020, 50034, 50055, 50056, 50057, 50126, 50133, 50173, 50196, 51004),
  // A code that was redeemed before, a verifier that does not match, refresh tokens that ended.
  ...of(
    BAD_GRANT,
    54005,
    50148,
    501481,
    500133,
    70000,
    70008,
    700005,
    700082,
    700084,
    70018,
    70043,
  ),
  ...of(refused(undefined, 'invalid_grant', 'denied'), 50053),
  ...of(refused('mfa_result', 'invalid_grant'), 500121),
  ...of(BAD_CLIENT, 50012, 70002, 700021, 700023, 700024, 700025, 700027, 700211, 700212, 700213),
  ...of(BAD_CLIENT, 7000215, 7000216, 7000218, 7000222),
  ...of(UNAUTHORIZED, 70001, 700016, 7000112, 7000229),
  ...of(BAD_REQUEST, 50011, 50059, 50128, 50146, 50147, 50194, 501491, 90014, 900144, 9002325),
  ...of(BAD_SCOPE, 28002, 28003, 650053, 70011),
  ...of(refused('authorization_failed', 'unsupported_response_type'), 70005),
  ...of(refused(undefined, 'unsupported_grant_type'), 70003),
  ...of(refused('authorization_failed', 'invalid_target'), 500011),
  ...of(refused(undefined, 'authorization_pending', 'pending'), 70016),
  ...of(refused(undefined, 'expired_token'), 70019),
  ...of(MFA, 50072, 50074, 50076, 50078, 50079, 50158),
  ...of(INTERRUPTED, 16000, 16001, 16003, 50097, 50125, 50127, 50129, 50140, 50144, 50199, 51006),
  ...of(refused('login', 'login_required', 'pending'), 50058),
  ...of(BLOCKED, 50005, 50131, 53000, 53001, 53002, 53003, 53004, 53011, 530032, 530034),
  ...of(refused('authorization_failed', 'access_denied', 'denied'), 50105),
  ...of(refused('authorization_failed', 'consent_required', 'pending'), 65001),
  ...of(refused('authorization_failed', 'consent_required', 'denied'), 90094, 90095),
  ...of(refused('consent_denied', 'access_denied', 'denied'), 65004),
  ...of(UNAVAILABLE, 90006, 90033),
]);

/** What the number says; {} for one that is not in the table: the event then names the number alone. */
export function entraError(code: string): EntraError {
  return lookUp(ERRORS, code) ?? {};
}
