#!/bin/bash
# Runs once, when the database is made: a user for dashboards that can read Grantscope's tables and do nothing else.
set -euo pipefail
hash=$(printf '%s' "$(cat /run/secrets/clickhouse_reader_password)" | sha256sum | cut -d ' ' -f 1)
clickhouse client --user "$CLICKHOUSE_USER" --password "$(cat /run/secrets/clickhouse_password)" --multiquery --query "
  CREATE USER IF NOT EXISTS grafana IDENTIFIED WITH sha256_hash BY '$hash'
    SETTINGS readonly = 2, max_execution_time = 30, max_memory_usage = 4000000000;
  GRANT SELECT ON grantscope.* TO grafana;
"
