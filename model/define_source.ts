import type { AuthEventDraft } from './draft.ts';
import type { EventKind } from './kinds.ts';

/** One record of a source: a parsed JSON value, or one line of text. */
export type SourceRecord =
  | { readonly form: 'json'; readonly value: unknown }
  | { readonly form: 'text'; readonly line: string };

/** Why a record was refused. Stable: clients and dashboards rely on them. */
export const REJECT_CODES = [
  'not_json',
  'not_an_object',
  'unsupported_form',
  'unrecognised_record',
  'missing_field',
  'invalid_field',
  'invalid_time',
  'too_large',
  'too_deep',
] as const;
export type RejectCode = (typeof REJECT_CODES)[number];

/** `message` names the field, the reason and what is allowed; it never repeats the payload. */
export type ParseResult =
  | { readonly ok: true; readonly events: readonly AuthEventDraft[] }
  | { readonly ok: false; readonly code: RejectCode; readonly message: string };

/** Facts about the request that a record came with. */
export interface SourceContext {
  /** The collector's clock, ns. */
  readonly received_at: bigint;
}

/** Fields of AuthEvent by path (e.g. `client.id`, `tokens.ref`, `net.client_ip`): for the coverage table. */
export type EventField = string;

export interface SourceDefinition {
  /** Equals the file name and the path segment of `POST /v1/events/{id}`. */
  readonly id: string;
  readonly title: string;
  readonly vendor: string;
  readonly product: string;
  /** One sentence: which records of which system. */
  readonly description: string;
  /** Framings that the receiver may cut a body into. */
  readonly forms: readonly ('json' | 'text')[];
  /** Kinds of events that this source's records can become; left out: any. */
  readonly kinds?: readonly EventKind[];
  /** Fields that this source can fill. What is not listed is reported as blind for detectors. */
  readonly provides: readonly EventField[];
  /**
   * Rules that can find nothing in what this source sends although it fills every field that they need, by rule id, and
   * why. Only for what `kinds` and `provides` cannot say: which tokens have a name, and what theirs joins with.
   */
  readonly blind_for?: Readonly<Record<string, string>>;
  /** How far the adapter is proven. */
  readonly confirmed_by: 'real_server' | 'real_samples' | 'documents';
  /** Vendor documents and RFC sections that the mapping follows. */
  readonly references: readonly string[];
  /**
   * The records in a container that this vendor sends (`{"Records": [...]}`, an Event Hub envelope, a hook's
   * `data.events`), in their order; undefined where the value is a record itself. A fault in one record then
   * refuses that record alone. Pure, never throws. Left out: the vendor has no containers.
   */
  readonly unwrap?: (value: unknown) => readonly unknown[] | undefined;
  /** Pure: no clock, no I/O, never throws on any input. One record may give zero (noise) to many events. */
  readonly parse: (record: SourceRecord, context: SourceContext) => ParseResult;
}

/** Declares a source. One file in `collector/sources/` with this as its default export. */
export function defineSource(definition: SourceDefinition): SourceDefinition {
  return Object.freeze(definition);
}
