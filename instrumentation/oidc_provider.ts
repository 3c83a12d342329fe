import { AsyncLocalStorage } from 'node:async_hooks';
import { httpFacts, type HttpFacts, type HttpOptions } from './http_facts.ts';
import {
  NOTES_LENGTH_MAX,
  bindingOf,
  emptyNotes,
  familyOf,
  grantOf,
  sessionOf,
  subjectOf,
  type RequestNotes,
} from './oidc_provider_call.ts';
import { providerEvents } from './oidc_provider_events.ts';
import type { OidcContext, OidcError, OidcModel, ProviderLike } from './oidc_provider_types.ts';
import { recordTogether, type AuthRecorder } from './recorder.ts';

export type OidcProviderOptions = HttpOptions;

/** Events of oidc-provider that carry `(ctx, error)`. */
const ERROR_EVENTS = [
  'authorization.error',
  'backchannel_authentication.error',
  'code_verification.error',
  'device_authorization.error',
  'device_resume.error',
  'end_session_confirm.error',
  'grant.error',
  'introspection.error',
  'jwks.error',
  'pushed_authorization_request.error',
  'registration_create.error',
  'registration_delete.error',
  'registration_update.error',
  'revocation.error',
  'server_error',
  'userinfo.error',
] as const;

/**
 * Makes an oidc-provider (version 9) tell what it does. Call it once, before the server listens.
 *
 * A middleware around all routes notes the time and the caller; the provider's events, which tell half of
 * it each, are gathered while the request is answered; when the answer stands, the whole is recorded.
 * So the events of one request share a trace, and durations and status are those of the answer.
 * The provider's answers, timing and errors stay as they are.
 */
export function instrumentOidcProvider(
  provider: ProviderLike,
  recorder: AuthRecorder,
  options: OidcProviderOptions = {},
): void {
  const requests = new AsyncLocalStorage<RequestNotes>();
  listen(provider, recorder, requests);
  provider.use(async (ctx: OidcContext, next) => {
    const notes = emptyNotes();
    const http = recorder.guard(() => httpFacts(ctx.req, options));
    try {
      await requests.run(notes, next);
    } finally {
      if (http !== undefined) recorder.guard(() => tell(provider, recorder, ctx, notes, http));
    }
  });
}

function tell(
  provider: ProviderLike,
  recorder: AuthRecorder,
  ctx: OidcContext,
  notes: RequestNotes,
  http: HttpFacts,
): void {
  const { oidc } = ctx;
  if (oidc === undefined) return;
  recordTogether(
    recorder,
    http,
    providerEvents({ ctx, oidc, notes, issuer: provider.issuer, http }),
  );
}

function listen(
  provider: ProviderLike,
  recorder: AuthRecorder,
  requests: AsyncLocalStorage<RequestNotes>,
): void {
  const note = (write: (notes: RequestNotes) => void): void => {
    const notes = requests.getStore();
    if (notes !== undefined) recorder.guard(() => write(notes));
  };
  for (const name of ERROR_EVENTS) {
    provider.on(name, (_ctx: unknown, error: OidcError) => note((n) => add(n.errors, error)));
  }
  provider.on('grant.revoked', (_ctx: unknown, grantId: string) =>
    note((n) => add(n.revokedGrantIds, grantId)),
  );
  provider.on('interaction.ended', (ctx: OidcContext) => {
    const resumed = ctx.oidc?.entities?.Interaction;
    if (resumed !== undefined) note((n) => (n.resumed = resumed));
  });
  provider.on('authorization_code.saved', (code: OidcModel) => note((n) => (n.code = code)));
  provider.on('authorization.success', (_ctx: unknown, response?: object) =>
    note((n) => (n.authorized = response ?? {})),
  );
  for (const name of ['access_token', 'client_credentials', 'refresh_token'] as const) {
    provider.on(`${name}.destroyed`, (token: OidcModel) => {
      if (requests.getStore() === undefined) recordHostRevocation(provider, recorder, token);
      else note((n) => add(n.destroyed, token));
    });
  }
}

function add<T>(list: T[], item: T): void {
  if (list.length < NOTES_LENGTH_MAX) list.push(item);
}

/** The host's own code destroyed a token, outside of any request of the provider. */
function recordHostRevocation(
  provider: ProviderLike,
  recorder: AuthRecorder,
  token: OidcModel,
): void {
  recorder.guard(() => {
    const refresh = token.kind === 'RefreshToken';
    recorder.record({
      kind: 'token_revoked',
      outcome: 'success',
      issuer: provider.issuer,
      client: { id: token.clientId },
      subject: subjectOf(token.accountId),
      session: sessionOf(token.sessionUid),
      grant: grantOf(token.grantId),
      ...bindingOf(token),
      tokens: [
        {
          role: 'revoked',
          type: refresh ? 'refresh' : 'access',
          value: token.jti,
          family: refresh ? familyOf(token) : undefined,
        },
      ],
      ext: { revoked: 'true' },
    });
  });
}
