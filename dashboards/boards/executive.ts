import { loadSlos } from '../../alerts/registry.ts';
import { defineBoard, type PanelDefinition } from '../../model/define_board.ts';
import {
  ANNOTATIONS,
  BY_SEVERITY,
  FINDINGS,
  MINUTES,
  series,
  table,
  TENANT,
  TOKEN_REQUESTS,
} from './_fragments.ts';

/** Widths that fill rows of the grid: at most six to a row. */
const PER_ROW_MAX = 6;

/** Service levels with a budget; indicators have no objective. */
const slos = (await loadSlos()).filter((slo) => slo.measure !== 'indicator');

function issuanceSuccess(days: number): PanelDefinition {
  return {
    title: `Issuance, ${days} days`,
    description: `Share of token requests that were answered with tokens over ${days} days, client errors left out. The objective is 99.9 %.`,
    kind: 'stat',
    unit: 'percentunit',
    width: 5,
    height: 5,
    opens: '#/slos/token_issuance_success',
    thresholds: [
      { value: 0, color: 'red' },
      { value: 0.999, color: 'green' },
    ],
    queries: [
      table(`SELECT sum(good) / (sum(good) + sum(bad)) AS success
FROM grantscope.slo_minutes
WHERE ${TENANT} AND slo_id = 'token_issuance_success' AND minute > $__toTime - INTERVAL ${days} DAY AND minute <= $__toTime
HAVING sum(good) + sum(bad) > 0`),
    ],
  };
}

function budget(slo: (typeof slos)[number]): PanelDefinition {
  return {
    title: `Budget: ${slo.title}`,
    description: `Share of the 30-day error budget that is left, now; below zero it is overspent, and no value means not measured. ${slo.description}`,
    kind: 'stat',
    unit: 'percentunit',
    width: Math.floor(24 / Math.min(PER_ROW_MAX, slos.length)),
    height: 4,
    opens: `#/slos/${slo.id}`,
    thresholds: [
      { value: -1e9, color: 'red' },
      { value: 0, color: 'orange' },
      { value: 0.25, color: 'green' },
    ],
    queries: [
      table(`SELECT round(budget_remaining, 4) AS budget_left
FROM grantscope.slo_states FINAL
WHERE ${TENANT} AND slo_id = '${slo.id}'`),
    ],
  };
}

export default defineBoard({
  id: 'executive',
  title: 'Grantscope executive',
  description: 'Do sign-in and delegated access work for people and services, and are they safe?',
  tags: ['grantscope', 'oauth'],
  from: '7d',
  refresh: '5m',
  annotations: ANNOTATIONS,
  rows: [
    {
      title: 'Availability',
      panels: [
        issuanceSuccess(7),
        issuanceSuccess(30),
        {
          title: 'Tokens a minute now',
          description:
            'Tokens that were issued, refreshed or exchanged in the last five whole minutes of the time range, a minute.',
          kind: 'stat',
          unit: 'short',
          width: 4,
          height: 5,
          queries: [
            table(`SELECT round(sum(events) / 5, 1) AS tokens_a_minute
${TOKEN_REQUESTS} AND outcome = 'success' AND minute >= toStartOfMinute($__toTime) - INTERVAL 5 MINUTE AND minute < toStartOfMinute($__toTime)
HAVING sum(events) > 0`),
          ],
        },
        {
          title: 'Busiest minute',
          description:
            'Most tokens in one minute of the time range: what the authorization server has carried, and so can.',
          kind: 'stat',
          unit: 'short',
          width: 5,
          height: 5,
          queries: [
            table(`SELECT max(tokens) AS tokens_a_minute
FROM (
  SELECT minute, sum(events) AS tokens
  ${TOKEN_REQUESTS} AND outcome = 'success'
  GROUP BY minute
)
HAVING count() > 0`),
          ],
        },
        {
          title: 'Revoked tokens outstanding',
          description:
            'Tokens that were revoked in the time range and would still be valid by their expiry: a resource server that does not hear of revocations accepts them.',
          kind: 'stat',
          unit: 'short',
          width: 5,
          height: 5,
          queries: [
            table(`SELECT uniqExactIf(ref, expires > $__toTime) AS outstanding
FROM (
  SELECT arrayJoin(arrayZip(\`tokens.ref\`, \`tokens.role\`, \`tokens.expires_at\`)) AS token, token.1 AS ref, token.2 AS role, token.3 AS expires
  FROM grantscope.auth_events
  WHERE ${TENANT} AND $__timeFilter(time) AND phase != 'attempt' AND kind IN ('token_revoked', 'grant_revoked') AND outcome = 'success'
)
WHERE role = 'revoked'
HAVING count() > 0`),
          ],
        },
        {
          title: 'Authorization errors',
          description:
            'Share of token requests and logins that failed. A step up with a deploy is the deploy; a slow rise is often one client.',
          kind: 'timeseries',
          unit: 'percentunit',
          stepSecondsMin: 60,
          width: 12,
          height: 8,
          queries: [
            series(`SELECT $__timeInterval(minute) AS time,
  sumIf(events, kind = 'token_request_failed') / greatest(sumIf(events, kind IN ('token_issued', 'token_refreshed', 'token_exchanged', 'token_request_failed')), 1) AS token_requests,
  sumIf(events, kind = 'login_failed') / greatest(sumIf(events, kind IN ('login', 'login_failed')), 1) AS logins
${MINUTES} AND kind IN ('token_issued', 'token_refreshed', 'token_exchanged', 'token_request_failed', 'login', 'login_failed')
GROUP BY time ORDER BY time`),
          ],
        },
        {
          title: 'Tokens a minute',
          description:
            'Capacity in use: issued, refreshed and exchanged tokens a minute. Compare the peaks of two weeks to see growth.',
          kind: 'timeseries',
          unit: 'short',
          stepSecondsMin: 60,
          width: 12,
          height: 8,
          queries: [
            series(`SELECT $__timeInterval(minute) AS time, sum(events) * 60 / $__interval_s AS tokens_a_minute
${TOKEN_REQUESTS} AND outcome = 'success'
GROUP BY time ORDER BY time`),
          ],
        },
      ],
    },
    { title: 'Error budgets', panels: slos.map(budget) },
    {
      title: 'Security',
      panels: [
        {
          title: 'Revocations and reuse',
          description:
            'Tokens and grants revoked, and reuse that the authorization server noticed itself. A burst of revocations is an incident or its answer.',
          kind: 'timeseries',
          unit: 'short',
          stepSecondsMin: 60,
          width: 12,
          height: 8,
          queries: [
            series(`SELECT $__timeInterval(minute) AS time,
  sumIf(events, kind = 'token_revoked') AS tokens_revoked,
  sumIf(events, kind IN ('grant_revoked', 'consent_revoked', 'session_revoked')) AS grants_and_sessions_revoked,
  sumIf(events, kind = 'token_reuse_detected') AS reuse_detected
${MINUTES} AND kind IN ('token_revoked', 'grant_revoked', 'consent_revoked', 'session_revoked', 'token_reuse_detected')
GROUP BY time ORDER BY time`),
          ],
        },
        {
          title: 'Findings by severity',
          description:
            'Findings whose first event is in the time range, and how many of them are still open.',
          kind: 'table',
          unit: 'short',
          width: 12,
          height: 8,
          opens: '#/findings?state=open',
          queries: [
            table(`SELECT severity, count() AS findings, countIf(state = 'open') AS still_open, uniqExact(rule_id) AS rules, max(last_event_time) AS last_event
${FINDINGS} AND state != 'superseded' AND $__timeFilter(first_event_time)
GROUP BY severity
ORDER BY ${BY_SEVERITY}`),
          ],
        },
      ],
    },
  ],
});
