import type { SourceDefinition } from '../../model/define_source.ts';
import { GrantscopeError } from '../../runtime/errors.ts';
import { cutRecords, parseBody, recordsOfValue, type CutRecord } from './cut_records.ts';

/** CloudEvents 1.0 in JSON: one event (structured mode), or an array of them (batched mode). */
export const CLOUD_EVENT_TYPES: ReadonlySet<string> = new Set([
  'application/cloudevents+json',
  'application/cloudevents-batch+json',
]);

/**
 * The vendor's records in a body of CloudEvents (JSON format, sections 2.4 and 3): what `data` holds, or `data_base64`. An
 * envelope that is none is refused by itself. Throws `body_unreadable` where the body is not JSON.
 */
export function* cutCloudEvents(body: Buffer, source: SourceDefinition): Generator<CutRecord> {
  const value = parseBody(body);
  const envelopes = Array.isArray(value) ? (value as readonly unknown[]) : [value];
  for (const envelope of envelopes) yield* contentOf(envelope, source);
}

function* contentOf(envelope: unknown, source: SourceDefinition): Generator<CutRecord> {
  const own = (name: string): unknown =>
    typeof envelope === 'object' && envelope !== null && Object.hasOwn(envelope, name)
      ? (envelope as Readonly<Record<string, unknown>>)[name]
      : undefined;
  if (typeof own('specversion') !== 'string')
    yield refused('specversion: missing; expected an envelope of CloudEvents 1.0');
  else if (typeof own('data') === 'string')
    yield* cutText(Buffer.from(String(own('data'))), source);
  else if (own('data') !== undefined && own('data') !== null)
    yield* recordsOfValue(own('data'), source);
  else if (typeof own('data_base64') === 'string')
    yield* cutText(Buffer.from(String(own('data_base64')), 'base64'), source);
  else yield refused('data: missing; expected a record of the source in data or data_base64');
}

/** Text within one envelope that cannot be read refuses that envelope alone. */
function* cutText(text: Buffer, source: SourceDefinition): Generator<CutRecord> {
  let cut = 0;
  try {
    for (const record of cutRecords(text, source)) {
      cut += 1;
      yield record;
    }
  } catch (error) {
    if (!(error instanceof GrantscopeError) || error.code !== 'body_unreadable') throw error;
    if (cut === 0) yield { ok: false, code: 'not_json', message: `data: ${error.message}` };
  }
}

function refused(message: string): CutRecord {
  return { ok: false, code: 'unrecognised_record', message };
}
