-- How far a rule has looked once, in ingest time: where a restarted process goes on. The sweep may be far behind it, since
-- it takes its time over a large ledger.
ALTER TABLE grantscope.detector_watermarks ADD COLUMN IF NOT EXISTS seen_to DateTime64(6, 'UTC') DEFAULT swept_to;
