import type { RejectCode } from '../model/define_source.ts';
import type { Metrics } from '../runtime/metrics.ts';

/** What the records of one source in one request came to. */
export interface SourceTally {
  received: number;
  /** Accepted, and no event in them: the vendor's noise. */
  silent: number;
  /** Refused, by reason; those that were kept as dead letters among them. */
  readonly rejected: ReadonlyMap<RejectCode, number>;
  readonly letters: ReadonlyMap<RejectCode, number>;
}

/**
 * What became of each record, so that nothing is dropped in silence: for every source,
 *
 *     grantscope_records_received_total = sum over fate of grantscope_records_settled_total
 *
 * where the fate is `stored` (its events are durable), `no_event`, `dead_lettered` (refused, and kept),
 * `rejected` (refused, and not kept) or `repeated` (of a request that was settled before).
 */
export class Ledger {
  readonly #settled: ReturnType<typeof ledgerMetrics>['settled'];
  readonly #letters: ReturnType<typeof ledgerMetrics>['letters'];

  constructor(metrics: Metrics) {
    const { settled, letters } = ledgerMetrics(metrics);
    this.#settled = settled;
    this.#letters = letters;
  }

  /** Called once the request's answer is certain: its rows are durable, or there were none. */
  settle(source: string, tally: SourceTally, fate: 'stored' | 'repeated'): void {
    if (fate === 'repeated') {
      this.#settled.inc({ source, fate }, tally.received);
      return;
    }
    const refused = sum(tally.rejected);
    const kept = sum(tally.letters);
    const accepted = tally.received - refused;
    this.#settled.inc({ source, fate: 'stored' }, accepted - tally.silent);
    this.#settled.inc({ source, fate: 'no_event' }, tally.silent);
    this.#settled.inc({ source, fate: 'dead_lettered' }, kept);
    this.#settled.inc({ source, fate: 'rejected' }, refused - kept);
    for (const [code, n] of tally.letters) this.#letters.inc({ source, code }, n);
  }
}

function sum(counts: ReadonlyMap<RejectCode, number>): number {
  let total = 0;
  for (const n of counts.values()) total += n;
  return total;
}

function ledgerMetrics(metrics: Metrics) {
  return {
    settled: metrics.counter(
      'grantscope_records_settled_total',
      'What became of each record: stored, no_event, dead_lettered, rejected or repeated.',
      ['source', 'fate'],
    ),
    letters: metrics.counter(
      'grantscope_dead_letters_total',
      'Refused records that were kept, redacted, for a later replay.',
      ['source', 'code'],
    ),
  };
}
