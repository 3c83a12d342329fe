import { hash } from 'node:crypto';
import type { AuthEvent } from '../../model/auth_event.ts';
import type { RejectCode } from '../../model/define_source.ts';
import type { AuthEventDraft } from '../../model/draft.ts';
import { isUuid, uuidFromHex } from '../../model/ids.ts';
import { enrichEvent } from './enrich.ts';
import { addNextReferences, needsNextReferences } from './next_references.ts';
import { isPlausibleTime, normaliseEvent, normaliseText } from './normalise.ts';
import { redact, type RedactContext } from './redact.ts';

export interface ProcessContext extends RedactContext {
  /**
   * Tells apart records without an id of their own: equal for a repeat of the same record in the same
   * request, for instance `<content hash of the request>:<index of the record>`.
   */
  readonly contentSeed: string;
  /** Position of the draft among those that its record gave. */
  readonly subIndex: number;
}

export type Processed =
  | {
      readonly ok: true;
      readonly event: AuthEvent;
      /** Fields that reached a length or count limit and were cut; count them. */
      readonly cut: readonly string[];
    }
  | { readonly ok: false; readonly code: RejectCode; readonly message: string };

/**
 * From draft to stored event, in this order: redact, normalise, enrich. Nothing of the draft may be kept or
 * logged before or besides. Never throws on data.
 */
export function processDraft(draft: AuthEventDraft, context: ProcessContext): Processed {
  if (!isPlausibleTime(draft.time)) {
    return {
      ok: false,
      code: 'invalid_time',
      message:
        'time: outside the years 2000 to 2100; check its unit (ISO 8601, or epoch s, ms, ns)',
    };
  }
  const { event, cut } = redact(draft, context, eventIdOf(draft, context));
  if (needsNextReferences(draft, context.keyRing)) addNextReferences(event, draft, context);
  normaliseEvent(event);
  enrichEvent(event);
  return { ok: true, event, cut };
}

/**
 * The vendor's id where it is a UUID and names this event alone; else a hash of what makes the event the
 * same event when it is sent again.
 */
function eventIdOf(draft: AuthEventDraft, context: ProcessContext): string {
  const id = normaliseText(draft.vendor_event_id);
  const sub = draft.sub_id ?? (context.subIndex === 0 ? '' : String(context.subIndex));
  if (id === '') {
    return hashId([
      context.source.id,
      'content',
      context.contentSeed,
      String(context.subIndex),
      sub,
    ]);
  }
  if (isUuid(id) && sub === '') return id.toLowerCase();
  return hashId([context.source.id, 'id', id, sub]);
}

function hashId(parts: readonly string[]): string {
  return uuidFromHex(hash('sha256', parts.join('\0'), 'hex'));
}
