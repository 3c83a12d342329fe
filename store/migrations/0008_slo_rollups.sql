-- SLI counts per event-time minute: a late event lands in its own minute and corrects history.
-- `excluded` are client errors, `unclassified` is what no filter of the SLO names; neither is in the ratio.
CREATE TABLE IF NOT EXISTS grantscope.slo_minutes
(
  tenant LowCardinality(String),
  slo_id LowCardinality(String),
  minute DateTime('UTC') CODEC(Delta, ZSTD(1)),
  source_id LowCardinality(String),
  issuer LowCardinality(String),
  grant_type LowCardinality(String),
  good UInt64,
  bad UInt64,
  excluded UInt64,
  unclassified UInt64
)
ENGINE = SummingMergeTree((good, bad, excluded, unclassified))
PARTITION BY toYYYYMM(minute)
ORDER BY (tenant, slo_id, minute, source_id, issuer, grant_type)
-- A segment that is inserted again must not be counted again.
SETTINGS non_replicated_deduplication_window = 10000;

-- Which minutes each source was heard in, and how far its clock has come: watermark and coverage.
CREATE TABLE IF NOT EXISTS grantscope.event_minutes
(
  tenant LowCardinality(String),
  source_id LowCardinality(String),
  minute DateTime('UTC') CODEC(Delta, ZSTD(1)),
  last_time SimpleAggregateFunction(max, DateTime64(3, 'UTC')),
  events SimpleAggregateFunction(sum, UInt64),
  -- 1 where an event of the minute arrived within an hour: a live feed, not an import of old logs.
  is_live SimpleAggregateFunction(max, UInt8)
)
ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMM(minute)
ORDER BY (tenant, source_id, minute)
SETTINGS non_replicated_deduplication_window = 10000;

-- A clock that runs ahead must not carry the watermark into the future: no event counts as later than
-- its arrival.
CREATE MATERIALIZED VIEW IF NOT EXISTS grantscope.event_minutes_mv TO grantscope.event_minutes AS
SELECT
  tenant,
  source_id,
  toStartOfMinute(least(time, inserted_at)) AS minute,
  max(toDateTime64(least(time, inserted_at), 3, 'UTC')) AS last_time,
  count() AS events,
  max(inserted_at <= time + INTERVAL 1 HOUR) AS is_live
FROM grantscope.auth_events
GROUP BY tenant, source_id, minute;

-- One view per SLO, as alerts/rollup_view.ts renders its definition (a test compares them).
CREATE MATERIALIZED VIEW IF NOT EXISTS grantscope.slo_token_issuance_success_mv TO grantscope.slo_minutes AS
WITH multiIf(
  ((kind IN ('token_issued', 'token_refreshed', 'token_exchanged') AND outcome IN ('success'))), 'good',
  ((kind IN ('token_request_failed') AND error_oauth_error IN ('access_denied', 'authorization_pending', 'expired_token', 'interaction_required', 'invalid_client', 'invalid_dpop_proof', 'invalid_grant', 'invalid_request', 'invalid_scope', 'invalid_target', 'login_required', 'slow_down', 'unauthorized_client', 'unsupported_grant_type', 'use_dpop_nonce') AND http_status BETWEEN 0 AND 499) OR (kind IN ('token_request_failed') AND error_oauth_error IN ('') AND http_status BETWEEN 400 AND 499)), 'excluded',
  ((kind IN ('token_request_failed')) OR (kind IN ('token_issued', 'token_refreshed', 'token_exchanged') AND outcome IN ('failure', 'denied'))), 'bad',
  'unclassified') AS class
SELECT
  tenant, 'token_issuance_success' AS slo_id, toStartOfMinute(time) AS minute, source_id, issuer, grant_type,
  countIf(class = 'good') AS good,
  countIf(class = 'bad') AS bad,
  countIf(class = 'excluded') AS excluded,
  countIf(class = 'unclassified') AS unclassified
FROM grantscope.auth_events
WHERE phase IN ('outcome', 'single') AND ((kind IN ('token_issued', 'token_refreshed', 'token_exchanged', 'token_request_failed')))
GROUP BY tenant, minute, source_id, issuer, grant_type;
