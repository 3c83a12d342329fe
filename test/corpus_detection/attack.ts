import type { Severity } from '../../model/finding.ts';
import type { Random } from '../simulation/random.ts';
import { CORPUS_DAYS } from './honest_world.ts';
import { CORPUS_START_MS, DAY_MS, HOUR_MS, type Corpus, type Happening } from './corpus.ts';
import type { Person } from './people.ts';

/** What an attack must raise, exactly. */
export interface Raised {
  /** The finding's entity; of daily rules too. */
  readonly entity: string;
  readonly verdict: string;
  readonly severity: Severity;
  readonly evidence: Readonly<Record<string, unknown>>;
}

/** Where an attack plants its events. */
export interface Ground {
  readonly corpus: Corpus;
  readonly random: Random;
  readonly people: readonly Person[];
  /** Records an event of the attack; the findings that name it are the attack's. */
  readonly add: (atMs: number, happening: Happening, name?: string) => void;
}

/** One way to attack, and the rule that has to see it. */
export interface Attack {
  readonly rule: string;
  readonly name: string;
  /** How many times it is planted, each time with another choice of times, people and networks. */
  readonly times: number;
  /** Plants it once and says what must come of it: one finding, or several. */
  readonly plant: (ground: Ground) => readonly Raised[];
}

/** A moment in the second half of the corpus, when baselines have something to go by; at office hours. */
export function attackMoment(random: Random): number {
  const day = random.int(CORPUS_DAYS - 6, CORPUS_DAYS - 2);
  return CORPUS_START_MS + day * DAY_MS + 9 * HOUR_MS + random.int(0, 8 * HOUR_MS);
}

export function iso(ms: number): string {
  return new Date(ms).toISOString();
}

/** A network of nobody in the corpus, for one attacker. */
export function attackerNet(
  random: Random,
  userAgent: string,
): NonNullable<Happening['net']> & { readonly network: string; readonly country: string } {
  const asn = 65_000 + random.int(0, 500);
  return {
    ...{ client_ip: `192.0.2.${random.int(100, 250)}`, ip_role: 'end_user' },
    ...{ asn, network: `AS${asn}`, country: random.pick(['XA', 'XB', 'XC']) },
    user_agent: userAgent,
  };
}
