-- What was sent to Alertmanager, newest version per alert: a restart neither forgets to resolve an alert
-- nor announces it as new. One row is one label set, which is what Alertmanager knows an alert by.
CREATE TABLE IF NOT EXISTS grantscope.notifications
(
  tenant LowCardinality(String),
  -- Hash of the labels.
  alert_key UUID,
  -- detection | slo
  kind LowCardinality(String),
  alertname LowCardinality(String),
  labels Map(LowCardinality(String), String),
  annotations Map(LowCardinality(String), String),
  finding_ids Array(UUID),
  -- firing | resolved
  state LowCardinality(String),
  starts_at DateTime64(3, 'UTC'),
  first_sent_at DateTime64(3, 'UTC'),
  -- The nil time (1970) while it fires.
  resolved_at DateTime64(3, 'UTC'),
  updated_at DateTime64(3, 'UTC'),
  version UInt64
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (tenant, alert_key)
SETTINGS non_replicated_deduplication_window = 1000;
