/**
 * What an authorization server, a gateway or a resource server installs to send redacted auth telemetry
 * over OpenTelemetry. See docs/instrumentation.md.
 */
export {
  EXPORT_INTERVAL_MS,
  EXPORT_TIMEOUT_MS,
  FLUSH_TIMEOUT_MS,
  SPAN_BATCH_LENGTH_MAX,
  SPAN_QUEUE_LENGTH_MAX,
  startTelemetry,
  type Telemetry,
  type TelemetryOptions,
} from './telemetry.ts';
export type { ExportStatistics } from './counting_exporter.ts';
export { AuthRecorder, contextOf, type OpenEvent, type RecordOptions } from './recorder.ts';
export type {
  RecordedAuthEvent,
  RecordedId,
  RecordedToken,
  RecordedTokenName,
} from './recorded_event.ts';
export { RedactingSpanProcessor } from './redacting_span_processor.ts';
export { instrumentOidcProvider, type OidcProviderOptions } from './oidc_provider.ts';
export type { ProviderLike } from './oidc_provider_types.ts';
export type { HttpOptions } from './http_facts.ts';
export {
  GRANT_TYPES,
  type TokenCall,
  type TokenCallFacts,
  type TokenFailure,
  type TokenSuccess,
} from './token_endpoint_events.ts';
export {
  acceptedToken,
  currentTraceparent,
  gatewayMiddleware,
  resourceServerMiddleware,
  type GatewayOptions,
  type Handler,
  type ResourceServerOptions,
} from './express.ts';
export {
  expressAuthorizationServer,
  type ExpressAuthorizationServer,
  type ExpressAuthorizationServerOptions,
} from './express_authorization_server.ts';
export {
  REJECTION_CODES,
  rejectionOf,
  validationOf,
  type AcceptedToken,
  type RefusedToken,
  type RejectionCode,
  type Validation,
} from './validation.ts';
