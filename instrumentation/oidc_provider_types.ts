import type { IncomingMessage } from 'node:http';

/**
 * The parts of oidc-provider 9 that the instrumentation reads, as structural types: the package is the
 * host's, and a host without it must not need its types. Everything is optional that an early failure can
 * leave out.
 */
export interface ProviderLike {
  readonly issuer: string;
  on(event: string, listener: (...args: never[]) => void): unknown;
  use(middleware: (ctx: never, next: () => Promise<unknown>) => Promise<void>): unknown;
}

export interface OidcClient {
  readonly clientId: string;
  readonly clientName?: string | undefined;
  readonly clientAuthMethod?: string | undefined;
  readonly redirectUris?: readonly string[] | undefined;
  readonly grantTypes?: readonly string[] | undefined;
  readonly responseTypes?: readonly string[] | undefined;
  readonly scope?: string | undefined;
  readonly applicationType?: string | undefined;
}

/** Any stored model: tokens, codes, grants. */
export interface OidcModel {
  readonly kind?: string | undefined;
  /** For opaque tokens and codes this IS the bearer secret. */
  readonly jti: string;
  readonly clientId?: string | undefined;
  readonly accountId?: string | undefined;
  readonly grantId?: string | undefined;
  readonly sessionUid?: string | undefined;
  readonly scope?: string | undefined;
  readonly aud?: string | undefined;
  readonly jkt?: string | undefined;
  readonly 'x5t#S256'?: string | undefined;
  readonly acr?: string | undefined;
  readonly amr?: readonly string[] | undefined;
  readonly nonce?: string | undefined;
  readonly codeChallenge?: string | undefined;
  readonly consumed?: unknown;
  /** Refresh tokens: when the first of the chain was issued, seconds; and how often it was rotated. */
  readonly iiat?: number | undefined;
  readonly rotations?: number | undefined;
  /** Grants. */
  readonly openid?: { readonly scope?: string | undefined } | undefined;
  readonly resources?: Readonly<Record<string, string>> | undefined;
}

export interface OidcInteraction {
  readonly prompt?: { readonly name?: string | undefined } | undefined;
  readonly result?: OidcResult | undefined;
  readonly lastSubmission?: OidcResult | undefined;
}

export interface OidcResult {
  readonly login?: { readonly accountId?: string | undefined } | undefined;
  readonly consent?: { readonly grantId?: string | undefined } | undefined;
}

export interface OidcSession {
  readonly uid?: string | undefined;
  readonly accountId?: string | undefined;
  readonly acr?: string | undefined;
  readonly amr?: readonly string[] | undefined;
}

export interface OidcState {
  readonly route?: string | undefined;
  readonly params?: Readonly<Record<string, unknown>> | undefined;
  readonly body?: Readonly<Record<string, unknown>> | undefined;
  readonly session?: OidcSession | undefined;
  readonly result?: OidcResult | undefined;
  readonly client?: OidcClient | undefined;
  readonly entities?:
    | Readonly<
        Partial<
          Record<
            | 'AccessToken'
            | 'AuthorizationCode'
            | 'ClientCredentials'
            | 'DeviceCode'
            | 'Grant'
            | 'PushedAuthorizationRequest'
            | 'RefreshToken'
            | 'RotatedRefreshToken',
            OidcModel
          >
        > & { Interaction?: OidcInteraction; Account?: { readonly accountId?: string } }
      >
    | undefined;
}

/** Koa's context. `oidc` exists once a route of the provider has matched. */
export interface OidcContext {
  readonly req: IncomingMessage;
  readonly method: string;
  readonly status: number;
  readonly body?: unknown;
  readonly query?: Readonly<Record<string, unknown>>;
  /** The pattern of the matched route, e.g. `/auth/:uid`. */
  readonly _matchedRoute?: string;
  readonly oidc?: OidcState;
}

export interface OidcError {
  readonly name?: string;
  readonly message?: string;
  /** The OAuth error code. */
  readonly error?: string;
  readonly error_description?: string;
  /** For the operator's log only. */
  readonly error_detail?: string;
  readonly status?: number;
  readonly expose?: boolean;
}
