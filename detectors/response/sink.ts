import { createHash } from 'node:crypto';
import type { Finding, Severity } from '../../model/finding.ts';
import { uuidFromHex } from '../../model/ids.ts';
import type { RiskLevel } from '../../model/risk.ts';
import type { FindingStatus } from '../../model/triage.ts';

/** Pause between two looks for messages that time alone makes due, ms: an hour. */
export const FADE_INTERVAL_MS = 3_600_000;

/** A step that a sink may tell. */
export interface PendingStep {
  readonly step: FindingStatus;
  /** As it is now: evidence may have grown since the step. */
  readonly finding: Finding;
  /** Whether this sink has told of this finding before. */
  readonly isKnown: boolean;
}

/** What is sent; the same id on every attempt. */
export interface Message {
  readonly id: string;
  readonly body: string;
  /** Kept with the delivery; '' where it does not apply. */
  readonly subjectRef: string;
  readonly level: RiskLevel | '';
}

/** How an attempt ended, if it did. `refused`: this message will never be taken, so the next one may go. */
export type Outcome =
  | { readonly status: 'delivered' }
  | { readonly status: 'refused'; readonly error: string }
  | {
      readonly status: 'retrying';
      readonly error: string;
      readonly retryAfterMs?: number | undefined;
    };

/** A receiver of findings. */
export interface Sink {
  /** Names its queue in grantscope.deliveries. */
  readonly id: string;
  readonly kind: 'ocsf' | 'caep';
  readonly severityMin: Severity;
  readonly includeHidden: boolean;
  /** The message about a step; undefined where there is nothing to tell. */
  prepare(pending: PendingStep): Promise<Message | undefined>;
  /** Messages that time alone makes due, asked for every `FADE_INTERVAL_MS`: a risk that faded. Absent: none. */
  readonly faded?: () => Promise<readonly Message[]>;
  /** Tries once. Throws only what is no matter of the receiver. */
  send(message: Message): Promise<Outcome>;
}

/** A UUID of these parts: the same step told by the same sink has the same id for ever. */
export function messageId(...parts: readonly (string | number)[]): string {
  const text = `grantscope response\0${JSON.stringify(parts)}`;
  return uuidFromHex(createHash('sha256').update(text).digest('hex'));
}
