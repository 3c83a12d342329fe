/**
 * The whole way: a real authorization server and an API, instrumented, to the real collector, to the
 * embedded store. What was told is what is stored, and the ledger joins what belongs to one token.
 */
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { once } from 'node:events';
import express from 'express';
import * as oauth from 'openid-client';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { startCollector, type Collector } from '../../collector/main.ts';
import {
  resourceServerMiddleware,
  startTelemetry,
  validationOf,
  type Telemetry,
} from '../../instrumentation/index.ts';
import { param, sql } from '../../model/sql.ts';
import { KeyRing } from '../../runtime/keyring.ts';
import { tokenReference } from '../../runtime/token_reference.ts';
import type { Store } from '../../store/client.ts';
import { TEST_KEY, openTestStore, testRuntime } from '../harness.ts';
import {
  API,
  Browser,
  SPA,
  closeServer,
  startInstrumentedProvider,
  type InstrumentedProvider,
} from './instrumented_provider.ts';

const keyRing = KeyRing.fromKey(TEST_KEY);
const refOf = (value: string): string => tokenReference(keyRing, value).ref;

let opened: Awaited<ReturnType<typeof openTestStore>>;
let store: Store;
let collector: Collector;
let as: InstrumentedProvider;
let apiTelemetry: Telemetry;
let api: Server;

beforeAll(async () => {
  opened = await openTestStore();
  store = opened.store;
  collector = await startCollector(testRuntime(opened.dataDir), store);
  as = await startInstrumentedProvider(collector.url);
  apiTelemetry = startTelemetry({
    serviceName: 'orders-api',
    endpoint: collector.url,
    hashKey: TEST_KEY,
  });
});
afterAll(async () => {
  await as.close();
  await apiTelemetry.shutdown();
  await closeServer(api);
  await collector.stop();
  await opened.close();
});

async function clientOf(id: string, auth: oauth.ClientAuth): Promise<oauth.Configuration> {
  return oauth.discovery(new URL(as.issuer), id, undefined, auth, {
    // eslint-disable-next-line @typescript-eslint/no-deprecated
    execute: [oauth.allowInsecureRequests],
  });
}

/** An API that asks the authorization server about opaque tokens. */
async function startApi(): Promise<string> {
  const asClient = await clientOf(API.id, oauth.ClientSecretBasic(API.secret));
  const app = express();
  app.use(
    resourceServerMiddleware(apiTelemetry.recorder, {
      resource: 'https://orders.example',
      trustProxy: true,
      ipRole: 'end_user',
      validate: async (token) => validationOf(await oauth.tokenIntrospection(asClient, token)),
    }),
  );
  app.get('/orders/:id', (_req, res) => void res.json({ ok: true }));
  api = createServer(app as unknown as Parameters<typeof createServer>[1]);
  api.listen(0, '127.0.0.1');
  await once(api, 'listening');
  return `http://127.0.0.1:${(api.address() as AddressInfo).port}`;
}

async function storedEvents(): Promise<number> {
  const [row] = await store.query<{ n: number }>(
    sql`SELECT toUInt32(count()) AS n FROM grantscope.auth_events`,
  );
  return row?.n ?? 0;
}

it('stores what was told, and one token is followed from its code to its calls', async () => {
  const apiUrl = await startApi();
  const config = await clientOf(SPA.id, oauth.None());
  const verifier = oauth.randomPKCECodeVerifier();
  const nonce = oauth.randomNonce();
  const url = oauth.buildAuthorizationUrl(config, {
    redirect_uri: SPA.uri,
    scope: 'openid offline_access',
    prompt: 'consent',
    code_challenge: await oauth.calculatePKCECodeChallenge(verifier),
    code_challenge_method: 'S256',
    nonce,
  });
  const browser = new Browser({ 'x-forwarded-for': '203.0.113.9', 'user-agent': 'curl/8.5.0' });
  const { location } = await browser.walk(url);
  const code = location!.searchParams.get('code')!;
  const first = await oauth.authorizationCodeGrant(config, location!, {
    pkceCodeVerifier: verifier,
    expectedNonce: nonce,
  });
  const second = await oauth.refreshTokenGrant(config, first.refresh_token!);
  const part = (json: object): string => Buffer.from(JSON.stringify(json)).toString('base64url');
  const proof = `${part({ typ: 'dpop+jwt', alg: 'ES256' })}.${part({ jti: 'proof-1', iat: 1_767_614_400 })}.c2ln`;
  const headers = {
    authorization: `Bearer ${second.access_token}`,
    dpop: proof,
    'x-forwarded-for': '198.51.100.4',
  };
  const answer = await fetch(`${apiUrl}/orders/7`, { headers });
  expect([answer.status, await answer.text()]).toEqual([200, '{"ok":true}']);
  await oauth.tokenRevocation(config, second.refresh_token!);

  await as.telemetry.flush();
  await apiTelemetry.flush();
  const recorded = as.telemetry.statistics.recorded + apiTelemetry.statistics.recorded;
  expect(as.telemetry.statistics).toMatchObject({ failed: 0, dropped: 0, pending: 0 });
  expect(apiTelemetry.statistics).toMatchObject({ recorded: 2, exported: 2 });
  await collector.flush();
  await expect.poll(storedEvents, { timeout: 20_000 }).toBe(recorded);

  const life = await store.query<Record<string, string>>(
    sql`SELECT kind, outcome, net_network, net_ip_role, source_instance, corr_trace_id != '' AS traced
        FROM grantscope.auth_events
        WHERE has(\`tokens.ref\`, ${param.uuid(refOf(second.access_token))}) ORDER BY time`,
  );
  expect(
    life.map((row) => [row['kind'], row['outcome'], row['net_network'], row['net_ip_role']]),
  ).toEqual([
    ['token_refreshed', 'success', '127.0.0.0/24', 'end_user'],
    ['token_introspected', 'success', '127.0.0.0/24', 'client_backend'],
    ['token_validated', 'success', '198.51.100.0/24', 'end_user'],
    ['api_accessed', 'success', '198.51.100.0/24', 'end_user'],
  ]);
  expect([...new Set(life.map((row) => row['source_instance']))].sort()).toEqual([
    'orders-api',
    'test-as',
  ]);

  const ledger = await store.query<Record<string, string | number>>(
    sql`SELECT kind, token_role AS role, token_type AS type, token_ref AS ref, parent_ref, family_ref, toInt32(counter) AS counter
        FROM grantscope.token_events WHERE token_type IN ('code', 'refresh')
        ORDER BY time, kind, role, type`,
  );
  const [codeRef, firstRef, secondRef] = [code, first.refresh_token!, second.refresh_token!].map(
    refOf,
  );
  const nil = '00000000-0000-0000-0000-000000000000';
  const family = ledger.find((row) => row['ref'] === firstRef)?.['family_ref'];
  expect(family).not.toBe(nil);
  expect(
    ledger.map((r) => [
      r['kind'],
      r['role'],
      r['type'],
      r['ref'],
      r['parent_ref'],
      r['family_ref'],
      r['counter'],
    ]),
  ).toEqual([
    ['code_issued', 'issued', 'code', codeRef, nil, nil, -1],
    ['code_redeemed', 'consumed', 'code', codeRef, nil, nil, -1],
    ['token_issued', 'consumed', 'code', codeRef, nil, nil, -1],
    ['token_issued', 'issued', 'refresh', firstRef, codeRef, family, 0],
    ['token_refreshed', 'consumed', 'refresh', firstRef, nil, family, 0],
    ['token_refreshed', 'issued', 'refresh', secondRef, firstRef, family, 1],
    ['token_revoked', 'revoked', 'refresh', secondRef, nil, family, 1],
    ['grant_revoked', 'revoked', 'refresh', secondRef, nil, family, 1],
  ]);

  // A DPoP proof is known by its id: the same one in another request would be the same reference.
  const proofs = await store.query<Record<string, string>>(
    sql`SELECT kind, token_role AS role, token_ref AS ref, token_ref_kind AS ref_kind, toString(issued_at) AS issued_at
        FROM grantscope.token_events WHERE token_type = 'dpop_proof' ORDER BY time, kind`,
  );
  const ofProof = { role: 'presented', ref: refOf(proof), ref_kind: 'jti' };
  const issuedAt = '2026-01-05 12:00:00';
  expect(proofs).toEqual([
    { kind: 'token_validated', ...ofProof, issued_at: issuedAt },
    { kind: 'api_accessed', ...ofProof, issued_at: issuedAt },
  ]);
  expect(refOf(proof)).toBe(keyRing.refOfJti('proof-1'));

  const [issued] = await store.query<Record<string, unknown>>(
    sql`SELECT client_id, subject_ref, pkce, redirect_uri, net_client_ip, net_ua_family, http_status, http_duration_ms > 0 AS timed, redaction_key_id, source_id, scopes_granted
        FROM grantscope.auth_events WHERE kind = 'code_issued'`,
  );
  expect(issued).toEqual({
    client_id: SPA.id,
    subject_ref: keyRing.ref('subject', 'alice@example.com'),
    pkce: 'S256',
    redirect_uri: SPA.uri,
    net_client_ip: '203.0.113.9',
    net_ua_family: 'curl',
    http_status: 303,
    timed: 1,
    redaction_key_id: keyRing.currentId,
    source_id: 'otlp',
    // The collector sorts them.
    scopes_granted: ['offline_access', 'openid'],
  });
  const [unclear] = await store.query<{ n: number }>(
    sql`SELECT toUInt32(countIf(kind = 'unclassified' OR outcome = 'unknown')) AS n FROM grantscope.auth_events`,
  );
  expect(unclear?.n).toBe(0);
});
