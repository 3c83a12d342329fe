import type { SourceDefinition } from '../../../model/define_source.ts';
import { GrantscopeError } from '../../../runtime/errors.ts';
import type { SourcedRecord } from '../../ingest.ts';
import type { AuthRecord, AuthRecordContext } from './auth_records.ts';
import { plainAttributes } from './plain_value.ts';
import type { TextAttributes } from './rows.ts';
import { setOwn } from '../../set_own.ts';
import type { Attributes, OtlpResourceGroup, OtlpScope } from './types.ts';

/** What the mapping needs of the scrubber (collector/processors/scrub.ts). */
export interface OtlpScrubber {
  scrubText(text: string, maxLength?: number): { readonly text: string; readonly changed: boolean };
  scrubAttributes(attributes: Readonly<Record<string, unknown>>): {
    readonly attributes: Record<string, string>;
    /** Names of those that changed. */
    readonly redacted: readonly string[];
    readonly cut: number;
  };
}

export interface MapContext {
  readonly sources: ReadonlyMap<string, SourceDefinition>;
  readonly scrubber: OtlpScrubber;
  /** The collector's clock, ns. */
  readonly receivedAt: bigint;
}

/** A record that did not become an auth event; `owner` is the position of its span or log record. */
export interface Refusal {
  readonly owner: number;
  readonly code: string;
  readonly message: string;
}

/** A request as rows and auth records. Rows are redacted; records are not yet (their source's pipeline does it). */
export interface MappedRequest<Row> {
  /** One for each span or log record, in the order of the request. */
  readonly rows: Row[];
  readonly records: SourcedRecord[];
  /** For each of `records` the position of its span or log record. */
  readonly owners: number[];
  readonly refusals: Refusal[];
  /** Times that were replaced, see `storableTime`. */
  timesReplaced: number;
  /** Texts that were cut, see `TEXT_LENGTH_MAX` and `BODY_LENGTH_MAX`. */
  textsCut: number;
  /** Attributes beyond `ATTRIBUTES_MAX` that were dropped. */
  attributesCut: number;
  /** Texts and attributes of which something was hashed, scrubbed or dropped; cut ones among them. */
  redacted: number;
}

/** Redacted facts that all records of a scope share. */
export interface SharedColumns {
  readonly serviceName: string;
  readonly resourceAttributes: TextAttributes;
  readonly resourceSchemaUrl: string;
  readonly scopeName: string;
  readonly scopeVersion: string;
  readonly scopeAttributes: TextAttributes;
  readonly scopeSchemaUrl: string;
}

/** Makes one row, and says by `authRecords` which auth events come with it. */
export type MapRecord<R, Row> = (
  record: R,
  shared: SharedColumns,
  work: RecordWork,
) => { readonly row: Row; readonly authRecords: readonly AuthRecord[] };

export interface RecordWork {
  readonly context: MapContext;
  readonly auth: AuthRecordContext;
  /** A time within the storable range; counts where it had to be replaced. */
  readonly time: (ns: bigint) => bigint;
  /** A text redacted and cut to `lengthMax` (default `TEXT_LENGTH_MAX`); counts the cut. */
  readonly text: (text: string, lengthMax?: number) => string;
  /** Keys and values redacted, values as text of at most `ATTRIBUTE_LENGTH_MAX`; counts the cuts. */
  readonly attributes: (attributes: Attributes) => TextAttributes;
}

/** Names, status messages, trace states: cut here, in UTF-16 units. */
export const TEXT_LENGTH_MAX = 4_096;

/**
 * Attributes of one span, log record, event, link, scope or resource that are stored, the first ones. The limit
 * of the SDKs is 128.
 */
export const ATTRIBUTES_MAX = 1_024;

/** A log body is cut here, in UTF-16 units. */
export const BODY_LENGTH_MAX = 65_536;

/**
 * The shared columns are written out once a row, so a large resource with many records would grow without bound
 * on its way to the disk. Honest requests stay below: 8,192 records with 16 KiB of resource each.
 */
export const EXPANDED_BYTES_MAX = 128 * 1024 * 1024;

/** Maps a request, group by group. Throws `body_too_large` beyond `EXPANDED_BYTES_MAX`. */
export function mapRequest<R, Row>(
  groups: readonly OtlpResourceGroup<R>[],
  context: MapContext,
  mapRecord: MapRecord<R, Row>,
): MappedRequest<Row> {
  const mapped: MappedRequest<Row> = {
    rows: [],
    records: [],
    owners: [],
    refusals: [],
    timesReplaced: 0,
    textsCut: 0,
    attributesCut: 0,
    redacted: 0,
  };
  const time = (ns: bigint): bigint => {
    const storable = storableTime(ns, context.receivedAt);
    if (storable !== ns) mapped.timesReplaced += 1;
    return storable;
  };
  const text = (value: string, lengthMax = TEXT_LENGTH_MAX): string => {
    if (value === '') return '';
    const scrubbed = context.scrubber.scrubText(value, lengthMax);
    if (scrubbed.changed) mapped.redacted += 1;
    if (scrubbed.text.length >= lengthMax - 1 && value.length > lengthMax) mapped.textsCut += 1;
    return scrubbed.text;
  };
  const attributes = (all: Attributes): TextAttributes => {
    const keys = Object.keys(all);
    const values = keys.length > ATTRIBUTES_MAX ? firstOf(all, keys) : all;
    mapped.attributesCut += Math.max(0, keys.length - ATTRIBUTES_MAX);
    const scrubbed = context.scrubber.scrubAttributes(values);
    mapped.textsCut += scrubbed.cut;
    mapped.redacted += scrubbed.redacted.length;
    return scrubbed.attributes;
  };
  let expandedBytes = 0;
  for (const group of groups) {
    const auth = {
      sources: context.sources,
      resource: plainAttributes(group.resource.attributes),
      receivedAt: context.receivedAt,
    };
    const work: RecordWork = { context, auth, time, text, attributes };
    const resourceColumns = redactResource(group, work);
    for (const scope of group.scopes) {
      if (scope.records.length === 0) continue;
      const shared = {
        ...resourceColumns,
        ...redactScope(scope.scope, scope.schemaUrl, work),
      };
      expandedBytes += sizeOf(shared) * scope.records.length;
      if (expandedBytes > EXPANDED_BYTES_MAX) throw tooLargeExpanded();
      for (const record of scope.records) add(mapped, mapRecord(record, shared, work));
    }
  }
  return mapped;
}

function firstOf(all: Attributes, keys: readonly string[]): Attributes {
  const first: Attributes = {};
  for (const key of keys.slice(0, ATTRIBUTES_MAX)) setOwn(first, key, all[key] ?? null);
  return first;
}

function add<Row>(
  mapped: MappedRequest<Row>,
  one: { readonly row: Row; readonly authRecords: readonly AuthRecord[] },
): void {
  const owner = mapped.rows.length;
  mapped.rows.push(one.row);
  for (const record of one.authRecords) {
    if (record.ok) {
      mapped.records.push({ source: record.source, record: record.record });
      mapped.owners.push(owner);
    } else {
      mapped.refusals.push({ owner, code: record.code, message: record.message });
    }
  }
}

function redactResource<R>(
  group: OtlpResourceGroup<R>,
  { attributes, text }: RecordWork,
): Pick<SharedColumns, 'serviceName' | 'resourceAttributes' | 'resourceSchemaUrl'> {
  const resourceAttributes = attributes(group.resource.attributes);
  return {
    serviceName: resourceAttributes['service.name'] ?? '',
    resourceAttributes,
    resourceSchemaUrl: text(group.schemaUrl),
  };
}

function redactScope(
  scope: OtlpScope,
  schemaUrl: string,
  { attributes, text }: RecordWork,
): Pick<SharedColumns, 'scopeName' | 'scopeVersion' | 'scopeAttributes' | 'scopeSchemaUrl'> {
  return {
    scopeName: text(scope.name),
    scopeVersion: text(scope.version),
    scopeAttributes: attributes(scope.attributes),
    scopeSchemaUrl: text(schemaUrl),
  };
}

const DAY_NS = 86_400_000_000_000n;

/** Oldest and newest time of a stored span or log record, in days from the collector's clock. */
export const TIME_PAST_DAYS_MAX = 400n;
export const TIME_FUTURE_DAYS_MAX = 1n;

/**
 * The tables have a partition a day, so a sender with a broken clock could open tens of thousands of them. A time
 * out of range, and 0 for unknown, becomes the time of receipt; the caller counts it.
 */
export function storableTime(ns: bigint, receivedAt: bigint): bigint {
  const isInRange =
    ns >= receivedAt - TIME_PAST_DAYS_MAX * DAY_NS &&
    ns <= receivedAt + TIME_FUTURE_DAYS_MAX * DAY_NS;
  return isInRange ? ns : receivedAt;
}

function sizeOf(shared: SharedColumns): number {
  let bytes = shared.resourceSchemaUrl.length + shared.scopeSchemaUrl.length;
  bytes += shared.serviceName.length + shared.scopeName.length + shared.scopeVersion.length;
  for (const attributes of [shared.resourceAttributes, shared.scopeAttributes])
    for (const [key, value] of Object.entries(attributes)) bytes += key.length + value.length;
  return bytes;
}

function tooLargeExpanded(): GrantscopeError {
  return new GrantscopeError(
    'body_too_large',
    `OTLP: resource and scope attributes, counted once a record, exceed ${EXPANDED_BYTES_MAX} bytes: send smaller batches`,
    { stage: 'receiving' },
  );
}
