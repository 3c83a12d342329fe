-- What service levels are split by. Each of these is bounded by how an installation is built and never by who calls it:
-- a client's id, a Host header or a requested resource is not among them.
--   service        the API that a call was for, as the API itself names it; '' for what no instrumented API tells
--   mode           how a token was validated: local, cache, introspection, fallback; '' where nobody says
--   latency_under  the lowest bound, ms, that the duration lies under (model/define_slo.ts, LATENCY_BOUNDS_MS); 65535 where
--                  it lies under none, 0 where it is not known. Exact where the buckets, whose edges are powers, are not
-- Columns are added to the sorting key, so nothing is rewritten, and the table goes on to recognise the segments it has had. What was
-- counted before this stands under the empty name.
ALTER TABLE grantscope.outcome_minutes
  ADD COLUMN IF NOT EXISTS endpoint LowCardinality(String),
  ADD COLUMN IF NOT EXISTS service LowCardinality(String),
  ADD COLUMN IF NOT EXISTS mode LowCardinality(String),
  ADD COLUMN IF NOT EXISTS subject_type LowCardinality(String),
  ADD COLUMN IF NOT EXISTS latency_under UInt16,
  MODIFY ORDER BY (tenant, kind, minute, source_id, issuer, outcome, grant_type, error_oauth_error, error_code, http_status, latency_bucket, endpoint, service, mode, subject_type, latency_under);

-- Made anew, not altered: the tokens of a view whose query was altered are others after the next start, and a segment that was inserted before it would be
-- counted twice when it comes again (test/store/replay_after_restart.test.ts).
DROP VIEW IF EXISTS grantscope.outcome_minutes_mv SYNC;

CREATE MATERIALIZED VIEW grantscope.outcome_minutes_mv TO grantscope.outcome_minutes AS
SELECT
  tenant, kind, toStartOfMinute(time) AS minute, source_id, issuer, outcome, grant_type, error_oauth_error, error_code, http_status,
  toInt16(if(isNull(http_duration_ms), 32767, least(ceil(log10(greatest(assumeNotNull(http_duration_ms), 0.01)) * 20), 200))) AS latency_bucket,
  endpoint,
  if(endpoint = 'api' AND kind IN ('api_accessed', 'token_validated', 'token_rejected'), resource[1], '') AS service,
  if(ext['validation_mode'] IN ('local', 'cache', 'introspection', 'fallback'), ext['validation_mode'], '') AS mode,
  subject_type,
  toUInt16(if(isNull(http_duration_ms), 0, arrayFirst(bound -> bound = 65535 OR http_duration_ms < bound, [10, 20, 50, 100, 200, 300, 500, 1000, 2000, 5000, 10000, 30000, 65535]))) AS latency_under,
  count() AS events
FROM grantscope.auth_events
WHERE phase != 'attempt'
GROUP BY tenant, kind, minute, source_id, issuer, outcome, grant_type, error_oauth_error, error_code, http_status, latency_bucket, endpoint, service, mode, subject_type, latency_under;

ALTER TABLE grantscope.slo_minutes
  ADD COLUMN IF NOT EXISTS service LowCardinality(String),
  ADD COLUMN IF NOT EXISTS mode LowCardinality(String),
  ADD COLUMN IF NOT EXISTS subject_type LowCardinality(String),
  MODIFY ORDER BY (tenant, slo_id, minute, source_id, issuer, grant_type, service, mode, subject_type);

-- What is judged one by one and may be judged anew when a late event arrives: a revoked token at one API, a finding. The row of a
-- unit replaces the one before it, so the count is that of the last judgement whatever was counted earlier.
CREATE TABLE IF NOT EXISTS grantscope.slo_units
(
  tenant LowCardinality(String),
  slo_id LowCardinality(String),
  unit UUID,
  minute DateTime('UTC'),
  source_id LowCardinality(String),
  issuer LowCardinality(String),
  service LowCardinality(String),
  good UInt8,
  bad UInt8,
  excluded UInt8,
  unclassified UInt8,
  -- From a revocation to the last acceptance and to the first refusal after it, ms; -1 where there was none.
  last_acceptance_ms Int64,
  first_denial_ms Int64,
  judged_at DateTime64(3, 'UTC')
)
ENGINE = ReplacingMergeTree(judged_at)
ORDER BY (tenant, slo_id, unit)
SETTINGS non_replicated_deduplication_window = 10000, fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1, old_parts_lifetime = 60;

-- Everything that service levels count, by minute: what computations and boards read.
CREATE VIEW IF NOT EXISTS grantscope.slo_counts AS
SELECT tenant, slo_id, minute, source_id, issuer, grant_type, service, mode, subject_type, good, bad, excluded, unclassified
FROM grantscope.slo_minutes
UNION ALL
SELECT
  tenant, slo_id, minute, source_id, issuer, '' AS grant_type, service, '' AS mode, '' AS subject_type,
  toUInt64(good) AS good, toUInt64(bad) AS bad, toUInt64(excluded) AS excluded, toUInt64(unclassified) AS unclassified
FROM grantscope.slo_units FINAL;

-- Minutes that are taken out of budgets, with who said so and why. `slo_id` is one service level or 'all'. A correction that was withdrawn stays
-- as a record; withdrawn_at is 1970 while it stands.
CREATE TABLE IF NOT EXISTS grantscope.slo_corrections
(
  tenant LowCardinality(String),
  correction_id UUID,
  slo_id LowCardinality(String),
  from_time DateTime('UTC'),
  to_time DateTime('UTC'),
  reason String,
  approver String,
  created_at DateTime64(3, 'UTC'),
  withdrawn_at DateTime64(3, 'UTC'),
  updated_at DateTime64(3, 'UTC')
)
ENGINE = ReplacingMergeTree(updated_at)
ORDER BY (tenant, correction_id)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1, old_parts_lifetime = 60;

ALTER TABLE grantscope.slo_states
  -- ratio | propagation | counted | indicator
  ADD COLUMN IF NOT EXISTS measure LowCardinality(String) DEFAULT 'ratio',
  ADD COLUMN IF NOT EXISTS unclassified UInt64,
  -- What corrections took out of the objective's window.
  ADD COLUMN IF NOT EXISTS corrected_events UInt64,
  ADD COLUMN IF NOT EXISTS corrected_minutes UInt32,
  -- Named figures of an indicator, and of others what stands beside the count.
  ADD COLUMN IF NOT EXISTS figures Map(String, Float64);
