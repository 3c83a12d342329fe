-- Fewer bytes an event, at the same CPU per insert. What is random dominates: an event's id (in two tables) and its
-- tokens' references. The rest is made small by a codec per column, measured on 1.2 million events in segments of
-- 100,000 rows (`npm run bench -- disk`):
--   ZSTD instead of the default LZ4 where values are ids, addresses or many-valued names: it codes what is left by
--   frequency. ZSTD(1) is not used for arrays, whose sizes (a run of equal 64-bit numbers) it packs five times worse
--   than LZ4 or ZSTD(3) do; columns not named here are constants or small enumerations, which LZ4 packs to nothing.
--   GCD before Delta: most sources tell milliseconds, which as nanoseconds end in six zeros.
-- Changing a codec rewrites nothing: parts take the new one when they are merged.
ALTER TABLE grantscope.auth_events
  MODIFY COLUMN event_id CODEC(ZSTD(1)),
  MODIFY COLUMN time CODEC(GCD, Delta, ZSTD(1)),
  MODIFY COLUMN observed_time CODEC(GCD, Delta, ZSTD(1)),
  MODIFY COLUMN client_id CODEC(ZSTD(1)),
  MODIFY COLUMN subject_ref CODEC(ZSTD(1)),
  MODIFY COLUMN actor_ref CODEC(ZSTD(1)),
  MODIFY COLUMN `tokens.ref` CODEC(ZSTD(3)),
  MODIFY COLUMN `tokens.family_ref` CODEC(ZSTD(3)),
  MODIFY COLUMN `tokens.parent_ref` CODEC(ZSTD(3)),
  MODIFY COLUMN session_ref CODEC(ZSTD(1)),
  MODIFY COLUMN grant_ref CODEC(ZSTD(1)),
  MODIFY COLUMN net_client_ip CODEC(ZSTD(3)),
  MODIFY COLUMN net_network CODEC(ZSTD(1)),
  MODIFY COLUMN net_user_agent CODEC(ZSTD(1)),
  MODIFY COLUMN http_duration_ms CODEC(ZSTD(1)),
  MODIFY COLUMN ext CODEC(ZSTD(3));

-- The ledger without the subject: no query reads it there, and in the order of tokens it is as random as they are
-- (5 bytes a row). The view goes on selecting it, and the engine leaves out what the ledger has no column for:
-- ALTER ... MODIFY QUERY would make the ledger take a segment of before the upgrade, inserted again, for a new one.
ALTER TABLE grantscope.token_events DROP COLUMN IF EXISTS subject_ref;

-- inserted_at without Delta: in the order of tokens neighbours are of any segment, but segments are few.
ALTER TABLE grantscope.token_events
  MODIFY COLUMN token_ref CODEC(ZSTD(1)),
  MODIFY COLUMN family_ref CODEC(ZSTD(1)),
  MODIFY COLUMN parent_ref CODEC(ZSTD(1)),
  MODIFY COLUMN event_id CODEC(ZSTD(1)),
  MODIFY COLUMN time CODEC(GCD, Delta, ZSTD(1)),
  MODIFY COLUMN inserted_at CODEC(ZSTD(1)),
  MODIFY COLUMN client_id CODEC(ZSTD(1)),
  MODIFY COLUMN net_network CODEC(ZSTD(3));
