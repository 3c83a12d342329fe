-- What happened by minute: how often, how it ended and how long it took, for panels and SLIs over days that must not
-- read every event. Records of attempts are left out, since their outcome is told by a record of its own.
--
-- latency_bucket b holds durations in (10^((b-1)/20), 10^(b/20)] ms: 20 steps a decade, so that a quantile read from the
-- middle of its bucket is within 6 % of the true one, and counts of any two parts simply add up. 32767: no duration known.
CREATE TABLE IF NOT EXISTS grantscope.outcome_minutes
(
  tenant LowCardinality(String),
  kind LowCardinality(String),
  minute DateTime('UTC') CODEC(Delta, ZSTD(1)),
  source_id LowCardinality(String),
  issuer LowCardinality(String),
  outcome LowCardinality(String),
  grant_type LowCardinality(String),
  error_oauth_error LowCardinality(String),
  error_code LowCardinality(String),
  -- 0 where the record tells no HTTP status.
  http_status UInt16,
  latency_bucket Int16,
  events UInt64
)
ENGINE = SummingMergeTree(events)
PARTITION BY toYYYYMM(minute)
ORDER BY (tenant, kind, minute, source_id, issuer, outcome, grant_type, error_oauth_error, error_code, http_status, latency_bucket)
SETTINGS non_replicated_deduplication_window = 10000;

-- What was stored before this table was there. A repeated start begins anew.
TRUNCATE TABLE grantscope.outcome_minutes;
INSERT INTO grantscope.outcome_minutes
SELECT
  tenant, kind, toStartOfMinute(time) AS minute, source_id, issuer, outcome, grant_type, error_oauth_error, error_code, http_status,
  toInt16(if(isNull(http_duration_ms), 32767, least(ceil(log10(greatest(assumeNotNull(http_duration_ms), 0.01)) * 20), 200))) AS latency_bucket,
  count() AS events
FROM grantscope.auth_events
WHERE phase != 'attempt'
GROUP BY tenant, kind, minute, source_id, issuer, outcome, grant_type, error_oauth_error, error_code, http_status, latency_bucket
SETTINGS async_insert = 0;

CREATE MATERIALIZED VIEW IF NOT EXISTS grantscope.outcome_minutes_mv TO grantscope.outcome_minutes AS
SELECT
  tenant, kind, toStartOfMinute(time) AS minute, source_id, issuer, outcome, grant_type, error_oauth_error, error_code, http_status,
  toInt16(if(isNull(http_duration_ms), 32767, least(ceil(log10(greatest(assumeNotNull(http_duration_ms), 0.01)) * 20), 200))) AS latency_bucket,
  count() AS events
FROM grantscope.auth_events
WHERE phase != 'attempt'
GROUP BY tenant, kind, minute, source_id, issuer, outcome, grant_type, error_oauth_error, error_code, http_status, latency_bucket;
