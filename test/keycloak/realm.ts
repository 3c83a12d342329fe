/** The realm that the suite makes: its people, clients and rules, all invented. */
export const REALM = 'shop';

export const ANA = { name: 'ana', password: 'ana-password-Ohn1aequ' };
/** Gets the password wrong, for which Keycloak locks the account. */
export const BEN = { name: 'ben', password: 'ben-password-eiTh2eju' };
/** Who refuses consent. */
export const CLEO = { name: 'cleo', password: 'cleo-password-Shu5aig7' };

export const WEB = {
  id: 'web',
  secret: 'web-secret-aem4ohTh5aiz',
  redirectUri: 'https://web.example.com/cb',
};
/** Public; asks for consent. */
export const SPA = { id: 'spa', redirectUri: 'https://spa.example.com/cb' };
/** A job of its own account. */
export const JOB = { id: 'nightly-job', secret: 'job-secret-Ieng8aeYu0ph' };
/** An API: introspects tokens and exchanges them for another API. */
export const ORDERS = { id: 'orders-api', secret: 'orders-secret-Kah9eiBoh6' };
export const STOCK = { id: 'stock-api', secret: 'stock-secret-ooT3thai9e' };
export const TV = { id: 'tv' };
/** Still uses the password grant. */
export const LEGACY = { id: 'legacy', secret: 'legacy-secret-phoo7Eeth' };

const off = {
  standardFlowEnabled: false,
  implicitFlowEnabled: false,
  directAccessGrantsEnabled: false,
  serviceAccountsEnabled: false,
};
const device = 'oauth2.device.authorization.grant.enabled';

function person(user: { readonly name: string; readonly password: string }): object {
  return {
    username: user.name,
    enabled: true,
    email: `${user.name}@example.com`,
    emailVerified: true,
    firstName: user.name,
    lastName: 'Example',
    credentials: [{ type: 'password', value: user.password, temporary: false }],
  };
}

function confidential(client: { readonly id: string; readonly secret: string }): object {
  return {
    ...off,
    clientId: client.id,
    secret: client.secret,
    publicClient: false,
    clientAuthenticatorType: 'client-secret',
  };
}

/** Puts `audience` into the client's access tokens. */
function audience(name: string): object {
  return {
    name: `audience ${name}`,
    protocol: 'openid-connect',
    protocolMapper: 'oidc-audience-mapper',
    config: { 'included.client.audience': name, 'access.token.claim': 'true' },
  };
}

export function realm(): object {
  return {
    realm: REALM,
    enabled: true,
    sslRequired: 'none',
    eventsListeners: ['jboss-logging'],
    adminEventsEnabled: true,
    adminEventsDetailsEnabled: true,
    // Rotation: a refresh token works once.
    revokeRefreshToken: true,
    refreshTokenMaxReuse: 0,
    bruteForceProtected: true,
    failureFactor: 1,
    // The shortest that a device may poll in, seconds.
    oauth2DevicePollingInterval: 1,
    users: [person(ANA), person(BEN), person(CLEO)],
    clients: [
      {
        ...confidential(WEB),
        standardFlowEnabled: true,
        redirectUris: [WEB.redirectUri],
        attributes: { 'pkce.code.challenge.method': 'S256' },
        protocolMappers: [audience(ORDERS.id)],
      },
      {
        ...off,
        clientId: SPA.id,
        publicClient: true,
        consentRequired: true,
        standardFlowEnabled: true,
        redirectUris: [SPA.redirectUri],
        attributes: { 'pkce.code.challenge.method': 'S256' },
      },
      { ...confidential(JOB), serviceAccountsEnabled: true },
      {
        ...confidential(ORDERS),
        attributes: { 'standard.token.exchange.enabled': 'true' },
        protocolMappers: [audience(STOCK.id)],
      },
      { ...confidential(STOCK), attributes: { 'standard.token.exchange.enabled': 'true' } },
      { ...off, clientId: TV.id, publicClient: true, attributes: { [device]: 'true' } },
      { ...confidential(LEGACY), directAccessGrantsEnabled: true },
    ],
  };
}
