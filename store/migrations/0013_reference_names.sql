-- Which references name the same thing: a rotation of keys gives each token, person, session and grant that is
-- seen while it is in progress a second reference (model/next_references.ts). One row per reference and name,
-- in both directions; `relation` says what `other` is to `ref`.
CREATE TABLE IF NOT EXISTS grantscope.reference_names
(
  tenant LowCardinality(String),
  ref UUID,
  relation Enum8('previous' = 1, 'next' = 2),
  other UUID,
  last_seen SimpleAggregateFunction(max, DateTime('UTC'))
)
ENGINE = AggregatingMergeTree
ORDER BY (tenant, ref, relation, other)
SETTINGS non_replicated_deduplication_window = 10000, index_granularity = 1024;

-- The engine folds the rows of a block on insert, and those of parts when it merges them.
-- Only where the redaction stage itself wrote next names: an event cannot claim it.
CREATE MATERIALIZED VIEW IF NOT EXISTS grantscope.reference_names_mv TO grantscope.reference_names AS
SELECT
  tenant,
  row.1 AS ref,
  row.2 AS relation,
  row.3 AS other,
  seen AS last_seen
FROM
(
  SELECT
    tenant,
    toDateTime(time, 'UTC') AS seen,
    arrayJoin(arrayConcat(
      arrayMap(i -> (`tokens.ref`[i - 1], `tokens.ref`[i]), aliases),
      arrayMap(i -> (`tokens.family_ref`[i - 1], `tokens.family_ref`[i]), aliases),
      arrayMap(i -> (`tokens.parent_ref`[i - 1], `tokens.parent_ref`[i]), aliases),
      [
        (subject_ref, toUUIDOrZero(ext['grantscope.next.subject_ref'])),
        (actor_ref, toUUIDOrZero(ext['grantscope.next.actor_ref'])),
        (session_ref, toUUIDOrZero(ext['grantscope.next.session_ref'])),
        (grant_ref, toUUIDOrZero(ext['grantscope.next.grant_ref'])),
        (toUUIDOrZero(net_client_ip), toUUIDOrZero(ext['grantscope.next.client_ip'])),
        (toUUIDOrZero(net_network), toUUIDOrZero(ext['grantscope.next.network']))
      ]
    )) AS pair,
    arrayFilter(i -> i > 1 AND `tokens.ref_kind`[i] = 'hmac_next', arrayEnumerate(`tokens.ref_kind`)) AS aliases,
    arrayJoin([(pair.1, 'next', pair.2), (pair.2, 'previous', pair.1)]) AS row
  FROM
  (
    -- On its own, so that outside of a rotation one small column is read and nothing else is computed.
    SELECT
      tenant, time, `tokens.ref_kind`, `tokens.ref`, `tokens.family_ref`, `tokens.parent_ref`,
      subject_ref, actor_ref, session_ref, grant_ref, net_client_ip, net_network, ext
    FROM grantscope.auth_events
    WHERE has(redaction_fields, 'next_references')
  )
  WHERE pair.1 != pair.2
    AND pair.1 != toUUID('00000000-0000-0000-0000-000000000000')
    AND pair.2 != toUUID('00000000-0000-0000-0000-000000000000')
);
