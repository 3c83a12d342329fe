-- What was told to whom by `response` of grantscope.yaml: one row per step of a finding and receiver. An audit trail, and
-- what keeps a restart from telling anything twice or not at all.
CREATE TABLE IF NOT EXISTS grantscope.deliveries
(
  tenant LowCardinality(String),
  -- ocsf/<id> | caep/<id>/<event>
  sink LowCardinality(String),
  finding_id UUID,
  change_no UInt32,
  -- delivered | refused | skipped (nothing to tell) | retrying
  status LowCardinality(String),
  -- jti of a SET, metadata.uid of an OCSF event: the same for every attempt.
  delivery_id UUID,
  subject_ref UUID,
  -- Risk level that a risk-level-change told.
  level LowCardinality(String),
  attempts UInt32,
  -- What the last attempt ended with: an HTTP status or a code; '' where delivered.
  error LowCardinality(String),
  attempted_at DateTime64(3, 'UTC'),
  version UInt64
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (tenant, sink, finding_id, change_no)
SETTINGS non_replicated_deduplication_window = 1000;

-- Everything that changed before `handled_to` has been dealt with.
CREATE TABLE IF NOT EXISTS grantscope.delivery_cursors
(
  tenant LowCardinality(String),
  sink LowCardinality(String),
  handled_to DateTime64(3, 'UTC')
)
ENGINE = ReplacingMergeTree(handled_to)
ORDER BY (tenant, sink)
SETTINGS non_replicated_deduplication_window = 1000;
