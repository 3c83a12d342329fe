-- The life of findings: what happened to each, what holds now, and what hides them.

-- Adapters whose events are behind the finding; sorted.
ALTER TABLE grantscope.findings ADD COLUMN IF NOT EXISTS sources Array(LowCardinality(String)) AFTER networks;

-- Every step in the life of every finding: an audit trail, and the queue that responses are made from. A step that is
-- written again after a crash has the same key.
CREATE TABLE IF NOT EXISTS grantscope.finding_changes
(
  tenant LowCardinality(String),
  finding_id UUID,
  change_no UInt32,
  change LowCardinality(String),
  changed_at DateTime64(3, 'UTC'),
  rule_id LowCardinality(String),
  state LowCardinality(String),
  severity LowCardinality(String),
  verdict LowCardinality(String),
  -- active | suppressed | inhibited
  treatment LowCardinality(String),
  -- suppression | finding | event | slo; '' where active
  treated_kind LowCardinality(String),
  treated_by String,
  inhibition LowCardinality(String),
  treated_owner String,
  treated_reason String,
  -- 1970 where active.
  treated_until DateTime64(3, 'UTC'),
  reopened UInt32,
  INDEX changed_minmax changed_at TYPE minmax GRANULARITY 1,
  INDEX treated_bloom treated_by TYPE bloom_filter(0.01) GRANULARITY 1
)
ENGINE = ReplacingMergeTree
ORDER BY (tenant, finding_id, change_no)
SETTINGS non_replicated_deduplication_window = 1000;

-- The last step of every finding.
CREATE TABLE IF NOT EXISTS grantscope.finding_status
(
  tenant LowCardinality(String),
  finding_id UUID,
  change_no UInt32,
  change LowCardinality(String),
  changed_at DateTime64(3, 'UTC'),
  rule_id LowCardinality(String),
  state LowCardinality(String),
  severity LowCardinality(String),
  verdict LowCardinality(String),
  treatment LowCardinality(String),
  treated_kind LowCardinality(String),
  treated_by String,
  inhibition LowCardinality(String),
  treated_owner String,
  treated_reason String,
  treated_until DateTime64(3, 'UTC'),
  reopened UInt32
)
ENGINE = ReplacingMergeTree(change_no)
ORDER BY (tenant, finding_id)
SETTINGS non_replicated_deduplication_window = 1000;

-- Suppressions, newest version per id. A field of the scope that is empty stands for any.
CREATE TABLE IF NOT EXISTS grantscope.suppressions
(
  tenant LowCardinality(String),
  suppression_id UUID,
  -- api | config
  origin LowCardinality(String),
  rule_id String,
  verdict String,
  entity_type LowCardinality(String),
  entity_ref String,
  client_id String,
  networks Array(String),
  sources Array(String),
  severity_max LowCardinality(String),
  owner String,
  reason String,
  created_by String,
  created_at DateTime64(3, 'UTC'),
  expires_at DateTime64(3, 'UTC'),
  -- 1970 while nobody removed it.
  removed_at DateTime64(3, 'UTC'),
  removed_by String,
  removed_reason String,
  version UInt64
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (tenant, suppression_id)
SETTINGS non_replicated_deduplication_window = 1000;
