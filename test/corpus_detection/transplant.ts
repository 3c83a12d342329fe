import type { StatedClient } from '../../detectors/client_registry.ts';
import {
  EXAMPLE_START_MS,
  type Detector,
  type DetectorExample,
} from '../../model/define_detector.ts';
import type { Random } from '../simulation/random.ts';
import type { Ground, Raised } from './attack.ts';
import { CORPUS_DAYS, DENSE_FROM } from './honest_world.ts';
import { CORPUS_START_MS, DAY_MS, MINUTE_MS, type Happening } from './corpus.ts';

/**
 * Carries an example of a rule over into the traffic of the corpus: another day and minute, other clients, people, tokens,
 * servers and networks. What must come of it is the example's finding under the new names: a rule that fires for its
 * example alone, by a name or a time that happens to be there, is found out.
 */
export interface Transplant {
  readonly rule: string;
  readonly example: string;
  readonly raised: readonly Raised[];
  readonly clients: readonly StatedClient[];
}

/** New names keep the order of the old ones, since evidence is sorted. */
class Renaming {
  readonly #salt: string;
  readonly #octet: number;
  readonly #asnStep: number;
  readonly #shiftMs: number;
  readonly #names = new Map<string, string>();

  constructor(random: Random, index: number, example: DetectorExample, shiftMs: number) {
    this.#salt = `${random.hex(3)}${index.toString(16).padStart(3, '0')}`;
    // Octet and step differ for each transplant, so that no two share a network.
    this.#octet = index % 200;
    this.#asnStep = 1_000 + (index % 30) * 1_000;
    this.#shiftMs = shiftMs;
    for (const event of example.events) {
      this.#learn(event.client?.id, event.client?.name, event.requested_client_id);
      this.#learn(event.source?.instance, event.issuer, event.key?.store);
      this.#learn(event.key?.kid, event.binding_thumbprint, event.corr?.trace_id);
      this.#learn(event.corr?.request_id, event.corr?.transaction_id);
      for (const token of event.tokens ?? []) this.#learn(token.kid);
      // One URI may name another from its beginning, which a new name would not.
      this.#learn(...(event.resource ?? []).filter((r) => !r.includes('://')));
    }
    for (const client of example.clients ?? []) this.#learn(client.client_id);
  }

  #learn(...names: readonly (string | undefined)[]): void {
    for (const name of names) {
      if (name === undefined || name === '') continue;
      // An instance is `service/pod`, and rules may judge the service.
      const [service = '', ...pod] = name.includes('://') ? [name] : name.split('/');
      const renamed = `${service}~${this.#salt}`;
      this.#names.set(service, renamed);
      this.#names.set(name, [renamed, ...pod].join('/'));
    }
  }

  text(text: string): string {
    const renamed = this.#names.get(text);
    if (renamed !== undefined) return renamed;
    const typed = /^([a-z_]+:)([^/].*)$/.exec(text);
    const named = this.#names.get(typed?.[2] ?? '');
    if (named !== undefined) return `${typed?.[1] ?? ''}${named}`;
    return text
      .replace(
        /\b([0-9a-f]{8})-([0-9a-f]{4})-([0-9a-f]{4})-([0-9a-f]{4})-([0-9a-f]{6})[0-9a-f]{6}\b/g,
        (_all, a: string, b: string, c: string, d: string, e: string) =>
          `${a}-${b}-${c}-${d}-${e}${this.#salt}`,
      )
      .replace(/\b(198|203|192)\.(51|0)\.(\d{1,3})\b/g, (_all, a: string, b: string, c: string) =>
        [a, String((b === '51' ? 20 : 10) + this.#octet).replace('168', '250'), c].join('.'),
      )
      .replace(/\bAS(\d+)\b/g, (_all, n: string) => `AS${Number(n) + this.#asnStep}`)
      .replace(/\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z\b/g, (at) =>
        new Date(Date.parse(at) + this.#shiftMs).toISOString(),
      );
  }

  /** The same everywhere in a value; numbers of autonomous systems stand under `asn`. */
  value(value: unknown, key = ''): unknown {
    if (typeof value === 'string') return this.text(value);
    if (typeof value === 'number' && key === 'asn' && value > 0) return value + this.#asnStep;
    if (typeof value === 'bigint') return value + BigInt(this.#shiftMs) * 1_000_000n;
    if (Array.isArray(value)) return value.map((v) => this.value(v, key));
    if (typeof value !== 'object' || value === null) return value;
    return Object.fromEntries(
      Object.entries(value).map(([k, v]) => [this.text(k), this.value(v, k)]),
    );
  }
}

const SPAN_S_MAX = 8 * 3_600;

/** Days, and minutes too where the example stays within its day. */
function shiftOf(random: Random, example: DetectorExample): number {
  const day = random.int(CORPUS_DAYS - 6, CORPUS_DAYS - 3);
  const days = CORPUS_START_MS + 12 * 3_600_000 - EXAMPLE_START_MS + day * DAY_MS;
  const isShort = example.events.every((e) => Math.abs(e.t) <= SPAN_S_MAX);
  return isShort ? days + random.int(-120, 120) * MINUTE_MS : days;
}

/**
 * Every example that fires with default parameters. What a rule says of an installation that it has not watched for long
 * (`learning`) cannot be said in one that has run for weeks.
 */
export function firingExamples(detector: Detector): readonly DetectorExample[] {
  return detector.examples.filter(
    (e) =>
      e.expect.length > 0 &&
      e.parameters === undefined &&
      !e.expect.some((f) => f.verdict === 'learning'),
  );
}

export function transplant(
  ground: Ground,
  detector: Detector,
  example: DetectorExample,
  index: number,
): Transplant {
  const shiftMs = shiftOf(ground.random, example);
  const names = new Renaming(ground.random, index, example, shiftMs);
  for (const { t, id, ...event } of example.events)
    ground.add(
      EXAMPLE_START_MS + shiftMs + Math.round(t * 1_000),
      names.value(event) as Happening,
      id === undefined ? undefined : names.text(`${id}~${index}`),
    );
  // Episodes of a day that is not judged are baseline to the others.
  const judged = example.expect.filter(
    (e) => !(Date.parse(e.episode) + shiftMs < Number(DENSE_FROM / 1_000_000n)),
  );
  const raised = judged.map((e): Raised => ({
    entity: names.text(e.entity),
    verdict: e.verdict,
    severity: e.severity,
    evidence: names.value(e.evidence) as Record<string, unknown>,
  }));
  const clients = (example.clients ?? []).map((c) => ({
    ...c,
    client_id: names.text(c.client_id),
    ...('client_id_issued_at' in c &&
      typeof c.client_id_issued_at === 'number' && {
        client_id_issued_at: c.client_id_issued_at + Math.round(shiftMs / 1_000),
      }),
    ...(c.redirect_uris !== undefined && {
      redirect_uris: c.redirect_uris.map((u) => names.text(u)),
    }),
  }));
  return { rule: detector.id, example: example.name, raised, clients };
}
