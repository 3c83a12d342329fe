import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-http';
import { NodeSDK, resources } from '@opentelemetry/sdk-node';
import { SpanStatusCode, trace, type Attributes } from '@opentelemetry/api';
import type { Component } from './lifecycle.ts';

/**
 * The product's own traces, sent to `OTEL_EXPORTER_OTLP_ENDPOINT`; off without it. Spans are made around
 * inserts, detection cycles and API requests, never around receiving, so that pointing the endpoint at our
 * own collector makes no loop.
 */
export function startTelemetry(endpoint: string | undefined, version: string): Component {
  if (endpoint === undefined) return { name: 'telemetry', stop: () => Promise.resolve() };
  const sdk = new NodeSDK({
    resource: resources.resourceFromAttributes({
      'service.name': 'grantscope',
      'service.version': version,
    }),
    traceExporter: new OTLPTraceExporter({ url: `${endpoint.replace(/\/$/, '')}/v1/traces` }),
    instrumentations: [],
  });
  sdk.start();
  return { name: 'telemetry', stop: () => sdk.shutdown() };
}

/** Runs `work` in a span of its own; attributes must be bounded and free of payloads. Costs next to nothing while telemetry is off. */
export function inSpan<T>(
  name: string,
  attributes: Attributes,
  work: () => Promise<T>,
): Promise<T> {
  return trace.getTracer('grantscope').startActiveSpan(name, { attributes }, async (span) => {
    try {
      return await work();
    } catch (error) {
      span.setStatus({ code: SpanStatusCode.ERROR });
      throw error;
    } finally {
      span.end();
    }
  });
}
