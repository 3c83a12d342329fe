-- Findings, newest version per id. Column names follow model/finding.ts; `evidence` is JSON text.
CREATE TABLE IF NOT EXISTS grantscope.findings
(
  finding_id UUID,
  tenant LowCardinality(String),
  rule_id LowCardinality(String),
  rule_version UInt16,
  title LowCardinality(String),
  family LowCardinality(String),
  severity LowCardinality(String),
  confidence UInt8,
  risk UInt8,
  entity_type LowCardinality(String),
  entity_ref String,
  episode String,
  verdict LowCardinality(String),
  state LowCardinality(String),
  summary String,
  reasons Array(String),
  evidence String CODEC(ZSTD(1)),
  event_ids Array(UUID),
  token_refs Array(UUID),
  client_id LowCardinality(String),
  subject_ref UUID,
  issuer LowCardinality(String),
  networks Array(String),
  first_event_time DateTime64(3, 'UTC'),
  last_event_time DateTime64(3, 'UTC'),
  references Array(LowCardinality(String)),
  runbook LowCardinality(String),
  detected_at DateTime64(3, 'UTC'),
  updated_at DateTime64(3, 'UTC'),
  -- Grows with every write of the same finding.
  version UInt64,
  INDEX rule_set rule_id TYPE set(100) GRANULARITY 1,
  INDEX entity_bloom entity_ref TYPE bloom_filter(0.01) GRANULARITY 1,
  INDEX token_bloom token_refs TYPE bloom_filter(0.01) GRANULARITY 1
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (tenant, finding_id)
SETTINGS non_replicated_deduplication_window = 1000;
