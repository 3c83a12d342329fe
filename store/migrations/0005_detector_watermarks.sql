-- How far each detector has read, in ingest time: everything up to `swept_to` has been evaluated for good.
-- A new version of a rule starts anew.
CREATE TABLE IF NOT EXISTS grantscope.detector_watermarks
(
  tenant LowCardinality(String),
  rule_id LowCardinality(String),
  rule_version UInt16,
  swept_to DateTime64(6, 'UTC'),
  updated_at DateTime64(3, 'UTC')
)
ENGINE = ReplacingMergeTree(updated_at)
ORDER BY (tenant, rule_id, rule_version);
