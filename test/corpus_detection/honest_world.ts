import {
  clientsOf,
  PREVIEW_PATTERN,
  registerClients,
  type ClientSpec,
  type ClientType,
} from './clients.ts';
import { CORPUS_START_MS, DAY_MS, HOUR_MS, ns, type Corpus } from './corpus.ts';
import { exchange, machineDay, secretRotation, slowedDown } from './machines.ts';
import * as operations from './operations.ts';
import { hotelOf, makePeople, VPN, type Person } from './people.ts';
import { deviceFlow, Session } from './sessions.ts';

/** Days of event time: more than the thirty that baselines look back on. */
export const CORPUS_DAYS = 40;
/** The last days are dense, and are judged; the thin ones before them are what baselines are made of. */
export const DENSE_DAYS = 8;
/** Where the judged days begin, ns. */
export const DENSE_FROM = ns(CORPUS_START_MS + (CORPUS_DAYS - DENSE_DAYS) * DAY_MS);
/** Events that one person comes to on average; the number of people follows from it. */
const EVENTS_PER_PERSON = 285;
/** Share of people that sign in on a day. */
const PRESENCE = { thin: 0.08, dense: 0.6, weekendFactor: 0.4 } as const;

/** Lists that the catalogue asks operators for: what must not fire because it is known. */
export const KNOWN_LISTS: Readonly<Record<string, Readonly<Record<string, unknown>>>> = {
  redirect_probing: { allowed_patterns: [PREVIEW_PATTERN] },
  redirect_lookalike: { allowed_patterns: [PREVIEW_PATTERN] },
};

/** How often people use which kind of client. */
const USE: readonly (readonly [ClientType, number])[] = [
  ['web', 0.3],
  ['legacy_web', 0.05],
  ['spa', 0.25],
  ['dpop', 0.1],
  ['native', 0.3],
];

function pickClient(corpus: Corpus): ClientSpec {
  let at = corpus.random.next();
  for (const [type, share] of USE) {
    if (at < share) return corpus.random.pick(clientsOf(type));
    at -= share;
  }
  return corpus.random.pick(clientsOf('web'));
}

/** Weekdays from eight to eight; weekends are quieter. */
function moment(corpus: Corpus, day: number): number {
  const dayMs = CORPUS_START_MS + day * DAY_MS;
  return dayMs + 8 * HOUR_MS + corpus.random.next() * 12 * HOUR_MS;
}

function somebody(corpus: Corpus, people: readonly Person[]): Person {
  return corpus.random.pick(people.filter((p) => !p.travels));
}

function dayOfPeople(corpus: Corpus, people: readonly Person[], day: number): void {
  const { random } = corpus;
  const isDense = day >= CORPUS_DAYS - DENSE_DAYS;
  const presence =
    (isDense ? PRESENCE.dense : PRESENCE.thin) * (day % 7 >= 5 ? PRESENCE.weekendFactor : 1);
  for (const person of people) {
    if (!random.chance(presence)) continue;
    const start = moment(corpus, day);
    if (person.travels && random.chance(0.1)) {
      corpus.note('signed in from abroad');
      new Session(corpus, person, pickClient(corpus), start, hotelOf(person)).run(2);
      continue;
    }
    if (random.chance(0.01)) {
      corpus.note('signed in through a VPN');
      new Session(corpus, person, pickClient(corpus), start + 13 * HOUR_MS, VPN).run(1);
    }
    new Session(corpus, person, pickClient(corpus), start).run(random.int(1, 4));
    if (random.chance(0.06))
      deviceFlow(corpus, person, random.pick(clientsOf('tv')), start + 4 * HOUR_MS);
    if (random.chance(0.1)) exchange(corpus, person, start + HOUR_MS);
  }
}

function dayOfOperations(corpus: Corpus, people: readonly Person[], day: number): void {
  const { random } = corpus;
  const dayMs = CORPUS_START_MS + day * DAY_MS;
  const [admin] = people;
  const jobs = clientsOf('machine');
  for (let i = 0; i < 3; i += 1) {
    operations.expiredToken(corpus, somebody(corpus, people), moment(corpus, day));
    operations.skewedClock(corpus, moment(corpus, day));
  }
  for (let i = 0; i < 4; i += 1)
    operations.toolRegistration(corpus, somebody(corpus, people), moment(corpus, day), day * 4 + i);
  operations.previewDeploy(corpus, somebody(corpus, people), moment(corpus, day), 100 + day);
  operations.typingError(corpus, somebody(corpus, people), moment(corpus, day));
  slowedDown(corpus, random.pick(jobs), moment(corpus, day));
  if (day % 10 === 4) secretRotation(corpus, random.pick(jobs), moment(corpus, day));
  if (day % 7 === 0) {
    const office = people.filter((p, i) => i % 12 === 3 && !p.travels);
    operations.mondayMorning(corpus, office, dayMs + 8 * HOUR_MS);
  }
  if (day % 20 === 12) {
    const settled = people.filter((p) => !p.travels);
    operations.consentWave(corpus, settled.slice(0, 60), moment(corpus, day));
  }
  if (admin !== undefined && day % 3 === 0)
    operations.elevation(corpus, admin, moment(corpus, day));
  if (admin !== undefined && day % 5 === 2)
    operations.clientUpdate(corpus, admin, moment(corpus, day));
}

/** Fills the corpus with honest traffic of about `events` events over `CORPUS_DAYS` days. Returns its people. */
export function honestWorld(corpus: Corpus, events: number): readonly Person[] {
  registerClients(corpus);
  const people = makePeople(corpus, Math.max(60, Math.round(events / EVENTS_PER_PERSON)));
  const runsPerDay = Math.max(40, Math.round(events / 1_600));
  for (let day = 0; day < CORPUS_DAYS; day += 1) {
    dayOfPeople(corpus, people, day);
    dayOfOperations(corpus, people, day);
    const isDense = day >= CORPUS_DAYS - DENSE_DAYS;
    machineDay(corpus, CORPUS_START_MS + day * DAY_MS, isDense ? runsPerDay * 3 : runsPerDay);
  }
  // Keys change where kidAt says so, at midnight UTC of every tenth day since the epoch.
  const tenDays = 10 * DAY_MS;
  const end = CORPUS_START_MS + CORPUS_DAYS * DAY_MS;
  for (let at = Math.ceil(CORPUS_START_MS / tenDays) * tenDays; at < end; at += tenDays)
    operations.keyRotation(corpus, at);
  return people;
}
