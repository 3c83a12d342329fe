import { defineBoard } from '../../model/define_board.ts';
import { ANNOTATIONS, CHOSEN_CLIENT, EVENTS, series, table, TENANT } from './_fragments.ts';

const FAILED = `kind IN ('authorization_failed', 'token_request_failed', 'token_rejected', 'login_failed')`;
const VALIDATIONS = `kind IN ('token_validated', 'token_rejected', 'token_introspected')`;
/** The chosen trace, or that of the newest failure of the chosen client. */
const TRACE = `if(\${trace:sqlstring} != '', \${trace:sqlstring}, (
  SELECT corr_trace_id
  ${EVENTS} AND ${FAILED} AND corr_trace_id != '' AND ${CHOSEN_CLIENT}
  ORDER BY time DESC LIMIT 1
))`;
const DATASTORE = `if(SpanAttributes['db.system.name'] != '', SpanAttributes['db.system.name'], SpanAttributes['db.system'])`;

export default defineBoard({
  id: 'debug',
  title: 'Grantscope debug',
  description: 'Where does one flow, one client or one token break?',
  tags: ['grantscope', 'oauth'],
  from: '1h',
  refresh: '1m',
  variables: ['client', 'trace'],
  annotations: ANNOTATIONS,
  rows: [
    {
      title: 'One flow',
      panels: [
        {
          title: 'Trace of a failing flow',
          description:
            'Spans of the trace that is chosen above; without a choice, of the newest failure that has a trace.',
          kind: 'traces',
          unit: 'ms',
          width: 12,
          height: 10,
          queries: [
            {
              language: 'sql',
              format: 'traces',
              text: `SELECT TraceId AS traceID, SpanId AS spanID, ParentSpanId AS parentSpanID, ServiceName AS serviceName, SpanName AS operationName,
  toUnixTimestamp64Milli(Timestamp) AS startTime, Duration / 1000000 AS duration, StatusCode AS statusCode
FROM grantscope.otel_traces
WHERE TraceId != '' AND TraceId = ${TRACE}
ORDER BY Timestamp, spanID LIMIT 500`,
            },
          ],
        },
        {
          title: 'Events of the flow',
          description:
            'Auth events of the same trace, from every source that tells its trace id: where the last green one is, the flow broke.',
          kind: 'table',
          unit: 'short',
          width: 12,
          height: 10,
          links: { client_id: '#/investigations/client/', event_id: '#/events/' },
          queries: [
            table(`SELECT time, kind, outcome, client_id, error_oauth_error, error_code, http_status, source_id, event_id
FROM grantscope.auth_events
WHERE ${TENANT} AND corr_trace_id != '' AND corr_trace_id = ${TRACE}
ORDER BY time, event_id LIMIT 200`),
          ],
        },
        {
          title: 'Recent failures',
          description:
            'The newest failed requests, logins and validations. Follow the trace id to its spans and events.',
          kind: 'table',
          unit: 'short',
          width: 24,
          height: 9,
          links: {
            client_id: { board: 'debug', variable: 'client' },
            trace_id: { board: 'debug', variable: 'trace' },
          },
          queries: [
            table(`SELECT time, client_id, kind, error_oauth_error, error_code, http_status, endpoint, corr_trace_id AS trace_id
${EVENTS} AND ${FAILED} AND ${CHOSEN_CLIENT}
ORDER BY time DESC, event_id LIMIT 50`),
          ],
        },
      ],
    },
    {
      title: 'Validation',
      panels: [
        {
          title: 'Validation log',
          description:
            'What resource servers, gateways and introspection said about tokens, newest first.',
          kind: 'logs',
          unit: 'short',
          width: 14,
          height: 10,
          queries: [
            {
              language: 'sql',
              format: 'logs',
              text: `SELECT time AS timestamp, if(outcome = 'success', 'info', 'error') AS level,
  concat(kind, ' ', outcome, if(error_code = '', '', concat(' ', error_code)), if(http_route = '', '', concat(' ', http_method, ' ', http_route))) AS body,
  client_id, source_instance
${EVENTS} AND ${VALIDATIONS} AND ${CHOSEN_CLIENT}
ORDER BY time DESC, event_id LIMIT 100`,
            },
          ],
        },
        {
          title: 'Where validations look',
          description:
            'Share of validations that the cache answered, of those that say where they looked, and share that fell back to introspection. A falling cache share loads the authorization server.',
          kind: 'timeseries',
          unit: 'percentunit',
          stepSecondsMin: 60,
          width: 10,
          height: 10,
          queries: [
            series(`SELECT $__timeInterval(time) AS time,
  countIf(mode = 'cache') / count() AS cache_hits,
  countIf(mode IN ('introspection', 'fallback')) / count() AS introspections
FROM (
  SELECT time, ext['validation_mode'] AS mode
  ${EVENTS} AND kind IN ('token_validated', 'token_rejected') AND ${CHOSEN_CLIENT}
)
WHERE mode != ''
GROUP BY time ORDER BY time`),
          ],
        },
      ],
    },
    {
      title: 'Unusual',
      panels: [
        {
          title: 'Refused authorization requests',
          description:
            'By client and redirect URI. A URI on another host than its neighbours is an attack or a deploy that forgot to register it.',
          kind: 'table',
          unit: 'short',
          width: 14,
          height: 9,
          links: { client_id: '#/investigations/client/' },
          queries: [
            table(`SELECT client_id, redirect_uri, topK(1)(error_oauth_error)[1] AS most_common_error, count() AS refused, uniqExact(net_network) AS networks, max(time) AS last_time
${EVENTS} AND kind = 'authorization_failed' AND ${CHOSEN_CLIENT}
GROUP BY client_id, redirect_uri ORDER BY refused DESC, client_id, redirect_uri LIMIT 50`),
          ],
        },
        {
          title: 'Clients that fail most',
          description:
            'Failures by client, with how many networks and kinds of errors they come from: one network is a deployment, many are a population or an attack.',
          kind: 'table',
          unit: 'short',
          width: 10,
          height: 9,
          links: { client_id: { board: 'debug', variable: 'client' } },
          queries: [
            table(`SELECT client_id, count() AS failures, uniqExact(net_network) AS networks, uniqExact(kind, error_oauth_error, error_code) AS kinds_of_errors, max(time) AS last_time
${EVENTS} AND ${FAILED} AND ${CHOSEN_CLIENT}
GROUP BY client_id ORDER BY failures DESC, client_id LIMIT 30`),
          ],
        },
      ],
    },
    {
      title: 'Behind the authorization server',
      panels: [
        {
          title: 'Latency of datastores',
          description:
            'Median and 95th percentile of spans that call a database, of all services. A slow store shows here before it shows at the token endpoint.',
          kind: 'timeseries',
          unit: 'ms',
          width: 12,
          height: 8,
          queries: [
            series(`SELECT $__timeInterval(Timestamp) AS time, quantile(0.5)(Duration) / 1000000 AS p50, quantile(0.95)(Duration) / 1000000 AS p95
FROM grantscope.otel_traces
WHERE $__timeFilter(Timestamp) AND SpanKind IN ('Client', 'SPAN_KIND_CLIENT', 'CLIENT') AND ${DATASTORE} != ''
GROUP BY time ORDER BY time`),
          ],
        },
        {
          title: 'Signing keys in use',
          description:
            'Which keys tokens are signed with. During a rotation two keys overlap; a key that only one instance uses afterwards has drifted.',
          kind: 'table',
          unit: 'short',
          width: 12,
          height: 8,
          queries: [
            table(`SELECT kid, any(alg) AS alg, count() AS tokens, uniqExact(instance) AS instances, min(at) AS first_time, max(at) AS last_time
FROM (
  SELECT arrayJoin(arrayZip(\`tokens.kid\`, \`tokens.alg\`)) AS token, token.1 AS kid, token.2 AS alg, source_instance AS instance, time AS at
  ${EVENTS} AND kind IN ('token_issued', 'token_refreshed', 'token_exchanged') AND ${CHOSEN_CLIENT}
)
WHERE kid != ''
GROUP BY kid ORDER BY tokens DESC, kid LIMIT 30`),
          ],
        },
      ],
    },
  ],
});
