import { BURN_TIERS } from '../../model/define_slo.ts';
import { defineBoard } from '../../model/define_board.ts';
import {
  ANNOTATIONS,
  EVENTS,
  metric,
  MINUTES,
  series,
  table,
  TENANT,
  TOKEN_REQUEST_KINDS,
  TOKEN_REQUESTS,
} from './_fragments.ts';

const INTROSPECTIONS = `${MINUTES} AND kind = 'token_introspected'`;
/** Of requests whose duration is known. */
const DURATION_KNOWN = 'latency_bucket != 32767';
/** Upper bounds of the columns of the distribution, ms; the buckets are cut where 20 a decade fall. */
const LATENCY_COLUMNS = [10, 25, 50, 100, 200, 500, 1_000];
const FAILED_REFRESHES = `FROM grantscope.auth_events
WHERE ${TENANT} AND $__timeFilter(time) AND phase != 'attempt'
  AND ((kind = 'token_request_failed' AND grant_type = 'refresh_token') OR kind = 'token_reuse_detected')`;

function latencyColumns(): string {
  const bucketOf = (ms: number): number => Math.round(Math.log10(ms) * 20);
  const columns = LATENCY_COLUMNS.map((ms, i) => {
    const above = LATENCY_COLUMNS[i - 1];
    const from = above === undefined ? '' : `latency_bucket > ${bucketOf(above)} AND `;
    return `sumIf(events, ${from}latency_bucket <= ${bucketOf(ms)}) AS \`${ms}\``;
  });
  const last = bucketOf(LATENCY_COLUMNS.at(-1) ?? 0);
  return [...columns, `sumIf(events, latency_bucket > ${last}) AS \`inf\``].join(',\n  ');
}

const fast = BURN_TIERS[0]?.factor ?? 0;
const medium = BURN_TIERS[1]?.factor ?? 0;

export default defineBoard({
  id: 'on_call',
  title: 'Grantscope on call',
  description: 'Is the authorization server serving its clients, and if not, whom does it fail?',
  tags: ['grantscope', 'oauth'],
  from: '6h',
  refresh: '30s',
  annotations: ANNOTATIONS,
  rows: [
    {
      title: 'Alerts and budgets',
      panels: [
        {
          title: 'Firing alerts',
          description:
            'What fires in Prometheus now, but for the watchdog. Each has a runbook; open it from the alert.',
          kind: 'table',
          unit: 'short',
          width: 8,
          height: 7,
          queries: [
            {
              language: 'promql',
              kind: 'instant',
              legend: '',
              text: 'max by (alertname, slo, burn, severity) (ALERTS{alertstate="firing", alertname!="Watchdog"})',
            },
          ],
        },
        {
          title: 'Open findings by severity',
          description:
            'Findings of the detectors that are still open, whatever the time range. Critical and high page the SOC.',
          kind: 'table',
          unit: 'short',
          width: 8,
          height: 7,
          queries: [
            {
              language: 'sql',
              format: 'table',
              text: `SELECT severity, count() AS findings, uniqExact(rule_id) AS rules, max(last_event_time) AS last_event
FROM grantscope.findings FINAL
WHERE ${TENANT} AND state = 'open'
GROUP BY severity
ORDER BY indexOf(['critical', 'high', 'medium', 'low', 'info'], toString(severity))`,
            },
          ],
        },
        {
          title: 'Error budgets left',
          description:
            'Share of the 30-day budget that is left; below zero it is overspent. An SLO that is not measured has no value here.',
          kind: 'table',
          unit: 'short',
          width: 8,
          height: 7,
          links: { slo_id: '#/slos/' },
          queries: [
            {
              language: 'sql',
              format: 'table',
              text: `SELECT slo_id, state, round(budget_remaining * 100, 1) AS budget_left_percent, good + bad AS events
FROM grantscope.slo_states FINAL
WHERE ${TENANT}
ORDER BY slo_id`,
            },
          ],
        },
        {
          title: 'Burn rate, fast tier (1h and 5m)',
          description: `How many times too fast the budget is spent. Above ${fast} over both windows the fast tier pages after two minutes.`,
          kind: 'timeseries',
          unit: 'short',
          width: 12,
          height: 8,
          thresholds: [{ value: fast, color: 'red' }],
          queries: [
            {
              language: 'promql',
              kind: 'range',
              legend: '{{slo}} {{window}}',
              text: 'oauth_slo:burn_rate:ratio{window=~"1h|5m"}',
            },
          ],
        },
        {
          title: 'Burn rate, medium tier (6h and 30m)',
          description: `How many times too fast the budget is spent. Above ${medium} over both windows the medium tier pages after fifteen minutes.`,
          kind: 'timeseries',
          unit: 'short',
          width: 12,
          height: 8,
          thresholds: [{ value: medium, color: 'orange' }],
          queries: [
            {
              language: 'promql',
              kind: 'range',
              legend: '{{slo}} {{window}}',
              text: 'oauth_slo:burn_rate:ratio{window=~"6h|30m"}',
            },
          ],
        },
      ],
    },
    {
      title: 'Token endpoint',
      panels: [
        {
          title: 'Token endpoint error rate',
          description:
            'Share of token requests that failed, by whose fault it is: an unnamed cause counts as the server.',
          kind: 'timeseries',
          unit: 'percentunit',
          stepSecondsMin: 60,
          width: 12,
          height: 8,
          queries: [
            {
              language: 'sql',
              format: 'time_series',
              text: `SELECT $__timeInterval(minute) AS time,
  sumIf(events, kind = 'token_request_failed' AND (http_status >= 500 OR error_oauth_error IN ('', 'server_error', 'temporarily_unavailable'))) / sum(events) AS server_errors,
  sumIf(events, kind = 'token_request_failed' AND http_status < 500 AND error_oauth_error NOT IN ('', 'server_error', 'temporarily_unavailable')) / sum(events) AS client_errors
${TOKEN_REQUESTS}
GROUP BY time ORDER BY time`,
            },
          ],
        },
        {
          title: 'Tokens issued',
          description:
            'Issued, refreshed and exchanged tokens a second. A fall without errors means that clients no longer reach the server.',
          kind: 'timeseries',
          unit: 'reqps',
          stepSecondsMin: 60,
          width: 12,
          height: 8,
          queries: [
            {
              language: 'sql',
              format: 'time_series',
              text: `SELECT $__timeInterval(minute) AS time,
  sumIf(events, kind = 'token_issued') / $__interval_s AS issued,
  sumIf(events, kind = 'token_refreshed') / $__interval_s AS refreshed,
  sumIf(events, kind = 'token_exchanged') / $__interval_s AS exchanged
${TOKEN_REQUESTS} AND outcome = 'success'
GROUP BY time ORDER BY time`,
            },
          ],
        },
        {
          title: 'Token endpoint latency, P95 and P99',
          description:
            'Time that the server took to answer token requests, within 6 %. Above 200 ms people notice.',
          kind: 'timeseries',
          unit: 'ms',
          stepSecondsMin: 60,
          width: 12,
          height: 8,
          thresholds: [{ value: 200, color: 'orange' }],
          queries: [
            {
              language: 'sql',
              format: 'time_series',
              text: `SELECT $__timeInterval(minute) AS time,
  quantileExactWeighted(0.95)(pow(10, (latency_bucket - 0.5) / 20), events) AS p95,
  quantileExactWeighted(0.99)(pow(10, (latency_bucket - 0.5) / 20), events) AS p99
${TOKEN_REQUESTS} AND ${DURATION_KNOWN}
GROUP BY time ORDER BY time`,
            },
          ],
        },
        {
          title: 'Token endpoint latency, distribution',
          description:
            'Requests by latency: each column names the upper bound of its bucket in ms. Two bands mean two kinds of requests.',
          kind: 'heatmap',
          unit: 'short',
          stepSecondsMin: 60,
          width: 12,
          height: 8,
          queries: [
            {
              language: 'sql',
              format: 'time_series',
              text: `SELECT $__timeInterval(minute) AS time,
  ${latencyColumns()}
${TOKEN_REQUESTS} AND ${DURATION_KNOWN}
GROUP BY time ORDER BY time`,
            },
          ],
        },
        {
          title: 'Slowest token requests',
          description:
            'Examples of what stands above P99, slowest first. Follow the trace id to see where the time went.',
          kind: 'table',
          unit: 'short',
          width: 24,
          height: 8,
          links: {
            client_id: { board: 'debug', variable: 'client' },
            trace_id: { board: 'debug', variable: 'trace' },
          },
          queries: [
            table(`SELECT http_duration_ms AS duration_ms, time, client_id, kind, grant_type, http_status, issuer, corr_trace_id AS trace_id
${EVENTS} AND ${TOKEN_REQUEST_KINDS} AND isNotNull(http_duration_ms)
ORDER BY http_duration_ms DESC, time DESC, event_id LIMIT 20`),
          ],
        },
      ],
    },
    {
      title: 'Whom it concerns',
      panels: [
        {
          title: 'Recent failed refreshes',
          description:
            'The newest refresh requests that failed. invalid_grant for one client alone is often a client that presents an old token.',
          kind: 'table',
          unit: 'short',
          width: 14,
          height: 9,
          links: {
            client_id: { board: 'debug', variable: 'client' },
            trace_id: { board: 'debug', variable: 'trace' },
          },
          queries: [
            {
              language: 'sql',
              format: 'table',
              text: `SELECT time, client_id, kind, error_oauth_error, error_code, http_status, net_network, issuer, corr_trace_id AS trace_id
${FAILED_REFRESHES}
ORDER BY time DESC LIMIT 50`,
            },
          ],
        },
        {
          title: 'Clients with most failed refreshes',
          description:
            'Which clients fail, and with what share of their refreshes. One at the top is that client; all of them is the server.',
          kind: 'table',
          unit: 'short',
          width: 10,
          height: 9,
          links: { client_id: '#/investigations/client/' },
          queries: [
            {
              language: 'sql',
              format: 'table',
              text: `SELECT client_id, count() AS failures, topK(1)(error_oauth_error)[1] AS most_common_error, max(time) AS last_failure
${FAILED_REFRESHES}
GROUP BY client_id ORDER BY failures DESC, client_id LIMIT 20`,
            },
          ],
        },
        {
          title: 'Introspection error rate',
          description:
            'Share of introspection calls that failed (5xx or an error). While it is high, resource servers refuse valid tokens.',
          kind: 'timeseries',
          unit: 'percentunit',
          stepSecondsMin: 60,
          width: 12,
          height: 8,
          queries: [
            {
              language: 'sql',
              format: 'time_series',
              text: `SELECT $__timeInterval(minute) AS time,
  sumIf(events, outcome = 'failure' OR http_status >= 500) / sum(events) AS errors
${INTROSPECTIONS}
GROUP BY time ORDER BY time`,
            },
          ],
        },
        {
          title: 'Calls refused by resource servers',
          description:
            'Tokens that resource servers and gateways rejected, by reason: expired is normal, invalid_signature after a key rotation is not.',
          kind: 'timeseries',
          unit: 'short',
          stepSecondsMin: 60,
          width: 12,
          height: 8,
          queries: [
            {
              language: 'sql',
              format: 'time_series',
              text: `SELECT $__timeInterval(minute) AS time,
  sumIf(events, error_code = 'expired') AS expired,
  sumIf(events, error_code = 'revoked') AS revoked,
  sumIf(events, error_code = 'invalid_signature') AS invalid_signature,
  sumIf(events, error_code NOT IN ('expired', 'revoked', 'invalid_signature')) AS other
${MINUTES} AND kind = 'token_rejected'
GROUP BY time ORDER BY time`,
            },
          ],
        },
        {
          title: 'Failing APIs',
          description:
            'Share of calls behind gateways and resource servers that ended with 5xx. High here and calm above: the fault is behind the tokens.',
          kind: 'timeseries',
          unit: 'percentunit',
          stepSecondsMin: 60,
          width: 8,
          height: 8,
          queries: [
            series(`SELECT $__timeInterval(minute) AS time, sumIf(events, http_status >= 500) / sum(events) AS errors
${MINUTES} AND kind = 'api_accessed'
GROUP BY time ORDER BY time`),
          ],
        },
        {
          title: 'CPU',
          description:
            'CPU seconds a second of every process that Prometheus scrapes, by job: 1 is one core. Add the authorization server to its scrape list to see it here.',
          kind: 'timeseries',
          unit: 'short',
          width: 8,
          height: 8,
          queries: [metric('sum by (job) (rate(process_cpu_seconds_total[2m]))', '{{job}}')],
        },
        {
          title: 'Memory',
          description: 'Resident memory of every process that Prometheus scrapes, by job.',
          kind: 'timeseries',
          unit: 'bytes',
          width: 8,
          height: 8,
          queries: [metric('sum by (job) (process_resident_memory_bytes)', '{{job}}')],
        },
      ],
    },
  ],
});
