import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { generateKeyPairSync } from 'node:crypto';
import { Provider } from 'oidc-provider';
import {
  instrumentOidcProvider,
  startTelemetry,
  type Telemetry,
} from '../../instrumentation/index.ts';
import { tracing } from '../../instrumentation/otel_sdk.ts';
import { TEST_KEY } from '../harness.ts';

/** A real authorization server on a free port of loopback, instrumented, with spans kept in memory. */
export interface InstrumentedProvider {
  readonly issuer: string;
  readonly provider: Provider;
  readonly telemetry: Telemetry;
  readonly exporter: tracing.InMemorySpanExporter;
  /** What the login page answers. */
  readonly user: { accountId: string; refusesConsent: boolean };
  close(): Promise<void>;
}

export const ORDERS_API = 'https://orders.example';
export const WEB = {
  id: 'web-shop',
  secret: 'web-shop-secret-5f0c1d7b9a',
  uri: 'https://shop.example/cb',
};
export const SPA = { id: 'spa-shop', uri: 'https://spa.example/cb' };
export const JOB = { id: 'nightly-job', secret: 'nightly-job-secret-77aa10' };
export const TV = { id: 'tv-app' };
export const API = { id: 'orders-api', secret: 'orders-api-secret-c0ffee11' };

/** `endpoint`: a collector to send the spans to; without it they stay in memory. */
export async function startInstrumentedProvider(endpoint?: string): Promise<InstrumentedProvider> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const issuer = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const exporter = new tracing.InMemorySpanExporter();
  const telemetry = startTelemetry({
    serviceName: 'test-as',
    endpoint: endpoint ?? '',
    hashKey: TEST_KEY,
    exporter: endpoint === undefined ? exporter : undefined,
  });
  const provider = new Provider(issuer, configuration());
  const user = { accountId: 'alice@example.com', refusesConsent: false };
  provider.use(async (ctx, next) => {
    if (!ctx.path.startsWith('/interaction/')) {
      await next();
      return;
    }
    await interact(provider, ctx, user);
    ctx.respond = false;
  });
  instrumentOidcProvider(provider, telemetry.recorder, { trustProxy: true });
  server.on('request', (req, res) => void provider.callback()(req, res));
  return {
    issuer,
    provider,
    telemetry,
    exporter,
    user,
    close: async () => {
      await telemetry.shutdown();
      await closeServer(server);
    },
  };
}

export async function closeServer(server: Server): Promise<void> {
  const closed = new Promise<void>((resolve) => server.close(() => resolve()));
  server.closeAllConnections();
  await closed;
}

type ProviderConfiguration = NonNullable<ConstructorParameters<typeof Provider>[1]>;

function configuration(): ProviderConfiguration {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const key = {
    ...privateKey.export({ format: 'jwk' }),
    kid: 'as-key-1',
    alg: 'ES256',
    use: 'sig',
  };
  const code = ['authorization_code', 'refresh_token'];
  return {
    clients: [
      {
        client_id: WEB.id,
        client_name: 'Web shop',
        client_secret: WEB.secret,
        redirect_uris: [WEB.uri],
        grant_types: code,
      },
      {
        client_id: SPA.id,
        token_endpoint_auth_method: 'none',
        redirect_uris: [SPA.uri],
        grant_types: code,
      },
      {
        client_id: JOB.id,
        client_secret: JOB.secret,
        grant_types: ['client_credentials'],
        redirect_uris: [],
        response_types: [],
      },
      {
        client_id: TV.id,
        token_endpoint_auth_method: 'none',
        grant_types: ['urn:ietf:params:oauth:grant-type:device_code', 'refresh_token'],
        redirect_uris: [],
        response_types: [],
      },
      {
        client_id: API.id,
        client_secret: API.secret,
        grant_types: [],
        redirect_uris: [],
        response_types: [],
      },
    ],
    clientDefaults: { id_token_signed_response_alg: 'ES256' },
    jwks: { keys: [key] },
    scopes: ['openid', 'offline_access', 'email'],
    cookies: { keys: ['cookie-key-of-the-test-0123456789'] },
    pkce: { required: () => true },
    interactions: { url: (_ctx, interaction) => `/interaction/${interaction.uid}` },
    findAccount: (_ctx, id) => ({ accountId: id, claims: () => ({ sub: id, email: id }) }),
    issueRefreshToken: (_ctx, client) => client.grantTypeAllowed('refresh_token'),
    expiresWithSession: () => false,
    rotateRefreshToken: true,
    renderError: (ctx, out) => {
      ctx.type = 'text/plain';
      ctx.body = out.error;
    },
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      deviceFlow: {
        enabled: true,
        successSource: (ctx) => void (ctx.body = 'connected'),
        userCodeInputSource: (ctx, form) => void (ctx.body = form),
        userCodeConfirmSource: (ctx, form) => void (ctx.body = form),
      },
      introspection: { enabled: true, allowedPolicy: () => true },
      pushedAuthorizationRequests: { enabled: true },
      registration: { enabled: true },
      registrationManagement: { enabled: true },
      revocation: { enabled: true, allowedPolicy: () => true },
      resourceIndicators: {
        enabled: true,
        getResourceServerInfo: () => ({
          scope: 'orders:read orders:write',
          audience: ORDERS_API,
          accessTokenFormat: 'jwt',
          accessTokenTTL: 600,
          jwt: { sign: { alg: 'ES256' } },
        }),
      },
    },
  };
}

/** The login and consent pages of the host: they answer at once. */
async function interact(
  provider: Provider,
  ctx: Parameters<Parameters<Provider['use']>[0]>[0],
  user: InstrumentedProvider['user'],
): Promise<void> {
  const { prompt, params, session, grantId } = await provider.interactionDetails(ctx.req, ctx.res);
  if (prompt.name === 'login') {
    const result = { login: { accountId: user.accountId, amr: ['pwd'] } };
    await provider.interactionFinished(ctx.req, ctx.res, result);
    return;
  }
  if (user.refusesConsent) {
    await provider.interactionFinished(ctx.req, ctx.res, { error: 'access_denied' });
    return;
  }
  const grant =
    (grantId === undefined ? undefined : await provider.Grant.find(grantId)) ??
    new provider.Grant({ accountId: session?.accountId, clientId: String(params['client_id']) });
  const details = prompt.details as {
    missingOIDCScope?: string[];
    missingResourceScopes?: Record<string, string[]>;
  };
  grant.addOIDCScope(details.missingOIDCScope?.join(' ') ?? '');
  for (const [resource, scopes] of Object.entries(details.missingResourceScopes ?? {})) {
    grant.addResourceScope(resource, scopes.join(' '));
  }
  const consent = { consent: { grantId: await grant.save() } };
  await provider.interactionFinished(ctx.req, ctx.res, consent);
}

/** A browser without a window: follows redirects on the issuer and keeps its cookies. */
export class Browser {
  readonly #cookies = new Map<string, string>();
  readonly #headers: Record<string, string>;

  constructor(headers: Record<string, string> = {}) {
    this.#headers = headers;
  }

  get cookieValues(): readonly string[] {
    return [...this.#cookies.values()];
  }

  /** Walks from `start` until it is sent to another origin, or gets a page. */
  async walk(start: URL, init: RequestInit = {}): Promise<{ location?: URL; page: string }> {
    let url = start;
    let request = init;
    for (let hops = 0; hops < 20; hops += 1) {
      const answer = await this.#fetch(url, request);
      const location = answer.headers.get('location');
      if (location === null) return { page: await answer.text() };
      await answer.arrayBuffer();
      const next = new URL(location, url);
      if (next.origin !== start.origin) return { location: next, page: '' };
      url = next;
      request = {};
    }
    throw new Error('too many redirects');
  }

  async #fetch(url: URL, init: RequestInit): Promise<Response> {
    const cookie = [...this.#cookies].map(([name, value]) => `${name}=${value}`).join('; ');
    const answer = await fetch(url, {
      ...init,
      redirect: 'manual',
      headers: {
        ...this.#headers,
        cookie,
        ...(init.headers as Record<string, string> | undefined),
      },
    });
    for (const line of answer.headers.getSetCookie()) {
      const [pair = ''] = line.split(';');
      const at = pair.indexOf('=');
      this.#cookies.set(pair.slice(0, at), pair.slice(at + 1));
    }
    return answer;
  }
}
