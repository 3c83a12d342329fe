import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { startCollector } from '../../collector/main.ts';
import { param, sql } from '../../model/sql.ts';
import type { AuthEvent } from '../../model/auth_event.ts';
import type { Config } from '../../runtime/config.ts';
import { readEvents } from '../../store/read_events.ts';
import { openTestStore, testRuntime } from '../harness.ts';
import { writeMmdb } from '../mmdb_writer.ts';

// From a request to a stored event, with databases of networks configured: real collector, real engine.

let opened: Awaited<ReturnType<typeof openTestStore>>;
let enrichment: Config['enrichment'];
beforeAll(async () => {
  opened = await openTestStore();
  const put = (name: string, content: Buffer): string => {
    const file = join(opened.dataDir, name);
    writeFileSync(file, content);
    return file;
  };
  enrichment = {
    asn_database: put(
      'asn.mmdb',
      writeMmdb({
        type: 'GeoLite2-ASN',
        networks: {
          '192.0.2.0/24': {
            autonomous_system_number: 4_200_000_000,
            autonomous_system_organization: 'Example',
          },
        },
      }),
    ),
    location_database: put(
      'city.mmdb',
      writeMmdb({
        type: 'GeoLite2-City',
        networks: {
          '192.0.2.0/24': {
            country: { iso_code: 'DE' },
            location: { latitude: 52.52, longitude: 13.41 },
          },
        },
      }),
    ),
    anonymous_ip_database: put(
      'anonymous.mmdb',
      writeMmdb({
        type: 'GeoIP2-Anonymous-IP',
        networks: {
          '192.0.2.7/32': { is_anonymous: true, is_tor_exit_node: true, is_anonymous_vpn: true },
        },
      }),
    ),
  };
});
afterAll(async () => opened.close());

/** What is stored of logins from these addresses, in their order. */
async function store(
  tenant: string,
  net: readonly Readonly<Record<string, string>>[],
  config: Partial<Config>,
): Promise<AuthEvent['net'][]> {
  const base = testRuntime(opened.dataDir);
  const dataDir = join(opened.dataDir, tenant);
  const runtime = testRuntime(dataDir, { config: { ...base.config, dataDir, tenant, ...config } });
  const collector = await startCollector(runtime, opened.store);
  const body = net.map((n, i) => ({ kind: 'login', time: 1_767_225_600 + i, net: n }));
  const response = await fetch(`${collector.url}/v1/events/grantscope`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  });
  expect(await response.json()).toEqual({ accepted: net.length, rejected: 0, errors: [] });
  await collector.stop();
  const events = await readEvents(opened.store, sql`tenant = ${param.string(tenant)}`);
  return events.sort((a, b) => Number(a.time - b.time)).map((e) => e.net);
}

const agent = { ip_role: 'unknown', user_agent: '', ua_family: '', ja4: '' };
const tor = {
  ...{ asn: 4_200_000_000, as_org: 'Example', country: 'DE' },
  ...{ latitude: 52.5, longitude: 13.4, flags: ['tor', 'vpn'] },
  ...agent,
};
const unknown = {
  asn: 0,
  as_org: '',
  country: '',
  latitude: null,
  longitude: null,
  flags: [],
  ...agent,
};

it('stores what the databases say; a country that the source gives goes before theirs', async () => {
  const addresses = [
    { client_ip: '192.0.2.7' },
    { client_ip: '[::ffff:192.0.2.8]:443', country: 'at' },
    { client_ip: '203.0.113.1', country: 'FR' },
  ];
  expect(await store('kept', addresses, { enrichment })).toEqual([
    { client_ip: '192.0.2.7', network: '192.0.2.0/24', ...tor },
    { client_ip: '192.0.2.8', network: '192.0.2.0/24', ...tor, country: 'AT', flags: [] },
    { client_ip: '203.0.113.1', network: '203.0.113.0/24', ...unknown, country: 'FR' },
  ]);
});

it('looks up the whole address where a part of it is stored', async () => {
  const redaction = {
    ...testRuntime(opened.dataDir).config.redaction,
    client_ip: 'truncate' as const,
  };
  expect(await store('cut', [{ client_ip: '192.0.2.7' }], { enrichment, redaction })).toEqual([
    { client_ip: '192.0.2.0', network: '192.0.2.0/24', ...tor },
  ]);
});

it('keeps coordinates out where addresses are hashed', async () => {
  const redaction = { ...testRuntime(opened.dataDir).config.redaction, client_ip: 'hash' as const };
  const [net] = await store('hashed', [{ client_ip: '192.0.2.7' }], { enrichment, redaction });
  expect(net).toMatchObject({ asn: 4_200_000_000, country: 'DE', latitude: null, longitude: null });
  expect(JSON.stringify(net)).not.toContain('192.0.2');
});

it('stores the prefix alone where nothing is configured', async () => {
  expect(await store('plain', [{ client_ip: '192.0.2.7' }], {})).toEqual([
    { client_ip: '192.0.2.7', network: '192.0.2.0/24', ...unknown },
  ]);
});

it('does not start with a file that is no database', async () => {
  const file = join(opened.dataDir, 'notes.txt');
  writeFileSync(file, 'nothing to see');
  const config = { ...testRuntime(opened.dataDir).config, dataDir: join(opened.dataDir, 'wrong') };
  const runtime = testRuntime(opened.dataDir, {
    config: { ...config, enrichment: { asn_database: file } },
  });
  await expect(startCollector(runtime, opened.store)).rejects.toMatchObject({
    code: 'config_invalid',
    message: `grantscope.yaml: enrichment.asn_database: ${file} is no database in the MaxMind DB format, version 2 (.mmdb): its metadata cannot be read`,
  });
});
