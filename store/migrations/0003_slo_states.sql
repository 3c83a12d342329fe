-- The last computed state of every SLO: written by alerts, read by the API and the console.
CREATE TABLE IF NOT EXISTS grantscope.slo_states
(
  tenant LowCardinality(String),
  slo_id LowCardinality(String),
  title LowCardinality(String),
  description String,
  owner LowCardinality(String),
  runbook LowCardinality(String),
  objective Float64,
  window LowCardinality(String),
  -- met | breached | unmeasured | no_traffic
  state LowCardinality(String),
  good UInt64,
  bad UInt64,
  excluded UInt64,
  -- 1 = untouched, 0 = spent, negative = overspent; null where unmeasured.
  budget_remaining Nullable(Float64),
  coverage Float64,
  watermark DateTime64(3, 'UTC'),
  -- Burn rate per window, e.g. '1h' -> 14.4; a window without traffic is absent.
  burn_rates Map(String, Float64),
  good_by_window Map(String, UInt64),
  bad_by_window Map(String, UInt64),
  shadow Bool,
  computed_at DateTime64(3, 'UTC')
)
ENGINE = ReplacingMergeTree(computed_at)
ORDER BY (tenant, slo_id);
