#!/bin/sh
# Reads the database password from its file, so that it is in no compose file and no image, then becomes Grantscope.
set -eu
if [ -r /run/secrets/clickhouse_password ]; then
  CLICKHOUSE_PASSWORD=$(cat /run/secrets/clickhouse_password)
  export CLICKHOUSE_PASSWORD
fi
# glibc: large buffers go back to the kernel when they are freed, and two heaps serve all threads. Left to itself it raises the size from which
# that holds with every buffer it frees, and holes between buffers grow by some megabytes a minute of load.
export MALLOC_ARENA_MAX="${MALLOC_ARENA_MAX:-2}" MALLOC_MMAP_THRESHOLD_="${MALLOC_MMAP_THRESHOLD_:-131072}"
exec node --max-semi-space-size=64 /app/dist/cli/main.js "$@"
