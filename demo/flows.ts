import { randomBytes } from 'node:crypto';
import { setTimeout as wait } from 'node:timers/promises';
import * as oidc from 'openid-client';
import { answerOf } from './attack.ts';
import type { Application, Session } from './clients.ts';
import { ORDERS_API, type Subject, type Vantage } from './population.ts';
import { ORDER_COUNT } from './resource_servers.ts';
import type { World } from './world.ts';

/** Signed-in sessions that may come back; beyond it the oldest are forgotten, as people do. */
export const SESSIONS_MAX = 400;
/** How often a returning application refreshes although its token would still do, as many do at start. */
const EAGER_REFRESH = 0.4;
/** After its expiry a token is certainly refused, whatever a clock's resolution, ms. */
const EXPIRY_MARGIN_MS = 1_100;

/** What honest traffic remembers between two flows. */
export interface Town {
  readonly world: World;
  /** Sessions that no flow is using now. */
  readonly idle: Session[];
  /** Clients whose developer has already mistyped a redirect URI in this run. */
  readonly mistyped: Set<string>;
}

export function createTown(world: World): Town {
  return { world, idle: [], mistyped: new Set() };
}

export type Flow = (town: Town) => Promise<void>;

/** How often each flow happens, relative to each other. */
export const FLOW_WEIGHTS = {
  returning: 40,
  web: 14,
  spa: 12,
  profile: 2,
  mobile: 12,
  machine: 12,
  device: 2,
  refreshRace: 1.5,
  lostAnswer: 1,
  commute: 2,
  expired: 1.5,
  wrongSecret: 0.5,
  cancel: 1.5,
  wrongPassword: 1.5,
  doubleSubmit: 0.7,
  notAllowed: 0.8,
  signOut: 3,
  mistypedRedirect: 0.2,
  registration: 0.3,
} as const;
export type FlowName = keyof typeof FLOW_WEIGHTS;

export const FLOWS: Readonly<Record<FlowName, Flow>> = {
  returning,
  profile,
  web: (town) =>
    signInAndUse(town, 'web', (s) => (town.world.random.chance(0.4) ? s.office : s.home)),
  spa: (town) =>
    signInAndUse(town, 'spa', (s) => (town.world.random.chance(0.4) ? s.office : s.home)),
  mobile: (town) =>
    signInAndUse(town, 'mobile', (s) =>
      town.world.random.chance(0.5) ? s.phone(town.world.random) : s.phoneAtHome,
    ),
  machine,
  device,
  refreshRace,
  lostAnswer,
  commute,
  expired,
  wrongSecret,
  cancel,
  wrongPassword,
  doubleSubmit,
  notAllowed,
  signOut,
  mistypedRedirect,
  registration,
};

async function signInAndUse(
  town: Town,
  kind: 'web' | 'spa' | 'mobile',
  place: (subject: Subject) => Vantage,
): Promise<void> {
  const session = await signIn(town, kind, place);
  await useApis(town, session, 1 + town.world.random.below(4));
  await roam(town, session);
  putBack(town, session);
}

async function signIn(
  town: Town,
  kind: 'web' | 'spa' | 'mobile',
  place: (subject: Subject) => Vantage,
): Promise<Session> {
  const { world } = town;
  const subject = world.random.pick(world.subjects);
  const application = world.random.pick(world.ofKind(kind));
  return application.signIn(world.browserAt(place(subject)), subject);
}

/** A phone leaves the house with the token it has: another network, the same app. */
async function roam(town: Town, session: Session): Promise<void> {
  const { world } = town;
  const { subject, application } = session;
  if (application.definition.kind !== 'mobile' || subject === undefined) return;
  if (!world.random.chance(0.4)) return;
  session.vantage = subject.phone(world.random);
  await useApis(town, session, 1 + world.random.below(3));
}

/** Someone comes back: the application refreshes when it has to, sometimes only after a refusal. */
async function returning(town: Town): Promise<void> {
  const session = takeOut(town);
  if (session === undefined) {
    await signInAndUse(town, 'web', (s) => s.home);
    return;
  }
  const isExpired = session.tokens.expiresAt < Date.now();
  if (isExpired || town.world.random.chance(EAGER_REFRESH)) {
    if (isExpired && town.world.random.chance(0.3)) await useApis(town, session, 1);
    if ((await answerOf(session.application.refresh(session))) !== 'accepted') return;
  }
  await useApis(town, session, 1 + town.world.random.below(5));
  await roam(town, session);
  putBack(town, session);
}

/** Sign-in with the company account for its profile alone. */
async function profile(town: Town): Promise<void> {
  const { world } = town;
  const subject = world.random.pick(world.subjects);
  const application = world.application('helpdesk');
  const session = await application.signIn(world.browserAt(subject.office), subject, {
    scopes: ['openid'],
    userInfoOnly: true,
  });
  await application.userInfo(session);
}

async function machine(town: Town): Promise<void> {
  const { world } = town;
  const session = await world.random.pick(world.ofKind('machine')).authenticate();
  await useApis(town, session, 1 + world.random.below(8));
}

async function device(town: Town): Promise<void> {
  const { world } = town;
  const subject = world.random.pick(world.subjects);
  const application = world.random.pick(world.ofKind('device'));
  const place: Vantage = { ip: subject.home.ip, userAgent: `${application.definition.name}/1.4` };
  const browser = world.browserAt(subject.phoneAtHome);
  const session = await application.connectDevice(browser, subject, place);
  await useApis(town, session, 2);
  putBack(town, session);
}

/** Two tabs notice the expiry in the same moment. One wins, or both do; the server may end the family. */
async function refreshRace(town: Town): Promise<void> {
  const session = await signIn(town, 'spa', (s) => s.home);
  await useApis(town, session, 1);
  const token = session.tokens.refresh ?? '';
  const { application, vantage } = session;
  await Promise.all([
    answerOf(application.refreshWith(token, vantage)),
    answerOf(application.refreshWith(token, vantage)),
  ]);
}

/**
 * The answer to a refresh gets lost, so the application tries again with the token it still has; often
 * because the phone left the house, so from the carrier's network.
 */
async function lostAnswer(town: Town): Promise<void> {
  const { random } = town.world;
  const session = await signIn(town, 'mobile', (s) => s.phoneAtHome);
  const { application, subject, tokens } = session;
  await application.refreshAndLoseAnswer(session);
  const isGone = subject !== undefined && random.chance(0.5);
  const place = isGone ? subject.phone(random) : session.vantage;
  await answerOf(application.refreshWith(tokens.refresh ?? '', place));
}

/** A laptop is carried from home to the office, with the page and its token still open. */
async function commute(town: Town): Promise<void> {
  const session = await signIn(town, 'spa', (s) => s.home);
  await useApis(town, session, 2);
  if (session.subject !== undefined) session.vantage = session.subject.office;
  await useApis(town, session, 2);
  await session.application.refresh(session);
  putBack(town, session);
}

/** The kiosk's tokens live for seconds: a call is refused, the refresh helps. */
async function expired(town: Town): Promise<void> {
  const { world } = town;
  const subject = world.random.pick(world.subjects);
  const application = world.application('kiosk');
  const session = await application.signIn(world.browserAt(subject.office), subject);
  await useApis(town, session, 1);
  await wait(Math.max(0, session.tokens.expiresAt - Date.now()) + EXPIRY_MARGIN_MS);
  await useApis(town, session, 1);
  await application.refresh(session);
  await useApis(town, session, 1);
}

/** A job starts with the secret from before the last rotation. */
async function wrongSecret(town: Town): Promise<void> {
  const application = town.world.random.pick(town.world.ofKind('machine'));
  await answerOf(application.authenticate(wrong(town)));
  await useApis(town, await application.authenticate(), 1);
}

/** A password or secret that is right elsewhere, so it must not be stored here either. */
function wrong(town: Town): string {
  const value = randomBytes(24).toString('base64url');
  town.world.ledger.add('password', value);
  return value;
}

async function cancel(town: Town): Promise<void> {
  const { world } = town;
  const subject = world.random.pick(world.subjects);
  const application = world.random.pick(world.ofKind('web'));
  await application.authorize(world.browserAt(subject.home), subject, { consent: 'cancel' });
}

async function wrongPassword(town: Town): Promise<void> {
  const { world } = town;
  const subject = world.random.pick(world.subjects);
  const application = world.random.pick(world.ofKind('spa'));
  const wrongPasswords = [wrong(town)];
  const browser = world.browserAt(subject.home);
  const session = await application.signIn(browser, subject, { wrongPasswords });
  await useApis(town, session, 1);
  putBack(town, session);
}

/** An impatient double click sends the callback twice. */
async function doubleSubmit(town: Town): Promise<void> {
  const session = await signIn(town, 'web', (s) => s.home);
  if (session.callback === undefined) return;
  await answerOf(session.application.redeem(session.callback, session.vantage));
}

/** A route that does not exist, and one that needs a scope the application lacks. */
async function notAllowed(town: Town): Promise<void> {
  const { world } = town;
  const session = await world.application('stock-sync').authenticate();
  const { access } = session.tokens;
  await world.call(access, 'GET', `/orders/${ORDER_COUNT + 1}`, session.vantage);
  await world.call(access, 'DELETE', '/orders/12', session.vantage);
}

/** Signing out revokes the refresh token, and with it the grant (RFC 7009). */
async function signOut(town: Town): Promise<void> {
  const session = takeOut(town) ?? (await signIn(town, 'web', (s) => s.office));
  await session.application.revoke(session, session.tokens.refresh ?? '');
}

/** A developer points a staging build at production; each application has one such developer. */
async function mistypedRedirect(town: Town): Promise<void> {
  const { world } = town;
  const application = world.random.pick(world.ofKind('web'));
  const { clientId } = application.definition;
  if (town.mistyped.has(clientId)) return;
  town.mistyped.add(clientId);
  const subject = world.random.pick(world.subjects);
  // Refused at the pushed request already, or on the authorization page.
  await answerOf(
    application.authorize(world.browserAt(subject.office), subject, {
      redirectUri: `https://${clientId}.harbour.example/staging/callback`,
    }),
  );
}

/** A preview deployment registers itself (RFC 7591). */
async function registration(town: Town): Promise<void> {
  const { world } = town;
  const name = `preview-${world.random.below(1_000_000)}`;
  const config = await oidc.dynamicClientRegistration(
    world.authorizationServer.issuer,
    {
      client_name: name,
      redirect_uris: [`https://${name}.harbour.example/callback`],
      scope: 'openid orders:read',
      id_token_signed_response_alg: 'ES256',
    },
    undefined,
    {
      // eslint-disable-next-line @typescript-eslint/no-deprecated -- plain http, on loopback only
      execute: [oidc.allowInsecureRequests],
      [oidc.customFetch]: (url, init) =>
        fetch(url, {
          ...(init as RequestInit),
          headers: { ...init.headers, 'x-forwarded-for': '198.19.99.10', 'user-agent': 'node' },
        }),
    },
  );
  const { client_secret: secret, registration_access_token: management } = config.clientMetadata();
  if (typeof secret === 'string') world.ledger.add('client_secret', secret);
  if (typeof management === 'string') world.ledger.add('registration_access_token', management);
}

/** Calls of the application's API. A refusal is tried once more: another host may answer. */
async function useApis(town: Town, session: Session, calls: number): Promise<void> {
  const { world } = town;
  for (let done = 0; done < calls; done += 1) {
    const [method, path] = someCall(session.application, world);
    const status = await world.call(session.tokens.access, method, path, session.vantage);
    if (status === 401) await world.call(session.tokens.access, method, path, session.vantage);
  }
}

function someCall(application: Application, world: World): readonly [string, string] {
  const { random } = world;
  if (application.definition.resource === ORDERS_API) {
    return random.pick([
      ['GET', '/orders'],
      ['GET', `/orders/${random.below(ORDER_COUNT)}`],
      ['POST', '/orders'],
    ] as const);
  }
  return random.pick([
    ['GET', '/payments'],
    ['POST', '/payments'],
    ['GET', `/statements/2026-${(1 + random.below(12)).toString().padStart(2, '0')}`],
  ] as const);
}

/** A session belongs to one flow at a time: two at once would race where no race is meant. */
function takeOut(town: Town): Session | undefined {
  if (town.idle.length === 0) return undefined;
  const [session] = town.idle.splice(town.world.random.below(town.idle.length), 1);
  return session;
}

function putBack(town: Town, session: Session): void {
  if (session.tokens.refresh === undefined) return;
  town.idle.push(session);
  if (town.idle.length > SESSIONS_MAX) town.idle.shift();
}
