-- From a family, a parent or a grant to its tokens: the way along which the life of a token is put together. The ledger is ordered by token, so
-- that looking for a family there means looking everywhere. A row that is told again is one row, after merges; readers take them as a set.
CREATE TABLE IF NOT EXISTS grantscope.token_links
(
  tenant LowCardinality(String),
  anchor_ref UUID,
  token_ref UUID,
  last_seen SimpleAggregateFunction(max, DateTime('UTC'))
)
ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMM(last_seen)
ORDER BY (tenant, anchor_ref, token_ref)
SETTINGS non_replicated_deduplication_window = 10000, index_granularity = 1024;

-- What was stored before this table was there. A repeated start begins anew.
TRUNCATE TABLE grantscope.token_links;
INSERT INTO grantscope.token_links
SELECT tenant, anchor_ref, token_ref, toDateTime(time, 'UTC') AS last_seen
FROM
(
  SELECT
    tenant, time,
    arrayJoin(arrayConcat(
      arrayZip(`tokens.family_ref`, `tokens.ref`),
      arrayZip(`tokens.parent_ref`, `tokens.ref`),
      arrayMap(r -> (grant_ref, r), `tokens.ref`)
    )) AS link,
    link.1 AS anchor_ref,
    link.2 AS token_ref
  FROM grantscope.auth_events
  WHERE notEmpty(`tokens.ref`) AND kind NOT IN ('api_accessed', 'token_validated', 'token_rejected', 'userinfo_accessed')
)
WHERE anchor_ref != toUUID('00000000-0000-0000-0000-000000000000')
  AND token_ref != toUUID('00000000-0000-0000-0000-000000000000')
SETTINGS async_insert = 0;

CREATE MATERIALIZED VIEW IF NOT EXISTS grantscope.token_links_mv TO grantscope.token_links AS
SELECT tenant, anchor_ref, token_ref, max(toDateTime(time, 'UTC')) AS last_seen
FROM
(
  SELECT
    tenant, time,
    arrayJoin(arrayConcat(
      arrayZip(`tokens.family_ref`, `tokens.ref`),
      arrayZip(`tokens.parent_ref`, `tokens.ref`),
      arrayMap(r -> (grant_ref, r), `tokens.ref`)
    )) AS link,
    link.1 AS anchor_ref,
    link.2 AS token_ref
  FROM grantscope.auth_events
  WHERE notEmpty(`tokens.ref`) AND kind NOT IN ('api_accessed', 'token_validated', 'token_rejected', 'userinfo_accessed')
)
WHERE anchor_ref != toUUID('00000000-0000-0000-0000-000000000000')
  AND token_ref != toUUID('00000000-0000-0000-0000-000000000000')
GROUP BY tenant, anchor_ref, token_ref;
