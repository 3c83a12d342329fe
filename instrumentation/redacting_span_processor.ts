import type { Attributes, AttributeValue, Context, Link, SpanContext } from '@opentelemetry/api';
import { SECRET_KEYS, normaliseKey } from './secret_keys.ts';
import type { tracing } from './otel_sdk.ts';
import { REDACTED, scrubName, scrubText, withoutQuery } from './scrub.ts';

type ReadableSpan = tracing.ReadableSpan;

/** Attributes that hold a URL or a part of one: query, fragment and userinfo are cut off. */
const URL_KEYS: ReadonlySet<string> = new Set([
  'url.full',
  'url.original',
  'url.path',
  'http.url',
  'http.target',
  'http.referer',
  'http.request.header.referer',
  'http.request.header.location',
  'http.response.header.location',
]);
const QUERY_KEYS: ReadonlySet<string> = new Set(['url.query', 'url.fragment', 'http.query']);
/** `error.code` and the like: a secret's name at the end of a key that holds none. */
const HARMLESS_KEY =
  /(?:^|\.)(?:error|exception|process|rpc|db|thread|connection|messaging|response)\.(?:code|state|request)$/;
/** Our own attributes hold names and references; the scanners look at them again all the same. */
const OWN_NAME = /^oauth\.(?!ext\.|error\.description$)/;

/**
 * Takes secrets out of what OTHER instrumentations (http, express, database clients) write into spans,
 * before anything is queued or exported: attributes, names, events, links and status messages. The span
 * itself stays as it is for other processors; `inner` gets a redacted view of it.
 */
export class RedactingSpanProcessor implements tracing.SpanProcessor {
  readonly #inner: tracing.SpanProcessor;

  constructor(inner: tracing.SpanProcessor) {
    this.#inner = inner;
  }

  onStart(span: tracing.Span, parentContext: Context): void {
    this.#inner.onStart(span, parentContext);
  }

  onEnd(span: ReadableSpan): void {
    this.#inner.onEnd(redactSpan(span));
  }

  forceFlush(): Promise<void> {
    return this.#inner.forceFlush();
  }

  shutdown(): Promise<void> {
    return this.#inner.shutdown();
  }
}

/** A view of the span with every text redacted; everything else is the span's own. */
export function redactSpan(span: ReadableSpan): ReadableSpan {
  const redacted: Partial<ReadableSpan> = {
    name: scrubText(withoutQuery(span.name)),
    attributes: redactAttributes(span.attributes),
    events: span.events.map((event) => ({
      ...event,
      name: scrubText(event.name),
      ...(event.attributes === undefined ? {} : { attributes: redactAttributes(event.attributes) }),
    })),
    links: span.links.map(redactLink),
    status: {
      code: span.status.code,
      ...(span.status.message === undefined ? {} : { message: scrubText(span.status.message) }),
    },
    spanContext: () => withoutTraceState(span.spanContext()),
    ...(span.parentSpanContext === undefined
      ? {}
      : { parentSpanContext: withoutTraceState(span.parentSpanContext) }),
  };
  const descriptors = Object.fromEntries(
    Object.entries(redacted).map(([key, value]) => [key, { value, enumerable: true }]),
  );
  // A view, not a copy: `duration` and others are getters of the span's class.
  return Object.create(span, descriptors) as ReadableSpan;
}

/** Vendors write what they like into `tracestate`, and nothing here reads it. */
function withoutTraceState(context: SpanContext): SpanContext {
  const { traceId, spanId, traceFlags, isRemote } = context;
  return { traceId, spanId, traceFlags, ...(isRemote === undefined ? {} : { isRemote }) };
}

function redactLink(link: Link): Link {
  return {
    ...link,
    context: withoutTraceState(link.context),
    ...(link.attributes === undefined ? {} : { attributes: redactAttributes(link.attributes) }),
  };
}

/** Attributes by key rules first, then by what the values look like. */
export function redactAttributes(attributes: Attributes): Attributes {
  const result: Attributes = {};
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== undefined) result[scrubText(key)] = redactValue(key, value);
  }
  return result;
}

function redactValue(key: string, value: AttributeValue): AttributeValue {
  if (key.startsWith('oauth.'))
    return scrubValue(value, OWN_NAME.test(key) ? scrubName : scrubText);
  if (QUERY_KEYS.has(key) || isSecretAttribute(key)) return REDACTED;
  if (URL_KEYS.has(key)) {
    return scrubValue(value, (text) => scrubText(withoutQuery(text)));
  }
  return scrubValue(value, scrubText);
}

function scrubValue(value: AttributeValue, scrub: (text: string) => string): AttributeValue {
  if (typeof value === 'string') return scrub(value);
  if (!Array.isArray(value)) return value;
  return value.map((item: unknown) => (typeof item === 'string' ? scrub(item) : item)) as
    string[] | number[] | boolean[];
}

function isSecretAttribute(key: string): boolean {
  if (HARMLESS_KEY.test(key)) return false;
  const lastSegment = key.slice(key.lastIndexOf('.') + 1);
  return SECRET_KEYS.has(normaliseKey(key)) || SECRET_KEYS.has(normaliseKey(lastSegment));
}
