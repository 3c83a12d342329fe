-- Records that an adapter refused, redacted, until they are replayed or grow old (retention.dead_letters_days).
-- The same letter may arrive again (a resend beyond the request window) and is marked once it is replayed: the
-- highest version of (tenant, source_id, letter_id) counts, so readers use FINAL.
CREATE TABLE IF NOT EXISTS grantscope.dead_letters
(
  letter_id UUID,
  tenant LowCardinality(String),
  source_id LowCardinality(String),
  received_at DateTime64(9, 'UTC') CODEC(Delta, ZSTD(1)),
  -- One of the reject codes of single records, and the text that the sender was told.
  reason LowCardinality(String),
  message String CODEC(ZSTD(1)),
  -- `json` or `text`.
  form LowCardinality(String),
  record String CODEC(ZSTD(3)),
  -- What event ids are made of where the record has none of its own.
  content_seed String CODEC(ZSTD(1)),
  -- The key that made the references in `record`.
  key_id LowCardinality(String),
  -- Values replaced by references or scrubbed.
  redactions UInt32,
  -- 0: waiting. 1: replayed.
  version UInt8,
  replayed_at DateTime64(9, 'UTC'),
  replayed_events UInt32
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (tenant, source_id, letter_id)
TTL toDateTime(received_at) + INTERVAL 30 DAY DELETE
SETTINGS non_replicated_deduplication_window = 10000;
