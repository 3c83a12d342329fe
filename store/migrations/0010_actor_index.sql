-- An investigation of a subject also finds what others did in its name (RFC 8693 `act`).
ALTER TABLE grantscope.auth_events ADD INDEX IF NOT EXISTS actor_bloom actor_ref TYPE bloom_filter(0.01) GRANULARITY 4;
