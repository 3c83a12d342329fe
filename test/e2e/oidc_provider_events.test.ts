/**
 * The listeners that docs/sources/oidc_provider.md tells people to install, taken from the page and run in a real
 * oidc-provider; real clients drive it, and what was written is posted to the real collector.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { compileFunction } from 'node:vm';
import type { Provider } from 'oidc-provider';
import * as oauth from 'openid-client';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startCollector, type Collector } from '../../collector/main.ts';
import { backtest } from '../../detectors/backtest.ts';
import { bindDetectors, loadDetectors } from '../../detectors/registry.ts';
import { param, sql } from '../../model/sql.ts';
import { KeyRing } from '../../runtime/keyring.ts';
import { packageRoot } from '../../runtime/paths.ts';
import { tokenReference } from '../../runtime/token_reference.ts';
import { openTestStore, TEST_KEY, testRuntime } from '../harness.ts';
import {
  API,
  Browser,
  JOB,
  ORDERS_API,
  SPA,
  startInstrumentedProvider,
  WEB,
  type InstrumentedProvider,
} from './instrumented_provider.ts';

const ring = KeyRing.fromKey(TEST_KEY);

let opened: Awaited<ReturnType<typeof openTestStore>>;
let collector: Collector;
let as: InstrumentedProvider;
const written: object[] = [];

beforeAll(async () => {
  opened = await openTestStore();
  collector = await startCollector(testRuntime(opened.dataDir), opened.store);
  as = await startInstrumentedProvider();
  listenersOfThePage()(as.provider, (record) => written.push(record));
});
afterAll(async () => {
  await as.close();
  await collector.stop();
  await opened.close();
});

type Listeners = (provider: Provider, write: (record: object) => void) => void;

function listenersOfThePage(): Listeners {
  const page = readFileSync(join(packageRoot, 'docs', 'sources', 'oidc_provider.md'), 'utf8');
  const code = /```js\n([\s\S]*?)```/.exec(page)?.[1] ?? '';
  return compileFunction(code, ['provider', 'write']) as Listeners;
}

interface Posted {
  readonly answer: { accepted: number; rejected: number; errors: unknown[] };
  readonly records: readonly object[];
}

/** Sends what was written since the last time, as lines. */
async function post(): Promise<Posted> {
  const records = written.splice(0);
  const answer = await fetch(`${collector.url}/v1/events/oidc_provider`, {
    method: 'POST',
    headers: { 'content-type': 'application/x-ndjson' },
    body: records.map((r) => JSON.stringify(r)).join('\n'),
  });
  return { answer: (await answer.json()) as Posted['answer'], records };
}

/** What one scenario came to in the store: each event in short, sorted, since neighbours share a millisecond. */
async function toldOf(scenario: () => Promise<unknown>): Promise<string[]> {
  written.splice(0);
  const before = await stored();
  await scenario();
  const { answer } = await post();
  expect(answer).toMatchObject({ rejected: 0, errors: [] });
  await collector.flush();
  const total = before.length + answer.accepted;
  // One request is stored as one block: with its first rows come those that belong to the same records.
  await expect
    .poll(async () => (await stored()).length, { timeout: 20_000 })
    .toBeGreaterThanOrEqual(total);
  const known = new Set(before.map((row) => row['event_id']));
  return (await stored())
    .filter((row) => !known.has(row['event_id']))
    .map(inShort)
    .sort();
}

type Row = Readonly<Record<string, unknown>>;
const stored = (): Promise<Row[]> =>
  opened.store.query<Row>(sql`
  SELECT *, \`tokens.role\` AS roles, \`tokens.type\` AS types, \`tokens.ref\` AS refs FROM grantscope.auth_events`);

/** kind, outcome, client, endpoint, errors, then each token: role, type, name. */
function inShort(row: Row): string {
  const list = (name: string): string[] => row[name] as string[];
  const tokens = list('roles').map(
    (role, i) => `${role} ${list('types')[i]} ${names.get(list('refs')[i] ?? '') ?? '?'}`,
  );
  const head = ['kind', 'outcome', 'client_id', 'error_code', 'error_oauth_error'].map((c) =>
    String(row[c]),
  );
  return [head.filter((text) => text !== '').join(' '), ...tokens.sort()].join(', ');
}
const names = new Map<string, string>();
/** Gives what a client got a name to tell its reference by. */
function name(value: string | undefined, as: string): string {
  secrets.push(value ?? '');
  names.set(tokenReference(ring, value ?? '').ref, as);
  return value ?? '';
}
const secrets: string[] = [WEB.secret, JOB.secret, API.secret];

async function ask(path: string, form: Record<string, string>, headers: object = {}) {
  const answer = await fetch(`${as.issuer}${path}`, {
    method: 'POST',
    body: new URLSearchParams(form),
    headers: { 'user-agent': 'curl/8.5.0', ...headers },
  });
  return { status: answer.status, body: (await answer.json()) as Record<string, unknown> };
}
const basic = (id: string, secret: string) => ({
  authorization: `Basic ${Buffer.from(`${id}:${secret}`).toString('base64')}`,
});

describe('the listeners of the page in a real oidc-provider', () => {
  it('tell of a code with PKCE, its rotation and userinfo', async () => {
    const told = await toldOf(async () => {
      const { config, tokens } = await signIn('1');
      const second = await oauth.refreshTokenGrant(config, tokens.refresh_token!);
      name(second.access_token, 'access 1b');
      name(second.refresh_token, 'refresh 1b');
      await oauth.fetchUserInfo(config, second.access_token, 'alice@example.com');
    });
    expect(told).toEqual([
      'authorization_requested success spa-shop',
      'code_issued success spa-shop, issued code code 1',
      'code_redeemed success spa-shop, consumed code code 1',
      'token_issued success spa-shop, consumed code code 1, issued access access 1, issued refresh refresh 1',
      'token_refreshed success spa-shop, consumed refresh refresh 1, issued access access 1b, issued refresh refresh 1b',
      'userinfo_accessed success spa-shop, presented access access 1b',
    ]);
  });

  it('keep chain, parents, counters, PKCE, subject, route and agent', async () => {
    const rows = await opened.store.query<Row>(sql`
      SELECT kind, subject_ref, pkce, http_route, http_status, net_ip_role, net_ua_family, scopes_granted, redirect_uri,
        issuer, client_auth_method, \`tokens.parent_ref\` AS parents, \`tokens.counter\` AS counters,
        \`tokens.family_ref\` AS families, \`tokens.role\` AS roles
      FROM grantscope.auth_events WHERE kind IN ('code_issued', 'token_refreshed') ORDER BY time`);
    const [family] = (rows[1]?.['families'] ?? []) as string[];
    const nil = '00000000-0000-0000-0000-000000000000';
    const refreshRef = [...names].find(([, as]) => as === 'refresh 1')?.[0];
    const shared = {
      ...{ subject_ref: ring.ref('subject', 'alice@example.com'), issuer: as.issuer },
      ...{ client_auth_method: 'none', net_ip_role: 'end_user' },
      scopes_granted: ['offline_access', 'openid'],
    };
    expect(family).not.toBe(nil);
    expect(rows).toEqual([
      {
        ...{ ...shared, kind: 'code_issued', pkce: 'S256', redirect_uri: SPA.uri },
        ...{ http_route: '/auth/:uid', http_status: 0, net_ua_family: 'curl' },
        ...{ parents: [nil], counters: [-1], families: [nil], roles: ['issued'] },
      },
      {
        ...{ ...shared, kind: 'token_refreshed', pkce: 'unknown', redirect_uri: '' },
        ...{ http_route: '/token', http_status: 200, net_ua_family: 'openid-client' },
        ...{ parents: [nil, refreshRef, refreshRef], counters: [0, -1, 1] },
        ...{ families: [family, family, family], roles: ['consumed', 'issued', 'issued'] },
      },
    ]);
  });

  it('tell of a rotated refresh token that comes again, and the rule calls it theft', async () => {
    const { config, tokens } = await signIn('2');
    const form = {
      grant_type: 'refresh_token',
      client_id: SPA.id,
      refresh_token: tokens.refresh_token!,
    };
    const told = await toldOf(async () => {
      const second = await oauth.refreshTokenGrant(config, tokens.refresh_token!);
      name(second.access_token, 'access 2b');
      name(second.refresh_token, 'refresh 2b');
      const { status, body } = await ask('/token', form);
      expect([status, body['error']]).toEqual([400, 'invalid_grant']);
    });
    expect(told).toEqual([
      'grant_revoked success spa-shop',
      'token_refreshed success spa-shop, consumed refresh refresh 2, issued access access 2b, issued refresh refresh 2b',
      'token_request_failed failure spa-shop invalid_grant, presented refresh refresh 2',
      'token_reuse_detected failure spa-shop invalid_grant, presented refresh refresh 2',
    ]);
    const { findings } = await backtest({
      store: opened.store,
      tenant: 'default',
      detectors: bindDetectors(
        (await loadDetectors()).filter((r) => /refresh_token_reuse|refresh_family_fork/.test(r.id)),
        {},
      ),
      clients: [],
      range: { from: 0n, to: 4_102_444_800_000_000_000n },
    });
    // The chain of the first sign-in, rotated as it should be, gives nothing.
    expect(findings.map((f) => [f.rule_id, names.get(f.entity_ref), f.verdict])).toEqual([
      ['refresh_token_reuse', 'refresh 2', 'theft'],
    ]);
  });

  it('tell of client credentials, opaque and as a JWT, and of a wrong secret', async () => {
    const told = await toldOf(async () => {
      const config = await clientOf(JOB.id, oauth.ClientSecretBasic(JOB.secret));
      name((await oauth.clientCredentialsGrant(config)).access_token, 'opaque');
      const forOrders = { resource: ORDERS_API, scope: 'orders:read' };
      name((await oauth.clientCredentialsGrant(config, forOrders)).access_token, 'jwt');
      const wrong = basic(JOB.id, name('wrong-secret-0b1c2d3e4f', 'wrong'));
      const { status } = await ask('/token', { grant_type: 'client_credentials' }, wrong);
      expect(status).toBe(401);
    });
    expect(told).toEqual([
      'token_issued success nightly-job, issued access jwt',
      'token_issued success nightly-job, issued access opaque',
      'token_request_failed failure nightly-job invalid_client',
    ]);
  });

  it('tell of a bad verifier, and of the code that comes again', async () => {
    const told = await toldOf(async () => {
      const { code } = await getCode('3');
      const form = {
        grant_type: 'authorization_code',
        client_id: SPA.id,
        code,
        redirect_uri: SPA.uri,
      };
      const bad = name('wrong-verifier-0123456789-0123456789-0123456789', 'bad verifier');
      expect((await ask('/token', { ...form, code_verifier: bad })).status).toBe(400);
    });
    expect(told).toEqual([
      'authorization_requested success spa-shop',
      'code_issued success spa-shop, issued code code 3',
      'code_redeemed failure spa-shop pkce_verification_failed invalid_grant, consumed code code 3',
      'token_request_failed failure spa-shop pkce_verification_failed invalid_grant, presented code code 3',
    ]);
    const again = await toldOf(async () => {
      const { code, verifier } = await signIn('4');
      written.splice(0);
      const form = {
        grant_type: 'authorization_code',
        client_id: SPA.id,
        code,
        redirect_uri: SPA.uri,
      };
      expect((await ask('/token', { ...form, code_verifier: verifier })).status).toBe(400);
    });
    expect(again).toEqual([
      'code_redeemed failure spa-shop invalid_grant, consumed code code 4',
      'grant_revoked success spa-shop',
      'token_request_failed failure spa-shop invalid_grant, presented code code 4',
      'token_reuse_detected failure spa-shop invalid_grant, presented code code 4',
    ]);
  });

  it('tell of introspection and revocation, of a refusal, and of a token that is not known', async () => {
    const { config, tokens } = await signIn('5');
    const api = basic(API.id, API.secret);
    const told = await toldOf(async () => {
      const token = tokens.access_token;
      expect((await ask('/token/introspection', { token }, api)).body['active']).toBe(true);
      await oauth.tokenRevocation(config, tokens.refresh_token!);
      expect((await ask('/token/introspection', { token }, api)).body['active']).toBe(false);
      const unauthorized = await ask(
        '/token/introspection',
        { token },
        basic(API.id, 'wrong-secret'),
      );
      expect(unauthorized.status).toBe(401);
    });
    expect(told).toEqual([
      'grant_revoked success spa-shop',
      'token_introspected failure orders-api invalid_client, presented unknown access 5',
      'token_introspected success orders-api, presented access access 5',
      'token_introspected success orders-api, presented unknown access 5',
      'token_revoked success spa-shop, revoked refresh refresh 5',
    ]);
    const rows = await opened.store.query<Row>(
      sql`SELECT ext['active'] AS active FROM grantscope.auth_events WHERE kind = 'token_introspected' ORDER BY time`,
    );
    expect(rows.map((row) => row['active'])).toEqual(['true', 'false', '']);
  });

  it('tell of a registration, and of one that is refused', async () => {
    const register = async (metadata: object): Promise<Record<string, string>> => {
      const answer = await fetch(`${as.issuer}/reg`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify(metadata),
      });
      return (await answer.json()) as Record<string, string>;
    };
    let id = '';
    const told = await toldOf(async () => {
      const made = await register({
        redirect_uris: ['https://new.example/cb'],
        client_name: 'New',
      });
      id = made['client_id'] ?? '';
      name(made['client_secret'], 'secret');
      name(made['registration_access_token'], 'registration token');
      const refused = await register({ redirect_uris: ['not a uri'] });
      expect(refused['error']).toBe('invalid_redirect_uri');
    });
    expect(told).toEqual([
      'client_registered failure invalid_redirect_uri invalid_redirect_uri',
      `client_registered success ${id}`,
    ]);
    const [row] = await opened.store.query<Row>(
      sql`SELECT client_name, ext['redirect_uris'] AS uris FROM grantscope.auth_events WHERE client_id = ${param.string(id)}`,
    );
    expect(row).toEqual({ client_name: 'New', uris: 'https://new.example/cb' });
  });

  it('leave no secret: not in a row, not in a file', async () => {
    const rows = JSON.stringify(await stored());
    const files = readdirSync(opened.dataDir, { recursive: true, withFileTypes: true })
      .filter((f) => f.isFile())
      .map((f) => readFileSync(join(f.parentPath, f.name), 'latin1'));
    expect(secrets.length).toBeGreaterThan(20);
    expect(secrets.every((s) => s.length > 8)).toBe(true);
    expect(secrets.filter((s) => rows.includes(s) || files.some((f) => f.includes(s)))).toEqual([]);
    expect(rows).toContain(SPA.id);
    const [row] = await opened.store.query<Row>(
      sql`SELECT toUInt32(countIf(kind = 'unclassified' OR outcome = 'unknown')) AS n FROM grantscope.auth_events`,
    );
    expect(row).toEqual({ n: 0 });
  });
});

async function clientOf(id: string, auth: oauth.ClientAuth): Promise<oauth.Configuration> {
  return oauth.discovery(new URL(as.issuer), id, undefined, auth, {
    // eslint-disable-next-line @typescript-eslint/no-deprecated
    execute: [oauth.allowInsecureRequests],
  });
}

/** To the code: login and consent of a browser that comes back to the client. */
async function getCode(serial: string) {
  const config = await clientOf(SPA.id, oauth.None());
  const verifier = name(oauth.randomPKCECodeVerifier(), `verifier ${serial}`);
  const url = oauth.buildAuthorizationUrl(config, {
    redirect_uri: SPA.uri,
    scope: 'openid offline_access',
    prompt: 'consent',
    code_challenge: await oauth.calculatePKCECodeChallenge(verifier),
    code_challenge_method: 'S256',
  });
  const browser = new Browser({ 'user-agent': 'curl/8.5.0' });
  const { location } = await browser.walk(url);
  const code = name(location!.searchParams.get('code')!, `code ${serial}`);
  // An empty one is a cookie that was taken back.
  secrets.push(...browser.cookieValues.filter((value) => value !== ''));
  return { config, verifier, callback: location!, code };
}

async function signIn(serial: string) {
  const { config, verifier, callback, code } = await getCode(serial);
  const tokens = await oauth.authorizationCodeGrant(config, callback, {
    pkceCodeVerifier: verifier,
  });
  name(tokens.access_token, `access ${serial}`);
  name(tokens.refresh_token, `refresh ${serial}`);
  return { config, code, verifier, tokens };
}
