import { randomUUID } from 'node:crypto';
import {
  ROOT_CONTEXT,
  SpanKind,
  SpanStatusCode,
  context as activeContext,
  diag,
  trace,
  type Attributes,
  type Context,
  type Span,
  type SpanContext,
  type Tracer,
} from '@opentelemetry/api';
import { ATTR, AUTH_EVENT_NAME } from '../model/attributes.ts';
import type { Outcome } from '../model/kinds.ts';
import type { KeyRing } from '../runtime/keyring.ts';
import { nowMs } from './clock.ts';
import { eventAttributes } from './event_attributes.ts';
import type { HttpFacts } from './http_facts.ts';
import type { RecordedAuthEvent } from './recorded_event.ts';

export interface RecordOptions {
  /** Adds an event to the active span in place of a span of its own; without an active span has no effect. */
  asSpanEvent?: boolean | undefined;
  /** The context to be a child of; default: the active context. */
  parent?: Context | undefined;
  /** Milliseconds since the epoch; default: now. */
  startTimeMs?: number | undefined;
  endTimeMs?: number | undefined;
}

/** An event that has begun: its span is open, so that calls made meanwhile become its children. */
export interface OpenEvent {
  /** The context with the span: run the work within it, or give it as `parent` to further events. */
  readonly context: Context;
  /** For the `traceparent` header of calls to other servers (W3C Trace Context). */
  readonly traceparent: string;
  /** Records what it came to and closes the span; a second call does nothing. */
  end(event: RecordedAuthEvent): void;
}

/**
 * Turns auth events into spans with the attributes of model/attributes.ts, redacted before they are set.
 * Never throws: what goes wrong is counted in `failures` and told to the diagnostics logger of
 * OpenTelemetry, since telemetry must not break a login.
 */
export class AuthRecorder {
  readonly keyRing: KeyRing;
  readonly #tracer: Tracer;
  #failures = 0;

  constructor(options: { tracer: Tracer; keyRing: KeyRing }) {
    this.#tracer = options.tracer;
    this.keyRing = options.keyRing;
  }

  /** Events that could not be recorded since the start. */
  get failures(): number {
    return this.#failures;
  }

  /** Records a finished event. Returns the context of its span, to be the parent of related events. */
  record(event: RecordedAuthEvent, options: RecordOptions = {}): SpanContext | undefined {
    return this.guard(() => {
      const attributes = this.#attributesOf(event);
      const active = options.asSpanEvent === true ? trace.getActiveSpan() : undefined;
      if (active?.isRecording() === true) {
        active.addEvent(AUTH_EVENT_NAME, attributes, options.endTimeMs ?? nowMs());
        return active.spanContext();
      }
      const span = this.#startSpan(event.kind, options, attributes, event.http !== undefined);
      return closeSpan(span, event.outcome, options.endTimeMs);
    });
  }

  /** Opens the span of an event whose end is not known yet, such as a call that is being answered. */
  begin(name: string, options: RecordOptions = {}): OpenEvent {
    const parent = options.parent ?? activeContext.active();
    const span = this.guard(() => this.#startSpan(name, options, {}, true));
    if (span === undefined) return { context: parent, traceparent: '', end: () => undefined };
    let open = true;
    return {
      context: trace.setSpan(parent, span),
      traceparent: traceparentOf(span.spanContext()),
      end: (event) => {
        if (!open) return;
        open = false;
        this.guard(() => {
          span.updateName(`oauth.${event.kind}`);
          span.setAttributes(this.#attributesOf(event));
          return closeSpan(span, event.outcome, options.endTimeMs);
        });
      },
    };
  }

  /** Runs `work`; counts and reports what it throws. Integrations wrap their own code in it. */
  guard<T>(work: () => T): T | undefined {
    try {
      return work();
    } catch (error) {
      this.#failures += 1;
      // The name only: the message of a foreign error may quote what it choked on.
      diag.error('grantscope: an auth event was not recorded', nameOf(error));
      return undefined;
    }
  }

  #attributesOf(event: RecordedAuthEvent): Attributes {
    return { ...eventAttributes(event, this.keyRing), [ATTR.eventId]: randomUUID() };
  }

  #startSpan(name: string, options: RecordOptions, attributes: Attributes, served: boolean): Span {
    return this.#tracer.startSpan(
      `oauth.${name}`,
      {
        kind: served ? SpanKind.SERVER : SpanKind.INTERNAL,
        attributes,
        ...(options.startTimeMs === undefined ? {} : { startTime: options.startTimeMs }),
      },
      options.parent ?? activeContext.active(),
    );
  }
}

function closeSpan(span: Span, outcome: Outcome | undefined, endTimeMs?: number): SpanContext {
  if (outcome === 'failure') span.setStatus({ code: SpanStatusCode.ERROR });
  // Given in any case: for a span with a given start the SDK would end it by a clock of whole milliseconds.
  span.end(endTimeMs ?? nowMs());
  return span.spanContext();
}

function traceparentOf(span: SpanContext): string {
  return `00-${span.traceId}-${span.spanId}-01`;
}

function nameOf(error: unknown): string {
  return error instanceof Error ? error.name : typeof error;
}

/** A context whose parent is the given span, for events that belong together. */
export function contextOf(span: SpanContext, base: Context = ROOT_CONTEXT): Context {
  return trace.setSpanContext(base, span);
}

/** Records the events of one request: the first is the parent of the others. */
export function recordTogether(
  recorder: AuthRecorder,
  http: HttpFacts,
  events: readonly RecordedAuthEvent[],
): void {
  let parent = http.parent;
  for (const [index, event] of events.entries()) {
    const span = recorder.record(event, { parent, startTimeMs: http.startTimeMs });
    if (index === 0 && span !== undefined) parent = contextOf(span);
  }
}
