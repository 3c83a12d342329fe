import type { BoardAnnotation, PanelQuery } from '../../model/define_board.ts';

/** The first condition of every query of a table with tenants. */
export const TENANT = 'tenant = ${tenant:sqlstring}';

/** Outcomes by minute: what panels over days read, instead of every event. */
export const MINUTES = `FROM grantscope.outcome_minutes
WHERE ${TENANT} AND $__timeFilter(minute)`;

export const TOKEN_REQUEST_KINDS =
  "kind IN ('token_issued', 'token_refreshed', 'token_exchanged', 'token_request_failed')";
/** Outcomes of requests to the token endpoint. */
export const TOKEN_REQUESTS = `${MINUTES} AND ${TOKEN_REQUEST_KINDS}`;

/** Events in the time range. Name kinds as well: the table is ordered by tenant and kind. */
export const EVENTS = `FROM grantscope.auth_events
WHERE ${TENANT} AND $__timeFilter(time) AND phase != 'attempt'`;

/** The current version of every finding. */
export const FINDINGS = `FROM grantscope.findings FINAL
WHERE ${TENANT}`;

/** Most severe first. */
export const BY_SEVERITY = `indexOf(['critical', 'high', 'medium', 'low', 'info'], toString(severity))`;

/** An empty choice takes everything. */
export const CHOSEN_CLIENT = "(${client:sqlstring} = '' OR client_id = ${client:sqlstring})";

export const table = (text: string): PanelQuery => ({ language: 'sql', format: 'table', text });
export const series = (text: string): PanelQuery => ({
  language: 'sql',
  format: 'time_series',
  text,
});
/** A series over the time range. */
export const metric = (text: string, legend: string): PanelQuery => ({
  language: 'promql',
  kind: 'range',
  text,
  legend,
});

/** A service that began to tell another version of itself within the time range. */
const DEPLOYS: BoardAnnotation = {
  name: 'Deploys',
  color: 'blue',
  text: `SELECT time, concat('Deploy of ', service, ' ', version) AS title, 'first span of this version' AS text
FROM (
  SELECT ServiceName AS service, ResourceAttributes['service.version'] AS version, min(Timestamp) AS time,
    min(min(Timestamp)) OVER (PARTITION BY ServiceName) AS since
  FROM grantscope.otel_traces
  WHERE $__timeFilter(Timestamp)
  GROUP BY service, version
)
WHERE version != '' AND time > since
ORDER BY time LIMIT 100`,
};

const KEY_ROTATIONS: BoardAnnotation = {
  name: 'Key changes',
  color: 'purple',
  text: `SELECT time, replaceAll(toString(kind), '_', ' ') AS title, concat(key_store, ' ', key_kid) AS text
${EVENTS} AND kind IN ('key_created', 'key_rotated', 'key_disabled', 'key_deleted')
ORDER BY time LIMIT 100`,
};

const GRAVE_FINDINGS: BoardAnnotation = {
  name: 'Findings',
  color: 'red',
  text: `SELECT first_event_time AS time, concat(toString(severity), ': ', toString(title)) AS title, summary AS text
${FINDINGS} AND state != 'superseded' AND severity IN ('critical', 'high') AND $__timeFilter(first_event_time)
ORDER BY time LIMIT 200`,
};

/** What people look for next to a step in a curve. */
export const ANNOTATIONS: readonly BoardAnnotation[] = [DEPLOYS, KEY_ROTATIONS, GRAVE_FINDINGS];
