import { NETWORK_FLAGS, type NetworkFlag } from '../../model/kinds.ts';

/** What databases say about an address; see `net` of model/auth_event.ts. */
export interface NetworkFacts {
  readonly asn: number;
  readonly as_org: string;
  /** ISO 3166-1 alpha-2. */
  readonly country: string;
  readonly latitude: number | null;
  readonly longitude: number | null;
  /** Sorted. Shared by events: never change it. */
  readonly flags: NetworkFlag[];
}

/** Where an event's address is looked up. Never throws on data. */
export interface NetworkLookup {
  /** Of an address in its one spelling (`normaliseIp`); '' is unknown. */
  of(ip: string): NetworkFacts;
}

export const NOTHING_KNOWN: NetworkFacts = Object.freeze({
  asn: 0,
  as_org: '',
  country: '',
  latitude: null,
  longitude: null,
  flags: [],
});

/** What a file is asked for, by the name of its setting in `enrichment`. */
export const DATABASE_ROLES = [
  'asn_database',
  'location_database',
  'anonymous_ip_database',
] as const;
export type DatabaseRole = (typeof DATABASE_ROLES)[number];

/** The members of records that each role reads; a file that has none of them is the wrong file. */
export const MEMBERS_READ: Readonly<Record<DatabaseRole, string>> = {
  asn_database: 'autonomous_system_number or asn',
  location_database: 'country.iso_code, country_code or location.latitude',
  anonymous_ip_database: 'is_anonymous, is_hosting_provider, vpn or their like',
};

type Json = Readonly<Record<string, unknown>>;

/** Highest number of a system (RFC 6793). */
const ASN_MAX = 4_294_967_295;
const ORGANIZATION_LENGTH_MAX = 256;

/**
 * Reads one record of a file, in the words of MaxMind (GeoIP2, GeoLite2, and DB-IP, which follows them) or of IPinfo.
 * Undefined where the record holds nothing that the role is about.
 */
export function readRecord(role: DatabaseRole, record: unknown): Partial<NetworkFacts> | undefined {
  if (!isJson(record)) return undefined;
  switch (role) {
    case 'asn_database':
      return readSystem(record);
    case 'location_database':
      return readPlace(record);
    case 'anonymous_ip_database':
      return readFlags(record);
  }
}

function readSystem(record: Json): Partial<NetworkFacts> | undefined {
  const number = record['autonomous_system_number'] ?? record['asn'];
  const asn = Number(typeof number === 'string' ? number.replace(/^AS/i, '') : number);
  if (!Number.isInteger(asn) || asn <= 0 || asn > ASN_MAX) return undefined;
  const organization =
    record['autonomous_system_organization'] ?? record['as_name'] ?? record['name'];
  return { asn, as_org: textOf(organization).slice(0, ORGANIZATION_LENGTH_MAX) };
}

function readPlace(record: Json): Partial<NetworkFacts> | undefined {
  const country = countryOf(record);
  const location = isJson(record['location']) ? record['location'] : record;
  const at = coordinatesOf(
    location['latitude'] ?? location['lat'],
    location['longitude'] ?? location['lng'],
  );
  return country === '' && at === undefined ? undefined : { country, ...at };
}

/** Where the address is used: `registered_country` is where its owner is registered, which is something else. */
function countryOf(record: Json): string {
  const { country } = record;
  const code = textOf(isJson(country) ? country['iso_code'] : (record['country_code'] ?? country));
  return /^[A-Za-z]{2}$/.test(code) ? code.toUpperCase() : '';
}

/** Degrees to one decimal. 0/0, in the sea off Africa, is what is written where nothing is known. */
function coordinatesOf(
  latitude: unknown,
  longitude: unknown,
): Pick<NetworkFacts, 'latitude' | 'longitude'> | undefined {
  const [lat, long] = [degreesOf(latitude, 90), degreesOf(longitude, 180)];
  if (lat === undefined || long === undefined || (lat === 0 && long === 0)) return undefined;
  return { latitude: lat, longitude: long };
}

function degreesOf(value: unknown, max: number): number | undefined {
  if (typeof value !== 'number' && (typeof value !== 'string' || value === '')) return undefined;
  const degrees = Number(value);
  if (!Number.isFinite(degrees) || Math.abs(degrees) > max) return undefined;
  // Adding 0 makes -0 to 0.
  return Math.round(degrees * 10) / 10 + 0;
}

/** Members of MaxMind's Anonymous IP files, then of IPinfo's privacy files. */
const FLAG_OF_MEMBER: Readonly<Record<string, NetworkFlag | undefined>> = {
  is_hosting_provider: 'hosting',
  is_anonymous_vpn: 'vpn',
  is_public_proxy: 'proxy',
  is_residential_proxy: 'proxy',
  is_tor_exit_node: 'tor',
  hosting: 'hosting',
  vpn: 'vpn',
  proxy: 'proxy',
  tor: 'tor',
  relay: 'relay',
};
/** Says only that one of the others holds. */
const ANONYMOUS = 'is_anonymous';

function readFlags(record: Json): Partial<NetworkFacts> | undefined {
  const members = Object.keys(record).filter(
    (m) => m === ANONYMOUS || Object.hasOwn(FLAG_OF_MEMBER, m),
  );
  if (members.length === 0) return undefined;
  const flags = members.filter((m) => isTrue(record[m])).map((m) => FLAG_OF_MEMBER[m]);
  return { flags: NETWORK_FLAGS.filter((f) => flags.includes(f)).sort() };
}

function isTrue(value: unknown): boolean {
  return value === true || value === 'true' || value === 1;
}

function textOf(value: unknown): string {
  return typeof value === 'string' ? value : '';
}

function isJson(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
