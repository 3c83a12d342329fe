import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import clients, { readClients, withoutSecrets } from '../../cli/commands/clients.ts';
import { createCliContext } from '../../cli/context.ts';
import type { CliContext } from '../../cli/define_command.ts';
import { registerCollectorOperations, startCollector } from '../../collector/main.ts';
import { registerClientOperations } from '../../detectors/client_operations.ts';
import { ClientRegistry, readRegistrations } from '../../detectors/client_registry.ts';
import { param, sql } from '../../model/sql.ts';
import type { Runtime } from '../../runtime/context.ts';
import { messageOf } from '../../runtime/errors.ts';
import { openTestStore, testRuntime, TEST_KEY } from '../harness.ts';

// Lists of clients, from the file or request to what rules see: real collector, real engine.

let opened: Awaited<ReturnType<typeof openTestStore>>;
beforeAll(async () => {
  opened = await openTestStore();
});
afterAll(async () => opened.close());

let tests = 0;
let runtime: Runtime;
beforeEach(() => {
  const tenant = `inventory-${(tests += 1)}`;
  const base = testRuntime(opened.dataDir);
  const stated = [{ client_id: 'stated', scope: 'a b', client_type: 'public' as const }];
  runtime = testRuntime(opened.dataDir, { config: { ...base.config, tenant, clients: stated } });
});

/** The command over this test's operations. */
async function run(...args: string[]): Promise<unknown> {
  const printed: unknown[] = [];
  const cli: CliContext = {
    ...createCliContext({ GRANTSCOPE_DATA_DIR: opened.dataDir, GRANTSCOPE_HASH_KEY: TEST_KEY }),
    print: (result, asJson) => printed.push(asJson ? result.json : result.text),
    operation: async <T>(name: string, input: unknown): Promise<T> => {
      const operation = runtime.operations.get(name)!;
      return (await operation(JSON.parse(JSON.stringify(input)), () => undefined)) as T;
    },
  };
  const before = process.exitCode;
  try {
    await clients.build(cli).parseAsync(args, { from: 'user' });
  } catch (error) {
    return messageOf(error);
  } finally {
    process.exitCode = before;
  }
  return printed[0];
}

async function openOperations(): Promise<void> {
  await registerCollectorOperations(runtime, opened.store);
  registerClientOperations(runtime, opened.store);
}

async function registry(): Promise<ClientRegistry> {
  const { tenant, clients: stated } = runtime.config;
  return new ClientRegistry(stated, await readRegistrations(opened.store, tenant));
}

const NOON = BigInt(Date.UTC(2026, 0, 5, 12)) * 1_000_000n;
const THUMBPRINT = 'NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs';
const shop = {
  client_id: 'shop',
  client_name: 'Shop',
  client_secret: 'xK9-not-for-anyone-3f7',
  client_id_issued_at: 1_700_000_000,
  token_endpoint_auth_method: 'client_secret_basic',
  grant_types: ['authorization_code'],
  response_types: ['code'],
  scope: 'openid orders:read',
  redirect_uris: Array.from(
    { length: 90 },
    (_, i) => `https://shop-${i}.example/callback?code=kept-out`,
  ),
  jwks: { keys: [{ kty: 'EC', kid: THUMBPRINT }] },
};

describe('POST /v1/events/client_inventory', () => {
  it('is what rules see from its time on, however long its lists are', async () => {
    const dataDir = join(opened.dataDir, runtime.config.tenant);
    runtime = testRuntime(dataDir, { config: { ...runtime.config, dataDir } });
    const collector = await startCollector(runtime, opened.store);
    const response = await fetch(`${collector.url}/v1/events/client_inventory`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify([
        { ...shop, statement_time: '2026-01-05T12:00:00Z' },
        {
          client_id: 'shop',
          grant_types: ['refresh_token'],
          statement_time: '2026-01-06T12:00:00Z',
        },
        { client_name: 'nobody' },
      ]),
    });
    expect(await response.json()).toEqual({
      accepted: 2,
      rejected: 1,
      errors: [
        { index: 2, code: 'missing_field', message: 'client_id: must be text that is not empty' },
      ],
    });
    await collector.stop();
    const known = await registry();
    expect(known.at('shop', NOON - 1n)).toMatchObject({
      scopes: undefined,
      type: undefined,
      keyIds: undefined,
    });
    const { redirectUris, ...rest } = known.at('shop', NOON);
    expect(redirectUris).toHaveLength(90);
    expect(redirectUris?.[89]).toBe('https://shop-89.example/callback');
    expect(rest).toStrictEqual({
      scopes: new Set(['openid', 'orders:read']),
      authMethod: 'client_secret_basic',
      grantTypes: new Set(['authorization_code']),
      responseTypes: new Set(['code']),
      type: 'confidential',
      keyIds: new Set([THUMBPRINT]),
      hasSecret: true,
      registeredAt: 1_700_000_000_000_000_000n,
    });
    expect(known.at('shop', NOON + 86_400_000_000_000n)).toStrictEqual({
      ...rest,
      redirectUris,
      grantTypes: new Set(['refresh_token']),
    });
    const [found] = await opened.store.query<{ n: string | number }>(
      sql`SELECT count() AS n FROM grantscope.auth_events WHERE tenant = ${param.string(runtime.config.tenant)} AND position(toString(tuple(*)), ${param.string('not-for-anyone')}) > 0`,
    );
    expect(Number(found?.n)).toBe(0);
  });

  it('does not take a redacted value for a registered one', async () => {
    await openOperations();
    const operation = runtime.operations.get('import_clients')!;
    const scope = `openid ${Buffer.from('never a scope but random text 0123').toString('base64url')}xQ7zK2`;
    await operation(
      { clients: [{ client_id: 'odd', scope, redirect_uris: ['https://a.example/cb'] }] },
      () => undefined,
    );
    const odd = (await registry()).at('odd', BigInt(Date.now() + 60_000) * 1_000_000n);
    expect(odd.scopes === undefined || !odd.scopes.has('[redacted]')).toBe(true);
    expect(odd.redirectUris).toEqual(['https://a.example/cb']);
  });
});

describe('grantscope clients', () => {
  const file = (name: string, content: string): string => {
    const path = join(opened.dataDir, name);
    writeFileSync(path, content);
    return path;
  };

  it('imports a list once, however often it is run, and shows what rules see', async () => {
    await openOperations();
    const list = file(
      'clients.json',
      JSON.stringify([
        shop,
        { client_id: 'cli', token_endpoint_auth_method: 'none' },
        { client_id: '' },
      ]),
    );
    const time = ['--time', '2026-01-05T12:00:00Z'];
    expect(await run('import', list, ...time, '--dry-run')).toBe(
      '2 client(s) would be stated, 0 stated before, 1 refused\n  client 3: missing_field: client_id: must be text that is not empty',
    );
    expect(await run('list', '--json')).toHaveLength(1);
    const report = {
      dry_run: false,
      accepted: 2,
      already_stored: 0,
      rejected: 1,
      errors: [
        { index: 2, code: 'missing_field', message: 'client_id: must be text that is not empty' },
      ],
    };
    expect(await run('import', list, ...time, '--json')).toEqual(report);
    expect(await run('import', list, ...time, '--json')).toEqual({
      ...report,
      accepted: 0,
      already_stored: 2,
    });
    expect(await run('list')).toBe(
      [
        'cli     public        ? redirect URI(s), ? scope(s), stated by events',
        'shop    confidential  90 redirect URI(s), 2 scope(s), stated by events',
        'stated  public        ? redirect URI(s), 2 scope(s), stated by grantscope.yaml',
      ].join('\n'),
    );
    expect(await run('show', 'cli')).toBe(
      [
        'cli',
        'stated by: events (1 statement(s), last 2026-01-05T12:00:00.000Z)',
        'registered: unknown',
        'type: public, authentication: none, secret: none',
        'grant types: unknown',
        'response types: unknown',
        'scopes: unknown',
        'redirect URIs: unknown',
        'key ids: unknown',
      ].join('\n'),
    );
    expect(await run('show', 'shop', '--json')).toMatchObject({
      ...{ client_id: 'shop', statements: 1, registered_at: '2023-11-14T22:13:20.000Z' },
      ...{ has_secret: true, scopes: ['openid', 'orders:read'], jwks_kids: [THUMBPRINT] },
    });
    expect(await run('show', 'nobody')).toBe(
      'client_id: nobody has stated this client; known clients: grantscope clients list',
    );
  });

  it('sends lists in parts that the API takes, and counts over all of them', async () => {
    await openOperations();
    const calls: number[] = [];
    const real = runtime.operations.get('import_clients')!;
    const counted = runtime.operations.get.bind(runtime.operations);
    runtime.operations.get = (name) =>
      name !== 'import_clients'
        ? counted(name)
        : (input, progress) => {
            calls.push(Buffer.byteLength(JSON.stringify(input)));
            return real(input, progress);
          };
    const many = Array.from({ length: 1_500 }, (_, i) => ({
      client_id: i === 1_400 ? '' : `client-${i}`,
      redirect_uris: [`https://client-${i}.example/${'p'.repeat(150)}`],
    }));
    const list = file('many.ndjson', many.map((c) => JSON.stringify(c)).join('\n'));
    expect(await run('import', list, '--time', '2026-01-05T12:00:00Z', '--json')).toMatchObject({
      accepted: 1_499,
      rejected: 1,
      errors: [{ index: 1_400, code: 'missing_field' }],
    });
    expect(calls.length).toBeGreaterThan(1);
    expect(Math.max(...calls)).toBeLessThan(256 * 1_024);
    expect(await run('list', '--json')).toHaveLength(1_500);
  });

  it('says what is wrong with a file', async () => {
    await openOperations();
    const allowed = 'allowed: a JSON array of clients, one JSON object, or one object a line';
    const bad = file('bad.json', '{"client_id":"a"}\n{"client_id":');
    expect(await run('import', bad)).toBe(`${bad}: line 2 is no JSON; ${allowed}`);
    const empty = file('empty.json', ' \n');
    expect(await run('import', empty)).toBe(`${empty}: is empty; ${allowed}`);
    expect(await run('import', join(opened.dataDir, 'none.json'))).toMatch(
      /none\.json: cannot be read: /,
    );
  });

  it('reads each way to write a list, and sends no secret', () => {
    expect(readClients('\uFEFF[1, {"client_id":"a"}]', 'f')).toEqual([1, { client_id: 'a' }]);
    expect(readClients('{"client_id":"a"}', 'f')).toEqual([{ client_id: 'a' }]);
    expect(readClients('{"client_id":"a"}\n\n{"client_id":"b"}\n', 'f')).toEqual([
      { client_id: 'a' },
      { client_id: 'b' },
    ]);
    const time = '2026-01-05T12:00:00.000Z';
    const sent = {
      ...shop,
      registration_access_token: 't',
      statement_time: 'x',
      jwks: { keys: [{ kid: 'k', d: 's' }, null, {}] },
    };
    expect(withoutSecrets(sent, time)).toEqual({
      statement_time: 'x',
      has_secret: true,
      jwks_kids: ['k'],
      ...Object.fromEntries(
        Object.entries(shop).filter(([name]) => name !== 'client_secret' && name !== 'jwks'),
      ),
    });
    expect(withoutSecrets({ client_id: 'a', jwks: 7 }, time)).toEqual({
      client_id: 'a',
      statement_time: time,
    });
    expect(withoutSecrets('a', time)).toBeNull();
  });
});
