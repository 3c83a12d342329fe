import { renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { NetworkDatabases } from '../../collector/processors/network_databases.ts';
import { NOTHING_KNOWN, readRecord } from '../../collector/processors/network_facts.ts';
import type { EnrichmentSettings } from '../../runtime/enrichment_settings.ts';
import { createLog } from '../../runtime/log.ts';
import { Metrics } from '../../runtime/metrics.ts';
import { temporaryFolder } from '../harness.ts';
import { writeMmdb, type MmdbOptions } from '../mmdb_writer.ts';

// Databases of networks that the test writes itself, read by the real reader.

let folder: ReturnType<typeof temporaryFolder>;
let metrics: Metrics;
beforeEach(() => {
  folder = temporaryFolder();
  metrics = new Metrics({ processMetrics: false });
});
afterEach(() => folder.remove());

const path = (name: string): string => join(folder.path, name);

/** Written aside and moved, as a downloader does. */
function put(name: string, content: Buffer | string): string {
  writeFileSync(path(`${name}.new`), content);
  renameSync(path(`${name}.new`), path(name));
  return path(name);
}

const open = (settings: EnrichmentSettings, withCoordinates = true): NetworkDatabases | undefined =>
  NetworkDatabases.open({
    settings,
    withCoordinates,
    log: createLog({ level: 'silent' }),
    metrics,
  });

const ASN: MmdbOptions = {
  type: 'GeoLite2-ASN',
  networks: {
    '192.0.2.0/24': {
      autonomous_system_number: 64_500,
      autonomous_system_organization: 'Example Net',
    },
    '198.51.100.128/25': { autonomous_system_number: 64_501 },
    '2001:db8::/32': {
      autonomous_system_number: 64_502,
      autonomous_system_organization: 'Example Six',
    },
  },
};
const CITY: MmdbOptions = {
  type: 'GeoLite2-City',
  networks: {
    '192.0.2.0/25': {
      country: { iso_code: 'DE', names: { en: 'Germany' } },
      location: { latitude: 52.5244, longitude: 13.4105, accuracy_radius: 20 },
    },
    '192.0.2.128/25': {
      country: { iso_code: 'CL' },
      location: { latitude: -33.46, longitude: -70.67 },
    },
    '198.51.100.0/24': { registered_country: { iso_code: 'US' } },
    '2001:db8:1::/48': { country: { iso_code: 'JP' }, location: { latitude: 0, longitude: 0 } },
  },
};
const ANONYMOUS: MmdbOptions = {
  type: 'GeoIP2-Anonymous-IP',
  networks: {
    '192.0.2.7/32': { is_anonymous: true, is_anonymous_vpn: true, is_hosting_provider: true },
    '192.0.2.8/32': { is_anonymous: true, is_residential_proxy: true, is_public_proxy: true },
    '192.0.2.9/32': { is_anonymous: true, is_tor_exit_node: true },
  },
};

async function valueOf(name: string, labels: Readonly<Record<string, string>>): Promise<number> {
  const { values } = await metrics.registry.getSingleMetric(name)!.get();
  return (
    values.find((v) => Object.entries(labels).every(([k, l]) => v.labels[k] === l))?.value ?? 0
  );
}

describe('NetworkDatabases', () => {
  it('puts together what all files say of an address', () => {
    const databases = open({
      asn_database: put('asn.mmdb', writeMmdb(ASN)),
      location_database: put('city.mmdb', writeMmdb(CITY)),
      anonymous_ip_database: put('anonymous.mmdb', writeMmdb(ANONYMOUS)),
    })!;
    const system = { asn: 64_500, as_org: 'Example Net' };
    const berlin = { country: 'DE', latitude: 52.5, longitude: 13.4 };
    expect(databases.of('192.0.2.7')).toEqual({ ...system, ...berlin, flags: ['hosting', 'vpn'] });
    expect(databases.of('192.0.2.8')).toEqual({ ...system, ...berlin, flags: ['proxy'] });
    expect(databases.of('192.0.2.9')).toEqual({ ...system, ...berlin, flags: ['tor'] });
    expect(databases.of('192.0.2.200')).toEqual({
      ...system,
      ...{ country: 'CL', latitude: -33.5, longitude: -70.7 },
      flags: [],
    });
    // Where its owner is registered is not where it is.
    expect(databases.of('198.51.100.129')).toEqual({ ...NOTHING_KNOWN, asn: 64_501 });
    expect(databases.of('2001:db8:1::5')).toEqual({
      ...NOTHING_KNOWN,
      ...{ asn: 64_502, as_org: 'Example Six', country: 'JP' },
    });
    expect(databases.of('203.0.113.1')).toEqual(NOTHING_KNOWN);
    expect(databases.of('10.0.0.1')).toEqual(NOTHING_KNOWN);
    expect(databases.of('')).toBe(NOTHING_KNOWN);
  });

  it.each([24, 28, 32] as const)(
    'reads trees with records of %i bits, of IPv4 alone and of both',
    (recordSize) => {
      for (const ipVersion of [4, 6] as const) {
        const networks = Object.fromEntries(
          Object.entries(ASN.networks).filter(([n]) => ipVersion === 6 || !n.includes(':')),
        );
        const file = put('asn.mmdb', writeMmdb({ ...ASN, networks, recordSize, ipVersion }));
        metrics = new Metrics({ processMetrics: false });
        const databases = open({ asn_database: file })!;
        expect(databases.of('192.0.2.1').asn).toBe(64_500);
        expect(databases.of('198.51.100.1').asn).toBe(0);
        expect(databases.of('198.51.100.254').asn).toBe(64_501);
        // c000:0200 is 192.0.2.0 to a tree that has IPv4 addresses only.
        expect(databases.of('c000:200::1').asn).toBe(0);
        expect(databases.of('2001:db8::1').asn).toBe(ipVersion === 6 ? 64_502 : 0);
      }
    },
  );

  it('keeps coordinates to itself where addresses are hashed', () => {
    const databases = open({ location_database: put('city.mmdb', writeMmdb(CITY)) }, false)!;
    expect(databases.of('192.0.2.7')).toEqual({ ...NOTHING_KNOWN, country: 'DE' });
  });

  it('is not there where nothing is configured', () => {
    expect(open({})).toBeUndefined();
  });

  it.each([
    ['a missing file', undefined, 'no file at '],
    [
      'text',
      'not a database',
      'is no database in the MaxMind DB format, version 2 (.mmdb): its metadata cannot be read',
    ],
    [
      'an empty file',
      '',
      'is no database in the MaxMind DB format, version 2 (.mmdb): its metadata cannot be read',
    ],
    ['a file cut at its end', writeMmdb(ASN).subarray(0, 600), 'its metadata cannot be read'],
    ['a file cut at its beginning', writeMmdb(ASN).subarray(900), 'it ends too soon'],
    [
      'a file of another purpose',
      writeMmdb(CITY),
      '(GeoLite2-City) has nothing that is read from it; allowed: a file whose records have autonomous_system_number or asn',
    ],
    [
      'a file without networks',
      writeMmdb({ ...ASN, networks: {} }),
      'has nothing that is read from it',
    ],
  ])('refuses %s at start, and says which setting it is', (_, content, message) => {
    const file = path('asn.mmdb');
    if (content !== undefined) put('asn.mmdb', content);
    expect(() => open({ asn_database: file })).toThrow(message);
    expect(() => open({ asn_database: file })).toThrow(
      'grantscope.yaml: enrichment.asn_database: ',
    );
  });

  it('takes a replaced file, and forgets what the old one said', async () => {
    const file = put('asn.mmdb', writeMmdb({ ...ASN, builtAt: 1_700_000_000 }));
    const databases = open({ asn_database: file })!;
    expect(databases.of('192.0.2.1').asn).toBe(64_500);
    await databases.look();
    const built = 'grantscope_enrichment_database_built_timestamp_seconds';
    const reloads = 'grantscope_enrichment_reloads_total';
    const of = { database: 'asn_database' };
    expect(await valueOf(built, of)).toBe(1_700_000_000);
    expect(await valueOf(reloads, { ...of, result: 'taken' })).toBe(0);

    const networks = { '192.0.2.0/24': { autonomous_system_number: 64_999 } };
    put('asn.mmdb', writeMmdb({ ...ASN, networks, builtAt: 1_710_000_000 }));
    expect(databases.of('192.0.2.1').asn).toBe(64_500);
    await databases.look();
    expect(databases.of('192.0.2.1')).toEqual({ ...NOTHING_KNOWN, asn: 64_999 });
    expect(await valueOf(built, of)).toBe(1_710_000_000);
    expect(await valueOf(reloads, { ...of, result: 'taken' })).toBe(1);
  });

  it('stays with the old file where the new one is wrong or gone, and counts each wrong one once', async () => {
    const file = put('asn.mmdb', writeMmdb(ASN));
    const databases = open({ asn_database: file })!;
    const refused = { database: 'asn_database', result: 'refused' };
    put('asn.mmdb', 'half a file');
    await databases.look();
    await databases.look();
    expect(await valueOf('grantscope_enrichment_reloads_total', refused)).toBe(1);
    rmSync(file);
    await databases.look();
    expect(await valueOf('grantscope_enrichment_reloads_total', refused)).toBe(2);
    expect(databases.of('198.51.100.200').asn).toBe(64_501);
    put('asn.mmdb', writeMmdb({ ...ASN, networks: { '198.51.100.0/24': { asn: 'AS7' } } }));
    await databases.look();
    expect(databases.of('198.51.100.200').asn).toBe(7);
  });

  it('goes without the facts of a damaged part, and counts it', async () => {
    const bytes = writeMmdb(ASN);
    // The second record's data: a map becomes a type that there is not.
    const at = bytes.indexOf(Buffer.from('E1', 'hex'), bytes.length - 500);
    bytes[at] = 0x00;
    bytes[at + 1] = 0xff;
    const databases = open({ asn_database: put('asn.mmdb', bytes) })!;
    expect(databases.of('198.51.100.200')).toEqual(NOTHING_KNOWN);
    expect(databases.of('192.0.2.1').asn).toBe(64_500);
    expect(
      await valueOf('grantscope_enrichment_lookup_failures_total', { database: 'asn_database' }),
    ).toBe(1);
  });
});

describe('readRecord', () => {
  it.each([
    [
      { asn: 'AS15169', as_name: 'Example' },
      { asn: 15_169, as_org: 'Example' },
    ],
    [{ autonomous_system_number: 4_294_967_295 }, { asn: 4_294_967_295, as_org: '' }],
    [{ autonomous_system_number: 4_294_967_296 }, undefined],
    [{ asn: 'none' }, undefined],
    [{ autonomous_system_number: 0 }, undefined],
    [null, undefined],
  ])('takes the system of %o', (record, expected) => {
    expect(readRecord('asn_database', record)).toEqual(expected);
  });

  it.each([
    [
      { country_code: 'us', lat: '37.40599', lng: '-122.07851' },
      { country: 'US', latitude: 37.4, longitude: -122.1 },
    ],
    [{ country: 'FR' }, { country: 'FR' }],
    [{ country: 'France' }, undefined],
    [{ location: { latitude: Number.NaN, longitude: 1 } }, undefined],
    [{ location: { latitude: 91, longitude: 1 } }, undefined],
    [{ location: { latitude: 12 } }, undefined],
    [{ location: { latitude: 0, longitude: 0 } }, undefined],
    [{ location: { latitude: 0, longitude: 6.6 } }, { country: '', latitude: 0, longitude: 6.6 }],
    [
      { location: { latitude: -0.04, longitude: 6.6 } },
      { country: '', latitude: 0, longitude: 6.6 },
    ],
  ])('takes the place of %o', (record, expected) => {
    expect(readRecord('location_database', record)).toEqual(expected);
  });

  it.each([
    [
      { vpn: true, relay: 'true', hosting: false, tor: '', service: 'x' },
      { flags: ['relay', 'vpn'] },
    ],
    [{ is_anonymous: true }, { flags: [] }],
    [{ is_satellite_provider: true }, undefined],
  ])('takes the flags of %o', (record, expected) => {
    expect(readRecord('anonymous_ip_database', record)).toEqual(expected);
  });
});
