import type { NetworkFlag } from '../../model/kinds.ts';
import type { Random } from '../simulation/random.ts';
import type { Corpus, Happening, NetworkForm } from './corpus.ts';
import { CORPUS_START_MS, DAY_MS } from './corpus.ts';

export type Net = NonNullable<Happening['net']>;

/** Somewhere a person connects from. */
export interface Place {
  readonly asn: number;
  /** Carriers and offices put many people behind few addresses; homes have one each. */
  readonly addresses: readonly string[];
  readonly country: string;
  /** Where address databases put it; a carrier's gateway may stand in another city than its customers. */
  readonly at: readonly [latitude: number, longitude: number];
  /** What such databases say of the kind of network. */
  readonly flags?: readonly NetworkFlag[];
}

/** Cities of the people, by country: home and gateway of the carriers. */
const CITIES: Readonly<
  Record<string, { readonly home: Place['at']; readonly carrier: Place['at'] }>
> = {
  DE: { home: [52.5, 13.4], carrier: [50.1, 8.7] },
  FR: { home: [48.9, 2.3], carrier: [45.8, 4.8] },
  NL: { home: [52.4, 4.9], carrier: [51.9, 4.5] },
  PL: { home: [52.2, 21], carrier: [50.1, 19.9] },
};

function cityOf(country: string, part: 'home' | 'carrier'): Place['at'] {
  return CITIES[country]?.[part] ?? [0, 0];
}

export interface Device {
  readonly kind: 'browser' | 'phone';
  /** The whole text at a time: browsers update themselves every four weeks. */
  userAgent(atMs: number): string;
}

export interface Person {
  readonly subject: string;
  readonly home: Place;
  readonly mobile: Place;
  readonly office: Place;
  readonly laptop: Device;
  readonly phone: Device;
  readonly isAdmin: boolean;
  /** Signs in from a hotel abroad now and then. */
  readonly travels: boolean;
}

const COUNTRIES = ['DE', 'FR', 'NL', 'PL'];
/** People behind one carrier-grade NAT share this many addresses. */
const CGNAT_ADDRESSES = 8;

function version(base: number, atMs: number): number {
  return base + Math.floor((atMs - CORPUS_START_MS) / (28 * DAY_MS));
}

function browser(random: Random): Device {
  const updateDelay = random.int(0, 10) * DAY_MS;
  const make = random.pick([
    (v: number) =>
      `Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/${v}.0.0.0 Safari/537.36`,
    (v: number) => `Mozilla/5.0 (X11; Linux x86_64; rv:${v}.0) Gecko/20100101 Firefox/${v}.0`,
    (v: number) =>
      `Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/${v - 115}.1 Safari/605.1.15`,
    (v: number) =>
      `Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/${v}.0.0.0 Safari/537.36 Edg/${v}.0.0.0`,
  ]);
  return { kind: 'browser', userAgent: (at) => make(version(131, at - updateDelay)) };
}

function phone(random: Random): Device {
  const make = random.pick([
    (v: number) => `okhttp/4.${v % 20}.0`,
    (v: number) => `ShopApp/${v}.2.1 CFNetwork/1568.200.51 Darwin/24.1.0`,
  ]);
  return { kind: 'phone', userAgent: (at) => make(version(7, at)) };
}

/** A home has one IPv4 address, or an IPv6 prefix of which devices take a new address every day. */
function home(random: Random, i: number): Place {
  const country = COUNTRIES[i % COUNTRIES.length] ?? 'DE';
  const isIpv6 = random.chance(0.4);
  const addresses = isIpv6
    ? Array.from({ length: 40 }, () => `2001:db8:${i.toString(16)}:1::${random.hex(4)}`)
    : [`203.${i % 250}.113.${1 + (i % 250)}`];
  return { asn: 64_500 + (i % 4), addresses, country, at: cityOf(country, 'home') };
}

/** Everybody of a country uses one of two carriers, and comes out of a few addresses. */
function carrier(i: number): Place {
  const at = i % 2;
  const country = COUNTRIES[i % COUNTRIES.length] ?? 'DE';
  const addresses = Array.from(
    { length: CGNAT_ADDRESSES },
    (_, k) => `100.${64 + (i % COUNTRIES.length)}.${at * 10 + (k % 2)}.${k + 1}`,
  );
  return {
    asn: 64_506 + (i % COUNTRIES.length) * 2 + at,
    ...{ addresses, country, at: cityOf(country, 'carrier') },
  };
}

function office(i: number): Place {
  const at = i % 12;
  const country = COUNTRIES[i % COUNTRIES.length] ?? 'DE';
  return {
    asn: 64_520 + at,
    addresses: [`198.51.${at}.1`, `198.51.${at}.2`],
    ...{ country, at: cityOf(country, 'home') },
  };
}

/** A hotel in the next country. */
export function hotelOf(person: Person): Place {
  const i = COUNTRIES.indexOf(person.home.country);
  const country = COUNTRIES[(i + 1) % COUNTRIES.length] ?? 'DE';
  return {
    asn: 64_540 + i,
    addresses: [`192.0.${100 + i}.20`],
    ...{ country, at: cityOf(country, 'home') },
  };
}

/** A virtual private network that comes out across the ocean. */
export const VPN: Place = {
  asn: 64_560,
  addresses: ['192.0.2.60', '192.0.2.61'],
  country: 'US',
  at: [40.7, -74],
  flags: ['vpn'],
};

export function makePeople(corpus: Corpus, count: number): Person[] {
  return Array.from({ length: count }, (_, i) => ({
    subject: corpus.ref(),
    home: home(corpus.random, i),
    mobile: carrier(i),
    office: office(i),
    laptop: browser(corpus.random),
    phone: phone(corpus.random),
    isAdmin: i % 40 === 0,
    travels: i % 10 === 9,
  }));
}

function placeOf(place: Omit<Place, 'addresses'>, form: NetworkForm): Net {
  if (form === 'prefix') return {};
  const [latitude, longitude] = place.at;
  const { asn, country } = place;
  return { asn, country, latitude, longitude, flags: [...(place.flags ?? [])] };
}

function networkOf(place: Pick<Place, 'asn'>, address: string, form: NetworkForm): string {
  if (form === 'asn') return `AS${place.asn}`;
  if (!address.includes(':')) return address.replace(/\.\d+$/, '.0/24');
  return `${address.split(':').slice(0, 3).join(':')}::/48`;
}

/** The origin of one request; the address of one day and connection is told by `turn`. */
export function netOf(
  corpus: Corpus,
  place: Place,
  device: Device,
  atMs: number,
  turn: number,
): Net {
  const client_ip = place.addresses[turn % place.addresses.length] ?? '';
  return {
    client_ip,
    ip_role: 'end_user',
    network: networkOf(place, client_ip, corpus.networkForm),
    ...placeOf(place, corpus.networkForm),
    user_agent: device.userAgent(atMs),
  };
}

const DATA_CENTRE = {
  asn: 64_600,
  country: 'DE',
  at: [50.1, 8.7],
  flags: ['hosting'],
} as const;

/** The origin of a request that a server makes. */
export function serverNet(corpus: Corpus, address: string, userAgent: string): Net {
  return {
    client_ip: address,
    ip_role: 'client_backend',
    network: networkOf(DATA_CENTRE, address, corpus.networkForm),
    ...placeOf({ ...DATA_CENTRE }, corpus.networkForm),
    user_agent: userAgent,
  };
}
