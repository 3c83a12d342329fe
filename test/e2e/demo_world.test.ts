import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { answerOf, loadAttacks, THIEVES } from '../../demo/attack.ts';
import { SignInRefused } from '../../demo/clients.ts';
import { createTown, FLOWS, type FlowName } from '../../demo/flows.ts';
import { KNOWN_SCOPES, RESOURCE_SCOPES, SUBJECT_COUNT } from '../../demo/population.ts';
import { createRandom } from '../../demo/random.ts';
import { createSecretScanner } from '../../demo/secret_ledger.ts';
import { startTraffic } from '../../demo/traffic.ts';
import { createPopulation, startWorld, type World } from '../../demo/world.ts';
import { TEST_KEY } from '../harness.ts';

/**
 * The demo without Grantscope: a sink takes its telemetry. What is claimed to be real must be real: tokens
 * rotate, introspection knows of revocations, attacks get the answers that a thief would get.
 */
let world: World;
let collectorUrl: string;
let sink: Server;
const received: Buffer[] = [];

beforeAll(async () => {
  sink = createServer((request, response) => {
    request.on('data', (chunk: Buffer) => received.push(chunk));
    request.on('end', () => response.setHeader('content-type', 'application/json').end('{}'));
  });
  await new Promise<void>((resolve) => sink.listen(0, '127.0.0.1', resolve));
  collectorUrl = `http://127.0.0.1:${(sink.address() as AddressInfo).port}`;
  world = await startWorld({
    population: createPopulation(11),
    collectorUrl,
    hashKey: TEST_KEY,
    // Its refusals depend on milliseconds; it has a test of its own.
    skewedShare: 0,
  });
});

afterAll(async () => {
  await world.stop();
  sink.close();
  sink.closeAllConnections();
});

const person = (): World['subjects'][number] => world.subjects[7]!;

describe('the population', () => {
  it('has the applications and people that the docs promise', () => {
    expect(world.applications).toHaveLength(22);
    expect(world.subjects).toHaveLength(SUBJECT_COUNT);
    expect(new Set(world.subjects.map((s) => s.password)).size).toBe(SUBJECT_COUNT);
    for (const kind of ['web', 'spa', 'mobile', 'device', 'machine'] as const) {
      expect(world.ofKind(kind).length, kind).toBeGreaterThanOrEqual(3);
    }
  });

  it('is the same for the same seed, but for its secrets', () => {
    const [a, b, other] = [createPopulation(5), createPopulation(5), createPopulation(6)];
    const places = (p: typeof a): unknown =>
      p.subjects.map((s) => [s.home, s.office, s.phoneAtHome]);
    expect(places(a)).toEqual(places(b));
    expect(places(a)).not.toEqual(places(other));
    expect(a.subjects[0]!.password).not.toBe(b.subjects[0]!.password);
  });

  it('leaves the thieves networks of their own', () => {
    const prefix = (ip: string): string => ip.split('.').slice(0, 3).join('.');
    const honest = world.subjects.flatMap((s) => [
      s.home.ip,
      s.office.ip,
      s.phone(world.random).ip,
    ]);
    const prefixes = new Set(honest.map(prefix));
    expect(THIEVES.filter((t) => prefixes.has(prefix(t.ip)))).toEqual([]);
  });

  it('has API scopes that the authorization server does not know of, the root of one attack', () => {
    const unknown = Object.values(RESOURCE_SCOPES)
      .flat()
      .filter((s) => !(KNOWN_SCOPES as readonly string[]).includes(s));
    expect(unknown).toEqual(['orders:admin', 'payments:refund']);
  });
});

describe('flows', () => {
  it('signs in with PKCE and gets a JWT for the orders API', async () => {
    const application = world.application('catalogue-spa');
    const session = await application.signIn(world.browserAt(person().home), person());
    expect(session.tokens.access.split('.')).toHaveLength(3);
    expect(session.tokens.scopes).toEqual(['orders:read', 'orders:write']);
    expect(await world.call(session.tokens.access, 'GET', '/orders', session.vantage)).toBe(200);
    expect(await world.call(session.tokens.access, 'DELETE', '/orders/1', session.vantage)).toBe(
      403,
    );
    expect(await world.call(session.tokens.access, 'GET', '/orders/10001', session.vantage)).toBe(
      404,
    );
    expect(await world.call(session.tokens.access, 'GET', '/payments', session.vantage)).toBe(401);
    expect(await world.call(session.tokens.access, 'GET', '/elsewhere', session.vantage)).toBe(404);
  });

  it('signs in by a pushed request and gets an opaque token for the payments API', async () => {
    const application = world.application('invoicing');
    const session = await application.signIn(world.browserAt(person().home), person());
    expect(session.tokens.access).not.toContain('.');
    expect(session.vantage.userAgent).toBe('node');
    expect(await world.call(session.tokens.access, 'GET', '/payments', session.vantage)).toBe(200);
    const requestUris = [...world.ledger.entries()].filter(([, kind]) => kind === 'request_uri');
    expect(requestUris.length).toBeGreaterThan(0);
  });

  it('rotates refresh tokens and ends the family when an old one comes back', async () => {
    const application = world.application('shop-ios');
    const session = await application.signIn(world.browserAt(person().phoneAtHome), person());
    const first = session.tokens.refresh!;
    await application.refresh(session);
    const second = session.tokens.refresh!;
    expect(second).not.toBe(first);
    expect(await answerOf(application.refreshWith(first, session.vantage))).toBe('invalid_grant');
    expect(await answerOf(application.refreshWith(second, session.vantage))).toBe('invalid_grant');
  });

  it('loses the answer to a refresh although the server rotated', async () => {
    const application = world.application('shop-android');
    const session = await application.signIn(world.browserAt(person().phoneAtHome), person());
    const before = session.tokens.refresh!;
    await application.refreshAndLoseAnswer(session);
    expect(session.tokens.refresh).toBe(before);
    expect(await answerOf(application.refreshWith(before, session.vantage))).toBe('invalid_grant');
  });

  it('connects a device that a person approves elsewhere', async () => {
    const application = world.application('harbour-cli');
    const device = { ip: person().home.ip, userAgent: 'harbour-cli/1.4' };
    const session = await application.connectDevice(
      world.browserAt(person().phoneAtHome),
      person(),
      device,
    );
    expect(await world.call(session.tokens.access, 'GET', '/orders', device)).toBe(200);
  });

  it('gives machines tokens for the right secret only', async () => {
    const application = world.application('stock-sync');
    const session = await application.authenticate();
    expect(await world.call(session.tokens.access, 'POST', '/orders', session.vantage)).toBe(201);
    expect(await answerOf(application.authenticate('not-the-secret'))).toBe('invalid_client');
  });

  it('lets a person cancel, mistype a password, and sign in for the profile alone', async () => {
    const application = world.application('helpdesk');
    const cancelled = application.signIn(world.browserAt(person().home), person(), {
      consent: 'cancel',
    });
    await expect(cancelled).rejects.toThrow(SignInRefused);
    await expect(cancelled).rejects.toThrow('refused with access_denied');
    const session = await application.signIn(world.browserAt(person().home), person(), {
      wrongPasswords: ['wrong-password-1', 'wrong-password-2'],
      scopes: ['openid'],
      userInfoOnly: true,
    });
    await application.userInfo(session);
    expect(session.tokens.scopes).toEqual(['openid']);
  });

  it('refuses a revoked opaque token once the cache has forgotten it', async () => {
    const application = world.application('wallet-ios');
    const session = await application.signIn(world.browserAt(person().phoneAtHome), person());
    await application.revoke(session, session.tokens.access);
    expect(await world.call(session.tokens.access, 'GET', '/payments', session.vantage)).toBe(401);
  });

  it('does not let a token of one API into the other, nor a scope the client lacks', async () => {
    const application = world.application('partner-portal');
    const scopes = [...application.definition.scopes, 'orders:admin'];
    const session = await application.signIn(world.browserAt(person().home), person(), { scopes });
    expect(session.tokens.scopes).toEqual(['orders:read', 'orders:write']);
  });

  it.each(Object.keys(FLOWS) as FlowName[])('honest flow %s ends as it should', async (name) => {
    const town = createTown(world);
    await expect(FLOWS[name](town)).resolves.toBeUndefined();
    if (name === 'returning') await expect(FLOWS.returning(town)).resolves.toBeUndefined();
  });
});

describe('a mistyped redirect', () => {
  it('is refused for every web application, pushed request or not', async () => {
    const town = createTown(world);
    const clients = world.ofKind('web').map((a) => a.definition.clientId);
    while (town.mistyped.size < clients.length) await FLOWS.mistypedRedirect(town);
    expect([...town.mistyped].sort()).toEqual([...clients].sort());
    const { arrival } = await world
      .application('storefront')
      .authorize(world.browserAt(person().home), person(), {
        redirectUri: 'https://storefront.harbour.example/staging/callback',
      });
    expect(arrival.at === 'server' && [arrival.status, arrival.page]).toEqual([
      400,
      "invalid_redirect_uri: redirect_uri did not match any of the client's registered redirect_uris\n",
    ]);
  });
});

describe('attacks', () => {
  const EXPECTED: Readonly<Record<string, readonly (string | number)[]>> = {
    code_redeemed_twice: ['accepted', 'invalid_grant'],
    redirect_lookalike: [400, 400],
    redirect_probing: [400, 400, 400, 400, 400, 400],
    scope_beyond_registration: ['orders:read orders:write orders:admin', 204, 'accepted'],
    scope_growth_on_refresh: ['payments:read', 'accepted', 'payments:read payments:write', 201],
    stolen_access_token: [200, 200, 200, 200],
    stolen_refresh_token: ['accepted', 200, 'accepted', 'invalid_grant'],
    token_used_after_revocation: [200, 200, 'accepted', 401, 200],
  };

  it('get the answers that a thief would get, and leave no fault switched on', async () => {
    const attacks = await loadAttacks();
    expect(attacks.map((a) => a.id)).toEqual(Object.keys(EXPECTED));
    for (const attack of attacks) {
      const steps = await attack.run(world);
      expect(
        steps.map((s) => s.answer),
        attack.id,
      ).toEqual(EXPECTED[attack.id]);
    }
    const { faults } = world.authorizationServer;
    expect([faults.registrationIgnored.size, faults.refreshWidens.size]).toEqual([0, 0]);
  });
});

describe('steady traffic', () => {
  it('arrives at about the rate asked for and ends on request', async () => {
    const traffic = startTraffic(world, { flowsPerMinute: 3_000 });
    await expect
      .poll(() => [...traffic.statistics.done.values()].reduce((a, b) => a + b, 0), {
        timeout: 20_000,
      })
      .toBeGreaterThan(20);
    await traffic.stop();
    await traffic.stop();
    expect([...traffic.statistics.failures]).toEqual([]);
  });
});

describe('the orders host with the slow clock', () => {
  it('refuses a fresh token until its own clock has caught up', async () => {
    const other = await startWorld({
      population: createPopulation(12),
      collectorUrl,
      hashKey: TEST_KEY,
      skewedShare: 1,
    });
    try {
      const { tokens, vantage } = await other.application('stock-sync').authenticate();
      const call = (): Promise<number> => other.call(tokens.access, 'GET', '/orders', vantage);
      expect(await call()).toBe(401);
      await expect.poll(call, { timeout: 10_000 }).toBe(200);
    } finally {
      await other.stop();
    }
  });
});

describe('telemetry', () => {
  it('carries none of the secrets that were used above', async () => {
    await world.flush();
    const scanner = createSecretScanner([...world.ledger.entries()].map(([secret]) => secret));
    const sent = Buffer.concat(received);
    expect(sent.length).toBeGreaterThan(100_000);
    expect(world.ledger.size).toBeGreaterThan(500);
    expect(scanner.scan(sent)).toEqual([]);
    expect(world.telemetryLost()).toBe(0);
  });
});

describe('random', () => {
  it('repeats itself for a seed and keeps its bounds', () => {
    const [a, b] = [createRandom(42), createRandom(42)];
    const draw = (r: typeof a): number[] => Array.from({ length: 500 }, () => r.below(10));
    const drawn = draw(a);
    expect(drawn).toEqual(draw(b));
    expect(new Set(drawn).size).toBe(10);
    expect(Math.min(...drawn)).toBe(0);
    expect(Math.max(...drawn)).toBe(9);
  });

  it('picks by weight', () => {
    const random = createRandom(1);
    const counts = { often: 0, never: 0, seldom: 0 };
    for (let i = 0; i < 10_000; i += 1) {
      counts[random.weighted({ often: 9, never: 0, seldom: 1 })] += 1;
    }
    expect(counts.never).toBe(0);
    expect(counts.seldom).toBeGreaterThan(800);
    expect(counts.seldom).toBeLessThan(1_200);
  });
});
