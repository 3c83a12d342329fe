/**
 * The one door to the OpenTelemetry SDK. `@opentelemetry/sdk-node` is the SDK that this package depends
 * on, and its `tracing` and `core` namespaces give the pieces of exactly the version it was built with;
 * importing `sdk-trace` beside it could bring a second copy.
 */
export { core, node, resources, tracing } from '@opentelemetry/sdk-node';
