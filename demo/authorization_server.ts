import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import {
  Provider,
  type Client,
  type ClientMetadata,
  type Configuration,
  type JWK,
  type KoaContextWithOIDC,
  type ResourceServer,
} from 'oidc-provider';
import type { AuthRecorder } from '../instrumentation/index.ts';
import { instrumentOidcProvider } from '../instrumentation/index.ts';
import { interactionPages } from './interaction_pages.ts';
import { createAdapterStorage } from './memory_adapter.ts';
import {
  ACCESS_TOKEN_SECONDS,
  KNOWN_SCOPES,
  ORDERS_API,
  PAYMENTS_API,
  RESOURCE_SCOPES,
  type ApplicationDefinition,
  type ApplicationKind,
  type Subject,
} from './population.ts';
import type { Introspector } from './resource_servers.ts';
import type { SecretLedger } from './secret_ledger.ts';
import { ServiceFaults } from './service_faults.ts';

export const DEVICE_GRANT = 'urn:ietf:params:oauth:grant-type:device_code';

/**
 * Faults of authorization-server policy that an attack switches on, each for named clients only.
 * All three have been seen in real deployments.
 */
export interface PolicyFaults {
  /** Scopes of an API are granted without a look at the client's registration. */
  readonly registrationIgnored: Set<string>;
  /** A refresh grants all that the client is registered for instead of keeping to the original grant. */
  readonly refreshWidens: Set<string>;
}

export interface AuthorizationServer {
  readonly issuer: URL;
  readonly provider: Provider;
  readonly faults: PolicyFaults;
  readonly service: ServiceFaults;
  /** Entries that the bounded storage had to forget. */
  readonly dropped: () => number;
  close(): Promise<void>;
}

export interface AuthorizationServerOptions {
  readonly applications: readonly ApplicationDefinition[];
  readonly subjects: readonly Subject[];
  /** The resource server that introspects opaque tokens: client id and secret. */
  readonly introspector: Introspector;
  readonly recorder: AuthRecorder;
  readonly ledger: SecretLedger;
  /** 0 takes a free one. */
  readonly port: number;
}

/**
 * The demo's authorization server: oidc-provider with rotation of refresh tokens, PKCE for everyone, PAR,
 * device flow, dynamic registration, revocation, and two resources, of which one gets JWT access tokens and
 * the other opaque ones that it introspects. Listens on 127.0.0.1.
 */
export async function startAuthorizationServer(
  options: AuthorizationServerOptions,
): Promise<AuthorizationServer> {
  const server = createServer();
  const port = await listen(server, options.port);
  const issuer = new URL(`http://127.0.0.1:${port}`);
  const faults: PolicyFaults = { registrationIgnored: new Set(), refreshWidens: new Set() };
  const service = new ServiceFaults();
  const storage = createAdapterStorage(options.ledger);
  const provider = new Provider(issuer.origin, {
    ...configuration(options, faults, service),
    adapter: storage.adapter,
  });
  // Simulated networks arrive in X-Forwarded-For, as they do behind a real load balancer.
  provider.proxy = true;
  provider.use(interactionPages(provider, options.subjects, options.recorder));
  instrumentOidcProvider(provider, options.recorder, { trustProxy: true });
  const handle = provider.callback();
  server.on('request', (request, response) => {
    if (service.isDown) request.socket.destroy();
    else void handle(request, response);
  });
  return {
    issuer,
    provider,
    faults,
    service,
    dropped: storage.dropped,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

async function listen(server: Server, port: number): Promise<number> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, '127.0.0.1', () => resolve());
  });
  return (server.address() as AddressInfo).port;
}

function configuration(
  options: AuthorizationServerOptions,
  faults: PolicyFaults,
  service: ServiceFaults,
): Configuration {
  const cookieKey = randomBytes(32).toString('base64url');
  options.ledger.add('cookie', cookieKey);
  const lives = new Map(options.applications.map((a) => [a.clientId, a.accessTokenSeconds]));
  return {
    clients: clientMetadata(options),
    clientDefaults: { id_token_signed_response_alg: 'ES256' },
    jwks: { keys: [signingKey(options.ledger)] },
    scopes: [...KNOWN_SCOPES],
    claims: { openid: ['sub'], email: ['email'], profile: ['name'] },
    cookies: { keys: [cookieKey] },
    pkce: { required: () => true },
    features: features(options, faults, service),
    extraTokenClaims: async (_ctx, token) => {
      await service.beforeToken(token.clientId);
      return undefined;
    },
    interactions: { url: (_ctx, interaction) => `/interaction/${interaction.uid}` },
    findAccount: (_ctx, id) => ({
      accountId: id,
      claims: () => ({ sub: id, email: id, name: id }),
    }),
    issueRefreshToken: (_ctx, client) => client.grantTypeAllowed('refresh_token'),
    expiresWithSession: () => false,
    rotateRefreshToken: async (ctx) => {
      await widenOnRefresh(ctx, faults);
      return true;
    },
    renderError: (ctx, out) => {
      ctx.type = 'text/plain';
      ctx.body = `${out.error}: ${out.error_description ?? ''}\n`;
    },
    ttl: {
      AccessToken: (_ctx, _token, client) => lives.get(client.clientId) ?? ACCESS_TOKEN_SECONDS,
      AuthorizationCode: 60,
      ClientCredentials: 300,
      DeviceCode: 300,
      Grant: 86_400,
      IdToken: 3_600,
      Interaction: 600,
      RefreshToken: 86_400,
      Session: 86_400,
    },
  };
}

function features(
  options: AuthorizationServerOptions,
  faults: PolicyFaults,
  service: ServiceFaults,
): NonNullable<Configuration['features']> {
  return {
    devInteractions: { enabled: false },
    dPoP: { enabled: false },
    clientCredentials: { enabled: true },
    deviceFlow: {
      enabled: true,
      charset: 'base-20',
      mask: '****-****-****',
      successSource: (ctx) => plainPage(ctx, 'Device connected.'),
      userCodeConfirmSource: (ctx, form) =>
        plainPage(ctx, `${form}<button form="op.deviceConfirmForm">Continue</button>`),
      userCodeInputSource: (ctx, form) => plainPage(ctx, form),
    },
    introspection: {
      enabled: true,
      allowedPolicy: (_ctx, client) => {
        service.beforeIntrospection();
        return client.clientId === options.introspector.clientId;
      },
    },
    pushedAuthorizationRequests: { enabled: true },
    registration: { enabled: true },
    registrationManagement: { enabled: true },
    revocation: {
      enabled: true,
      allowedPolicy: (_ctx, client, token) => client.clientId === token.clientId,
    },
    resourceIndicators: {
      enabled: true,
      useGrantedResource: () => true,
      getResourceServerInfo: (_ctx, resource, client) =>
        resourceServerInfo(resource, client, faults),
    },
    rpInitiatedLogout: { enabled: false },
    userinfo: { enabled: true },
  };
}

function plainPage(ctx: KoaContextWithOIDC, body: string): void {
  ctx.type = 'html';
  ctx.body = `<!doctype html><title>Harbour sign-in</title>${body}`;
}

/**
 * What this client may get for this resource. oidc-provider compares a request with the registration for
 * the scopes of its own configuration only, so a policy that is right has to narrow an API's scopes here;
 * `registrationIgnored` leaves that out.
 */
function resourceServerInfo(
  resource: string,
  client: Client,
  faults: PolicyFaults,
): ResourceServer {
  const offered = RESOURCE_SCOPES[resource] ?? [];
  const registered = new Set(client.scope?.split(' ') ?? []);
  const scopes = faults.registrationIgnored.has(client.clientId)
    ? offered
    : offered.filter((scope) => registered.has(scope));
  return {
    scope: scopes.join(' '),
    audience: resource,
    accessTokenFormat: resource === PAYMENTS_API ? 'opaque' : 'jwt',
    ...(resource === ORDERS_API ? { jwt: { sign: { alg: 'ES256' as const } } } : {}),
  };
}

/** The fault `refreshWidens`: grant and token are widened to the registration just before the rotation. */
async function widenOnRefresh(ctx: KoaContextWithOIDC, faults: PolicyFaults): Promise<void> {
  const { Client: client, RefreshToken: token, Grant: grant } = ctx.oidc.entities;
  if (client === undefined || token === undefined || grant === undefined) return;
  if (!faults.refreshWidens.has(client.clientId) || typeof token.resource !== 'string') return;
  const registered = client.scope ?? '';
  token.scope = registered;
  grant.addResourceScope(token.resource, registered);
  await grant.save();
}

function signingKey(ledger: SecretLedger): JWK {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const jwk = privateKey.export({ format: 'jwk' }) as JWK;
  ledger.add('signing_key', jwk.d);
  return { ...jwk, use: 'sig', alg: 'ES256', kid: randomBytes(8).toString('hex') };
}

const GRANTS_OF_KIND: Readonly<Record<ApplicationKind, readonly string[]>> = {
  web: ['authorization_code', 'refresh_token'],
  spa: ['authorization_code', 'refresh_token'],
  mobile: ['authorization_code', 'refresh_token'],
  device: [DEVICE_GRANT, 'refresh_token'],
  machine: ['client_credentials'],
};

export function grantTypesOf(kind: ApplicationKind): readonly string[] {
  return GRANTS_OF_KIND[kind];
}

function clientMetadata(options: AuthorizationServerOptions): ClientMetadata[] {
  const { clientId, clientSecret } = options.introspector;
  options.ledger.add('client_secret', clientSecret);
  const introspector: ClientMetadata = {
    client_id: clientId,
    client_secret: clientSecret,
    redirect_uris: [],
    response_types: [],
    grant_types: ['client_credentials'],
  };
  return [introspector, ...options.applications.map((a) => metadataOf(a, options.ledger))];
}

function metadataOf(application: ApplicationDefinition, ledger: SecretLedger): ClientMetadata {
  ledger.add('client_secret', application.clientSecret);
  const interactive = application.redirectUris.length > 0;
  return {
    client_id: application.clientId,
    client_name: application.name,
    redirect_uris: [...application.redirectUris],
    response_types: interactive ? ['code'] : [],
    grant_types: [...GRANTS_OF_KIND[application.kind]],
    scope: application.scopes.join(' '),
    application_type: application.kind === 'mobile' ? 'native' : 'web',
    ...(application.clientSecret === undefined
      ? { token_endpoint_auth_method: 'none' as const }
      : {
          client_secret: application.clientSecret,
          token_endpoint_auth_method: 'client_secret_basic' as const,
        }),
  };
}
