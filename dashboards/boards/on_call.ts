import { BURN_TIERS } from '../../model/define_slo.ts';
import { defineBoard } from '../../model/define_board.ts';

const TENANT = 'tenant = ${tenant:sqlstring}';
/** Outcomes of requests to the token endpoint; records of attempts would count an action twice. */
const TOKEN_REQUESTS = `FROM grantscope.auth_events
WHERE ${TENANT} AND $__timeFilter(time) AND phase != 'attempt'
  AND kind IN ('token_issued', 'token_refreshed', 'token_exchanged', 'token_request_failed')`;
const INTROSPECTIONS = `FROM grantscope.auth_events
WHERE ${TENANT} AND $__timeFilter(time) AND phase != 'attempt' AND kind = 'token_introspected'`;
const FAILED_REFRESHES = `FROM grantscope.auth_events
WHERE ${TENANT} AND $__timeFilter(time) AND phase != 'attempt'
  AND ((kind = 'token_request_failed' AND grant_type = 'refresh_token') OR kind = 'token_reuse_detected')`;

const fast = BURN_TIERS[0]?.factor ?? 0;
const medium = BURN_TIERS[1]?.factor ?? 0;

export default defineBoard({
  id: 'on_call',
  title: 'Grantscope on call',
  description: 'Is the authorization server serving its clients, and if not, whom does it fail?',
  tags: ['grantscope', 'oauth'],
  from: '6h',
  refresh: '30s',
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
          width: 12,
          height: 8,
          queries: [
            {
              language: 'sql',
              format: 'time_series',
              text: `SELECT $__timeInterval(time) AS time,
  countIf(kind = 'token_request_failed' AND (http_status >= 500 OR error_oauth_error IN ('', 'server_error', 'temporarily_unavailable'))) / count() AS server_errors,
  countIf(kind = 'token_request_failed' AND http_status < 500 AND error_oauth_error NOT IN ('', 'server_error', 'temporarily_unavailable')) / count() AS client_errors
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
          width: 12,
          height: 8,
          queries: [
            {
              language: 'sql',
              format: 'time_series',
              text: `SELECT $__timeInterval(time) AS time,
  countIf(kind = 'token_issued') / $__interval_s AS issued,
  countIf(kind = 'token_refreshed') / $__interval_s AS refreshed,
  countIf(kind = 'token_exchanged') / $__interval_s AS exchanged
${TOKEN_REQUESTS} AND outcome = 'success'
GROUP BY time ORDER BY time`,
            },
          ],
        },
        {
          title: 'Token endpoint latency, P95 and P99',
          description:
            'Time that the server took to answer token requests. Above 200 ms people notice.',
          kind: 'timeseries',
          unit: 'ms',
          width: 12,
          height: 8,
          thresholds: [{ value: 200, color: 'orange' }],
          queries: [
            {
              language: 'sql',
              format: 'time_series',
              text: `SELECT $__timeInterval(time) AS time,
  quantile(0.95)(http_duration_ms) AS p95,
  quantile(0.99)(http_duration_ms) AS p99
${TOKEN_REQUESTS} AND http_duration_ms IS NOT NULL
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
          width: 12,
          height: 8,
          queries: [
            {
              language: 'sql',
              format: 'time_series',
              text: `SELECT $__timeInterval(time) AS time,
  countIf(http_duration_ms <= 10) AS \`10\`,
  countIf(http_duration_ms > 10 AND http_duration_ms <= 25) AS \`25\`,
  countIf(http_duration_ms > 25 AND http_duration_ms <= 50) AS \`50\`,
  countIf(http_duration_ms > 50 AND http_duration_ms <= 100) AS \`100\`,
  countIf(http_duration_ms > 100 AND http_duration_ms <= 200) AS \`200\`,
  countIf(http_duration_ms > 200 AND http_duration_ms <= 500) AS \`500\`,
  countIf(http_duration_ms > 500 AND http_duration_ms <= 1000) AS \`1000\`,
  countIf(http_duration_ms > 1000) AS \`inf\`
${TOKEN_REQUESTS} AND http_duration_ms IS NOT NULL
GROUP BY time ORDER BY time`,
            },
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
          queries: [
            {
              language: 'sql',
              format: 'table',
              text: `SELECT time, client_id, kind, error_oauth_error, error_code, http_status, net_network, issuer
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
          width: 12,
          height: 8,
          queries: [
            {
              language: 'sql',
              format: 'time_series',
              text: `SELECT $__timeInterval(time) AS time,
  countIf(outcome = 'failure' OR http_status >= 500) / count() AS errors
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
          width: 12,
          height: 8,
          queries: [
            {
              language: 'sql',
              format: 'time_series',
              text: `SELECT $__timeInterval(time) AS time,
  countIf(error_code = 'expired') AS expired,
  countIf(error_code = 'revoked') AS revoked,
  countIf(error_code = 'invalid_signature') AS invalid_signature,
  countIf(error_code NOT IN ('expired', 'revoked', 'invalid_signature')) AS other
FROM grantscope.auth_events
WHERE ${TENANT} AND $__timeFilter(time) AND phase != 'attempt' AND kind = 'token_rejected'
GROUP BY time ORDER BY time`,
            },
          ],
        },
      ],
    },
  ],
});
