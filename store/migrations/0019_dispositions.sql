-- What analysts concluded about findings: append-only, so that a changed mind shows. The last one of a finding counts.
CREATE TABLE IF NOT EXISTS grantscope.dispositions
(
  tenant LowCardinality(String),
  disposition_id UUID,
  finding_id UUID,
  rule_id LowCardinality(String),
  rule_version UInt16,
  verdict LowCardinality(String),
  severity LowCardinality(String),
  -- true_positive | benign_positive | false_positive
  disposition LowCardinality(String),
  author String,
  note String,
  decided_at DateTime64(3, 'UTC')
)
ENGINE = MergeTree
ORDER BY (tenant, finding_id, decided_at, disposition_id)
SETTINGS non_replicated_deduplication_window = 1000;
