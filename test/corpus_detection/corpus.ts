import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { BlockBuilder } from '../../collector/spool/native_block.ts';
import { uaFamily } from '../../collector/processors/enrich.ts';
import type { AuthEvent } from '../../model/auth_event.ts';
import { completeEvent, type PartialEvent } from '../../model/complete_event.ts';
import { authEventsTable } from '../../model/event_columns.ts';
import { exampleRef } from '../../model/example_ref.ts';
import { uuidFromHex, type Ref } from '../../model/ids.ts';
import type { Store } from '../../store/client.ts';
import { Random } from '../simulation/random.ts';

/** 2026-01-05T00:00:00Z, a Monday: the first moment of the corpus. */
export const CORPUS_START_MS = Date.UTC(2026, 0, 5);
export const DAY_MS = 86_400_000;
export const HOUR_MS = 3_600_000;
export const MINUTE_MS = 60_000;
const NS_PER_MS = 1_000_000n;

/** An event without what the corpus adds: id, tenant and time. */
export type Happening = Omit<PartialEvent, 'event_id' | 'time' | 'tenant'>;

/** How addresses were made into networks: with an ASN database, or by their prefixes. */
export type NetworkForm = 'asn' | 'prefix';

/**
 * Takes the events that generators make, in any order of time, and keeps them as blocks of the Native format: two hundred
 * thousand objects at once would fill the memory of a small machine.
 */
export class Corpus {
  readonly tenant: string;
  readonly random: Random;
  readonly networkForm: NetworkForm;
  /** How often each kind of honest noise, or each attack, was made. */
  readonly notes = new Map<string, number>();
  readonly #builder = new BlockBuilder<AuthEvent>(authEventsTable);
  readonly #pending: AuthEvent[] = [];
  #events = 0;

  constructor(options: { tenant: string; seed: number; networkForm?: NetworkForm }) {
    this.tenant = options.tenant;
    this.random = new Random(options.seed);
    this.networkForm = options.networkForm ?? 'asn';
  }

  get size(): number {
    return this.#events;
  }

  /** Records one event at a moment, ms since the epoch; returns its id. Equal names give equal ids. */
  add(atMs: number, happening: Happening, name?: string): string {
    const event = completeEvent({
      ...happening,
      tenant: this.tenant,
      event_id: name === undefined ? this.ref() : exampleRef(name),
      time: ns(atMs),
    });
    if (event.net.user_agent !== '' && event.net.ua_family === '')
      event.net.ua_family = uaFamily(event.net.user_agent);
    this.#events += 1;
    this.#pending.push(event);
    if (this.#pending.length >= 256) this.#flush();
    return event.event_id;
  }

  note(what: string): void {
    this.notes.set(what, (this.notes.get(what) ?? 0) + 1);
  }

  /** A reference that nothing else has; the seed decides it. */
  ref(): Ref {
    let hex = '';
    for (let i = 0; i < 4; i += 1)
      hex += this.random.int(0, 0xffff_ffff).toString(16).padStart(8, '0');
    return uuidFromHex(hex);
  }

  #flush(): void {
    this.#builder.append(this.#pending);
    this.#pending.length = 0;
  }

  /** Stores everything so far, by the same statement as the collector's segments. */
  async store(store: Store, folder: string): Promise<void> {
    this.#flush();
    const file = join(folder, `${this.tenant}-${this.#events}.native`);
    writeFileSync(file, this.#builder.take());
    await store.insertNative({
      table: authEventsTable.table,
      columns: authEventsTable.columns.map((c) => c.name),
      file,
      deduplicationToken: `${this.tenant}-${this.#events}`,
    });
  }
}

/** A moment as AuthEvent has it, ns. */
export function ns(ms: number): bigint {
  return BigInt(Math.round(ms)) * NS_PER_MS;
}
