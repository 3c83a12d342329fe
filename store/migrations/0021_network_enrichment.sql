-- What databases of networks say about an address (model/auth_event.ts). The ledger needs none of it, and its view must
-- stay as it is: a changed view would not recognise the replay of a segment that it has seen.
ALTER TABLE grantscope.auth_events
  ADD COLUMN IF NOT EXISTS net_asn UInt32 AFTER net_network,
  ADD COLUMN IF NOT EXISTS net_as_org LowCardinality(String) AFTER net_asn,
  ADD COLUMN IF NOT EXISTS net_latitude Nullable(Float32) AFTER net_country,
  ADD COLUMN IF NOT EXISTS net_longitude Nullable(Float32) AFTER net_latitude,
  ADD COLUMN IF NOT EXISTS net_flags Array(LowCardinality(String)) AFTER net_longitude;
