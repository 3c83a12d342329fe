/** Limits of the API. Reaching one is answered with a problem and counted by `grantscope_api_limited_total`. */

/** Kinds of routes, each with its own limit of requests. */
export type RateLimitName = 'read' | 'hash' | 'operation';

/** Requests a minute from one address, per kind of route. */
export const REQUESTS_PER_MINUTE_MAX: Readonly<Record<RateLimitName, number>> = {
  read: 3_000,
  hash: 120,
  operation: 60,
};

/** Largest request body, bytes. */
export const API_BODY_BYTES_MAX = 256 * 1_024;

/** Longest value that `POST /api/v1/hash` takes, characters. */
export const HASH_VALUE_LENGTH_MAX = 32_768;

/** Long operations that run at one time. */
export const OPERATIONS_MAX = 2;

/** Open event streams. */
export const STREAM_CLIENTS_MAX = 64;

/** Bytes that may wait for a slow reader of an event stream before it is cut off. */
export const STREAM_BUFFER_BYTES_MAX = 64 * 1_024;

/** Pause between two signs of life on an event stream, ms. */
export const STREAM_HEARTBEAT_MS = 15_000;

/** Pause between two looks at the store on behalf of event streams, ms. */
export const STREAM_POLL_MS = 5_000;

/** Open connections. */
export const CONNECTIONS_MAX = 1_000;

/** How long `stop` waits for running requests before it closes their connections, ms. */
export const STOP_GRACE_MS = 5_000;

/** Rows of one query of a panel. */
export const PANEL_ROWS_MAX = 20_000;

/** Longest time range of a panel, days. */
export const PANEL_RANGE_DAYS_MAX = 400;

/** Points that a series may be asked for. */
export const PANEL_POINTS_MAX = 1_000;

/** Series of one PromQL query of a panel. */
export const PROMETHEUS_SERIES_MAX = 50;

/** How long Prometheus may take to answer a panel, ms. */
export const PROMETHEUS_ANSWER_MS = 10_000;
