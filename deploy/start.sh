#!/bin/sh
# Reads the database password from its file, so that it is in no compose file and no image, then becomes Grantscope.
set -eu
if [ -r /run/secrets/clickhouse_password ]; then
  CLICKHOUSE_PASSWORD=$(cat /run/secrets/clickhouse_password)
  export CLICKHOUSE_PASSWORD
fi
exec node --max-semi-space-size=64 /app/dist/cli/main.js "$@"
