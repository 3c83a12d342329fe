-- What Alertmanager sent to whom, as it told our webhook: one row per alert, receiver and status. A notice that is told again (a retry, or the repetition of
-- an alert that goes on) only moves last_sent_at and adds findings that joined.
CREATE TABLE IF NOT EXISTS grantscope.alert_notices
(
  tenant LowCardinality(String),
  -- Alertmanager's key of the group.
  group_key String,
  -- Alertmanager's hash of the labels.
  fingerprint LowCardinality(String),
  starts_at DateTime64(3, 'UTC'),
  receiver LowCardinality(String),
  -- firing | resolved
  status LowCardinality(String),
  alertname LowCardinality(String),
  -- detection | slo | ...: the label `kind`.
  kind LowCardinality(String),
  severity LowCardinality(String),
  slo LowCardinality(String),
  client_id String,
  summary SimpleAggregateFunction(anyLast, String),
  finding_ids SimpleAggregateFunction(groupUniqArrayArray, Array(UUID)),
  first_sent_at SimpleAggregateFunction(min, DateTime64(3, 'UTC')),
  last_sent_at SimpleAggregateFunction(max, DateTime64(3, 'UTC'))
)
ENGINE = AggregatingMergeTree
ORDER BY (tenant, fingerprint, starts_at, receiver, status, group_key, alertname, kind, severity, slo, client_id)
SETTINGS non_replicated_deduplication_window = 1000, fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1, old_parts_lifetime = 60;

-- Who withdrew a correction, and why.
ALTER TABLE grantscope.slo_corrections
  ADD COLUMN IF NOT EXISTS withdrawn_by String AFTER withdrawn_at,
  ADD COLUMN IF NOT EXISTS withdrawn_reason String AFTER withdrawn_by;
