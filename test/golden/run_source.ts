import { createScrubber } from '../../collector/processors/scrub.ts';
import { processDraft } from '../../collector/processors/process_draft.ts';
import type { AuthEvent } from '../../model/auth_event.ts';
import { completeEvent, type PartialEvent } from '../../model/complete_event.ts';
import type { SourceDefinition, SourceRecord } from '../../model/define_source.ts';
import { KeyRing } from '../../runtime/keyring.ts';
import { TEST_KEY } from '../harness.ts';

/** The key ring that expected references are computed with. */
export const ring = KeyRing.fromKey(TEST_KEY);
export const RECEIVED_AT = 1_760_000_000_000_000_000n;
const scrubber = createScrubber();

/** A record through the whole way: parse, redact, normalise, enrich. Throws where it is rejected. */
export function eventsOf(
  source: SourceDefinition,
  record: SourceRecord,
  clientIp: 'keep' | 'truncate' | 'hash' = 'keep',
): AuthEvent[] {
  const parsed = source.parse(record, { received_at: RECEIVED_AT });
  if (!parsed.ok) throw new Error(`${parsed.code}: ${parsed.message}`);
  return parsed.events.map((draft, subIndex) => {
    const processed = processDraft(draft, {
      source,
      tenant: 'default',
      receivedAt: RECEIVED_AT,
      contentSeed: 'seed',
      subIndex,
      keyRing: ring,
      scrubber,
      clientIp,
    });
    if (!processed.ok) throw new Error(`${processed.code}: ${processed.message}`);
    if (source.kinds?.includes(draft.kind) === false)
      throw new Error(`${source.id}: kinds lacks ${draft.kind}`);
    return processed.event;
  });
}

export const json = (value: unknown): SourceRecord => ({ form: 'json', value });
export const line = (text: string): SourceRecord => ({ form: 'text', line: text });

/** The expected event in short: what the source gives beside the facts that all of its events share. */
export function expected(
  source: SourceDefinition,
  partial: Omit<PartialEvent, 'event_id'> & { event_id?: string },
): Omit<AuthEvent, 'event_id'> {
  const complete = completeEvent({
    observed_time: RECEIVED_AT,
    ...partial,
    event_id: partial.event_id ?? '',
    source: { id: source.id, vendor: source.vendor, product: source.product, ...partial.source },
    redaction: { key_id: ring.currentId, ...partial.redaction },
  });
  return withoutId(complete);
}

/** An event without its id, whose value is tested apart. */
export function withoutId(event: AuthEvent): Omit<AuthEvent, 'event_id'> {
  const entries = Object.entries(event).filter(([name]) => name !== 'event_id');
  return Object.fromEntries(entries) as Omit<AuthEvent, 'event_id'>;
}
