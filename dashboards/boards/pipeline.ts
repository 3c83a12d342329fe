import { defineBoard } from '../../model/define_board.ts';
import { ANNOTATIONS, FINDINGS, metric, series, table, TENANT } from './_fragments.ts';

const p95 = (histogram: string): string =>
  `histogram_quantile(0.95, sum by (le) (rate(${histogram}_bucket[5m])))`;

export default defineBoard({
  id: 'pipeline',
  title: 'Grantscope pipeline',
  description: 'Does Grantscope itself receive, keep, redact and judge what the sources send?',
  tags: ['grantscope', 'oauth'],
  from: '3h',
  refresh: '30s',
  annotations: ANNOTATIONS,
  rows: [
    {
      title: 'Sources',
      panels: [
        {
          title: 'Events stored by source',
          description:
            'Events a second, by source and the time they happened. A source that falls silent is a blind spot, not a calm.',
          kind: 'timeseries',
          unit: 'short',
          stepSecondsMin: 60,
          width: 12,
          height: 8,
          queries: [
            series(`SELECT $__timeInterval(minute) AS time, source_id AS source, sum(events) / $__interval_s AS events_a_second
FROM grantscope.event_minutes
WHERE ${TENANT} AND $__timeFilter(minute)
GROUP BY time, source ORDER BY time, source`),
          ],
        },
        {
          title: 'Sources heard',
          description:
            'Green where a source was heard in the step, red where it was not: what coverage of the service levels is made of.',
          kind: 'state_timeline',
          unit: 'short',
          stepSecondsMin: 60,
          width: 12,
          height: 8,
          thresholds: [
            { value: 0, color: 'red' },
            { value: 1, color: 'green' },
          ],
          queries: [
            series(`SELECT time, source, events FROM (
  SELECT $__timeInterval(minute) AS time, source_id AS source, sum(events) AS events
  FROM grantscope.event_minutes
  WHERE ${TENANT} AND $__timeFilter(minute)
  GROUP BY time, source
  ORDER BY source, time WITH FILL FROM toStartOfInterval($__fromTime, INTERVAL $__interval_s second) TO $__toTime STEP toIntervalSecond($__interval_s)
)
WHERE source IN (SELECT source_id FROM grantscope.event_minutes WHERE ${TENANT} AND $__timeFilter(minute))
ORDER BY time, source`),
          ],
        },
        {
          title: 'Last heard',
          description: 'The newest event of every source in thirty days, whatever the time range.',
          kind: 'table',
          unit: 'short',
          width: 12,
          height: 7,
          queries: [
            table(`SELECT source_id, max(last_time) AS last_event, dateDiff('second', last_event, now64(3)) AS seconds_ago, sum(events) AS events
FROM grantscope.event_minutes
WHERE ${TENANT} AND minute >= now() - INTERVAL 30 DAY
GROUP BY source_id ORDER BY last_event, source_id`),
          ],
        },
        {
          title: 'Dead letters',
          description:
            'Refused records that wait, redacted, for a corrected adapter (grantscope dead-letters replay).',
          kind: 'table',
          unit: 'short',
          width: 12,
          height: 7,
          queries: [
            table(`SELECT source_id, reason, count() AS letters, countIf(version = 0) AS waiting, max(received_at) AS last_received
FROM grantscope.dead_letters FINAL
WHERE ${TENANT} AND $__timeFilter(received_at)
GROUP BY source_id, reason ORDER BY waiting DESC, source_id, reason LIMIT 50`),
          ],
        },
      ],
    },
    {
      title: 'Receiving',
      panels: [
        {
          title: 'Records by fate',
          description:
            'What became of received records, a second. Rejected and dead-lettered ones name their reason in the log of the collector.',
          kind: 'timeseries',
          unit: 'short',
          width: 12,
          height: 8,
          queries: [
            metric('sum by (fate) (rate(grantscope_records_settled_total[2m]))', '{{fate}}'),
          ],
        },
        {
          title: 'Refused',
          description:
            'Records rejected, by code, and requests refused because a limit was reached: senders see 4xx, 429 or 503.',
          kind: 'timeseries',
          unit: 'short',
          width: 12,
          height: 8,
          queries: [
            metric(
              'sum by (code) (rate(grantscope_records_rejected_total[5m]))',
              'record: {{code}}',
            ),
            metric(
              'sum by (limit) (rate(grantscope_requests_limited_total[5m]))',
              'request: {{limit}}',
            ),
          ],
        },
        {
          title: 'Time to acknowledge, P95',
          description:
            'From the headers of a request to its answer, fsync included. Above 50 ms senders begin to queue.',
          kind: 'timeseries',
          unit: 's',
          width: 8,
          height: 8,
          thresholds: [{ value: 0.05, color: 'orange' }],
          queries: [metric(p95('grantscope_request_seconds'), 'P95')],
        },
        {
          title: 'Fields redacted',
          description:
            'Fields hashed, scrubbed or dropped, a second, by source. None from a source that had some is a change of its format.',
          kind: 'timeseries',
          unit: 'short',
          width: 8,
          height: 8,
          queries: [
            metric('sum by (source) (rate(grantscope_fields_redacted_total[5m]))', '{{source}}'),
          ],
        },
        {
          title: 'Durable buffer',
          description:
            'Bytes that wait for the store. It fills while the store is away; when it is full, senders are told to come back.',
          kind: 'timeseries',
          unit: 'bytes',
          width: 8,
          height: 8,
          queries: [metric('sum by (job) (grantscope_spool_bytes)', '{{job}}')],
        },
      ],
    },
    {
      title: 'Storing and judging',
      panels: [
        {
          title: 'Ingest lag',
          description:
            'Age of the oldest acknowledged row that the store has not taken. More than some seconds delays every finding.',
          kind: 'timeseries',
          unit: 's',
          width: 8,
          height: 8,
          queries: [metric('max(grantscope_ingest_lag_seconds)', 'lag')],
        },
        {
          title: 'Detector lag',
          description: 'How far the slowest rules are behind the newest insert.',
          kind: 'timeseries',
          unit: 's',
          width: 8,
          height: 8,
          queries: [metric('topk(5, max by (rule) (grantscope_detector_lag_seconds))', '{{rule}}')],
        },
        {
          title: 'Detection latency',
          description:
            'From the last event of a finding to the finding: median and slowest of the step. Findings that wait for an absence have that wait in it.',
          kind: 'timeseries',
          unit: 's',
          width: 8,
          height: 8,
          queries: [
            series(`SELECT $__timeInterval(detected_at) AS time,
  quantileExact(0.5)(dateDiff('millisecond', last_event_time, detected_at)) / 1000 AS median,
  max(dateDiff('millisecond', last_event_time, detected_at)) / 1000 AS slowest
${FINDINGS} AND $__timeFilter(detected_at) AND last_event_time <= detected_at
GROUP BY time ORDER BY time`),
          ],
        },
        {
          title: 'API latency, P95',
          description: 'Time in which requests to the API and the console are answered.',
          kind: 'timeseries',
          unit: 's',
          width: 12,
          height: 8,
          queries: [metric(p95('grantscope_api_request_duration_seconds'), 'P95')],
        },
        {
          title: 'Inserts into the store, P95',
          description: 'Duration of an insert of one segment into one table.',
          kind: 'timeseries',
          unit: 's',
          width: 12,
          height: 8,
          queries: [metric(p95('grantscope_writer_insert_seconds'), 'P95')],
        },
      ],
    },
  ],
});
