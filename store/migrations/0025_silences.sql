-- Silences of Alertmanager that were asked for here: who, why, until when. Newest version per id; the row is the request, written by the API alone.
CREATE TABLE IF NOT EXISTS grantscope.silences
(
  tenant LowCardinality(String),
  silence_id UUID,
  -- JSON: [{"name", "value", "is_regex", "is_equal"}, ...], all of which must hold.
  matchers String,
  starts_at DateTime64(3, 'UTC'),
  ends_at DateTime64(3, 'UTC'),
  created_by String,
  created_at DateTime64(3, 'UTC'),
  reason String,
  -- 1970 while nobody withdrew it.
  withdrawn_at DateTime64(3, 'UTC'),
  withdrawn_by String,
  withdrawn_reason String,
  version UInt64
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (tenant, silence_id)
SETTINGS non_replicated_deduplication_window = 1000, fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1, old_parts_lifetime = 60;

-- What Alertmanager made of them: written by alerts alone, so that the two writers never overwrite each other.
CREATE TABLE IF NOT EXISTS grantscope.silence_states
(
  tenant LowCardinality(String),
  silence_id UUID,
  -- accepted | refused | unreachable | ended (in Alertmanager, by somebody else) | withdrawn
  status LowCardinality(String),
  -- Its id there; '' where it was not accepted.
  alertmanager_id String,
  -- Why it is not in force; '' where it is.
  error String,
  -- JSON of the labels of each alert that it mutes at present.
  mutes Array(String),
  checked_at DateTime64(3, 'UTC'),
  version UInt64
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (tenant, silence_id)
SETTINGS non_replicated_deduplication_window = 1000, fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1, old_parts_lifetime = 60;
