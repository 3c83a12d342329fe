import { defineBoard } from '../../model/define_board.ts';
import { NIL_REF } from '../../model/ids.ts';
import { RISK_HALF_LIFE_DAYS, RISK_HALF_LIVES_MAX } from '../../model/risk.ts';
import {
  ANNOTATIONS,
  BY_SEVERITY,
  CHOSEN_CLIENT,
  FINDINGS,
  series,
  table,
  TENANT,
} from './_fragments.ts';

/** Score of model/risk.ts over the rows of a group, at the end of the time range. */
const RISK = `round(100 * (1 - exp(-sum(risk * exp2(-greatest(0, dateDiff('second', last_event_time, $__toTime)) / ${RISK_HALF_LIFE_DAYS * 86_400})) / 100)), 1)`;
/** What counts towards risk: not withdrawn, not suppressed or inhibited, not judged false or benign. */
const COUNTED = `${FINDINGS} AND state != 'superseded' AND risk > 0
  AND last_event_time >= $__toTime - INTERVAL ${RISK_HALF_LIFE_DAYS * RISK_HALF_LIVES_MAX} DAY AND first_event_time <= $__toTime
  AND finding_id NOT IN (SELECT finding_id FROM grantscope.finding_status FINAL WHERE ${TENANT} AND treatment != 'active')
  AND finding_id NOT IN (
    SELECT finding_id FROM grantscope.dispositions WHERE ${TENANT}
    GROUP BY finding_id HAVING argMax(disposition, (decided_at, disposition_id)) != 'true_positive')`;

/** Tokens that a node graph shows at most. */
const NODES_MAX = 120;
/** The chosen token or family, or the first token of the newest open finding, and every token of its families. */
const LINEAGE = `WITH
  anchor AS (
    SELECT if(\${token:sqlstring} != '', toUUIDOrNull(\${token:sqlstring}), (
      SELECT token_refs[1] ${FINDINGS} AND state = 'open' AND notEmpty(token_refs) ORDER BY last_event_time DESC, finding_id LIMIT 1
    )) AS ref
  ),
  anchors AS (
    SELECT ref FROM anchor
    UNION ALL
    SELECT family_ref AS ref FROM grantscope.token_events
    WHERE ${TENANT} AND token_ref IN (SELECT ref FROM anchor) AND family_ref != toUUID('${NIL_REF}')
  ),
  lineage AS (
    SELECT DISTINCT ref FROM (
      SELECT token_ref AS ref FROM grantscope.token_links WHERE ${TENANT} AND anchor_ref IN (SELECT ref FROM anchors)
      UNION ALL
      SELECT token_ref AS ref FROM grantscope.token_events WHERE ${TENANT} AND token_ref IN (SELECT ref FROM anchors)
    ) ORDER BY ref LIMIT ${NODES_MAX}
  )`;

export default defineBoard({
  id: 'soc',
  title: 'Grantscope SOC',
  description: 'What was found, whom it concerns, and what could not be seen?',
  tags: ['grantscope', 'oauth'],
  from: '24h',
  refresh: '1m',
  variables: ['client', 'token'],
  annotations: ANNOTATIONS,
  rows: [
    {
      title: 'Findings',
      panels: [
        {
          title: 'Open findings by family and rule',
          description:
            'All that are open, whatever the time range, most severe first. A rule with many low ones is a candidate for tuning.',
          kind: 'table',
          unit: 'short',
          width: 12,
          height: 9,
          opens: '#/findings?state=open',
          queries: [
            table(`SELECT family, rule_id, severity, count() AS findings, uniqExact(client_id) AS clients, max(last_event_time) AS last_event
${FINDINGS} AND state = 'open' AND ${CHOSEN_CLIENT}
GROUP BY family, rule_id, severity
ORDER BY ${BY_SEVERITY}, findings DESC, rule_id LIMIT 60`),
          ],
        },
        {
          title: 'Findings over time',
          description:
            'By when their first event happened. A wall of findings at one moment is one cause: a campaign, or a change that detectors do not know.',
          kind: 'timeseries',
          unit: 'short',
          width: 12,
          height: 9,
          queries: [
            series(`SELECT $__timeInterval(first_event_time) AS time,
  countIf(severity = 'critical') AS critical,
  countIf(severity = 'high') AS high,
  countIf(severity = 'medium') AS medium,
  countIf(severity IN ('low', 'info')) AS low_and_info
${FINDINGS} AND state != 'superseded' AND $__timeFilter(first_event_time) AND ${CHOSEN_CLIENT}
GROUP BY time ORDER BY time`),
          ],
        },
        {
          title: 'Newest findings',
          description:
            'Open each for its reasons, evidence and events; follow the token to its lineage below.',
          kind: 'table',
          unit: 'short',
          width: 24,
          height: 9,
          links: {
            finding_id: '#/findings/',
            client_id: '#/investigations/client/',
            token: { board: 'soc', variable: 'token' },
          },
          queries: [
            table(`SELECT last_event_time AS time, severity, title, verdict, client_id, risk, if(empty(token_refs), '', toString(token_refs[1])) AS token, finding_id
${FINDINGS} AND state = 'open' AND ${CHOSEN_CLIENT}
ORDER BY last_event_time DESC, finding_id LIMIT 50`),
          ],
        },
      ],
    },
    {
      title: 'Risk',
      panels: [
        {
          title: 'Clients by risk',
          description:
            'What findings add up to, fading by half a week after week. From 30 the level is medium, from 60 high.',
          kind: 'table',
          unit: 'short',
          width: 12,
          height: 8,
          links: { client_id: '#/investigations/client/' },
          queries: [
            table(`SELECT client_id, ${RISK} AS risk_score, count() AS findings, uniqExact(rule_id) AS rules, max(last_event_time) AS last_event
${COUNTED} AND client_id != '' AND ${CHOSEN_CLIENT}
GROUP BY client_id ORDER BY risk_score DESC, client_id LIMIT 20`),
          ],
        },
        {
          title: 'Subjects by risk',
          description:
            'The same for people and service accounts, by their pseudonymous reference: whom to sign out first.',
          kind: 'table',
          unit: 'short',
          width: 12,
          height: 8,
          links: { subject: '#/investigations/subject/' },
          queries: [
            table(`SELECT toString(subject_ref) AS subject, ${RISK} AS risk_score, count() AS findings, uniqExact(rule_id) AS rules, max(last_event_time) AS last_event
${COUNTED} AND subject_ref != toUUID('${NIL_REF}') AND ${CHOSEN_CLIENT}
GROUP BY subject_ref ORDER BY risk_score DESC, subject LIMIT 20`),
          ],
        },
        {
          title: 'Token lineage',
          description:
            'Which token came from which: of the token or family that is chosen above, or of the newest open finding that names one. Two children of one refresh token are a replay.',
          kind: 'node_graph',
          unit: 'short',
          width: 24,
          height: 12,
          links: { id: '#/investigations/token/' },
          queries: [
            table(`${LINEAGE}
SELECT toString(token_ref) AS id, concat(argMax(token_type, token_type != 'unknown'), if(countIf(token_role = 'revoked') > 0, ' (revoked)', '')) AS title,
  concat(toString(uniqExactIf(net_network, net_network != '')), ' networks') AS subtitle, concat(toString(uniqExact(event_id)), ' events') AS mainstat
FROM grantscope.token_events
WHERE ${TENANT} AND token_ref IN (SELECT ref FROM lineage)
GROUP BY token_ref ORDER BY min(time), id`),
            table(`${LINEAGE}
SELECT concat(toString(parent_ref), ' ', toString(token_ref)) AS id, toString(parent_ref) AS source, toString(token_ref) AS target
FROM grantscope.token_events
WHERE ${TENANT} AND token_ref IN (SELECT ref FROM lineage) AND parent_ref IN (SELECT ref FROM lineage) AND parent_ref != token_ref
GROUP BY parent_ref, token_ref ORDER BY min(time), id`),
          ],
        },
      ],
    },
    {
      title: 'What watches',
      panels: [
        {
          title: 'Detector health',
          description:
            'How far each rule has read, by ingest time. One that falls behind finds late; one that is not listed has not run.',
          kind: 'table',
          unit: 'short',
          width: 12,
          height: 10,
          queries: [
            table(`SELECT rule_id, max(rule_version) AS version, dateDiff('second', argMax(seen_to, (rule_version, updated_at)), now64(6)) AS seconds_behind, argMax(seen_to, (rule_version, updated_at)) AS read_to, argMax(swept_to, (rule_version, updated_at)) AS swept_to
FROM grantscope.detector_watermarks FINAL
WHERE ${TENANT}
GROUP BY rule_id ORDER BY seconds_behind DESC, rule_id`),
          ],
        },
        {
          title: 'Blind detectors',
          description:
            'Rules that need a field which some source does not send: silence of such a rule says nothing about that source.',
          kind: 'table',
          unit: 'short',
          width: 12,
          height: 10,
          queries: [
            {
              language: 'promql',
              kind: 'instant',
              legend: '',
              text: 'sort_desc(max by (rule) (grantscope_detector_blind_sources))',
            },
          ],
        },
        {
          title: 'Suppressions and their hits',
          description:
            'What keeps findings quiet, why, until when, and how many it has hidden. One without hits can go.',
          kind: 'table',
          unit: 'short',
          width: 24,
          height: 8,
          queries: [
            table(`SELECT s.rule_id AS rule_id, s.client_id AS client_id, s.owner AS owner, s.reason AS reason, s.expires_at AS expires_at, h.hits AS hits, h.last_hit AS last_hit
FROM (SELECT * FROM grantscope.suppressions FINAL WHERE ${TENANT} AND toUnixTimestamp64Milli(removed_at) = 0) AS s
LEFT JOIN (
  SELECT treated_by, uniqExact(finding_id) AS hits, max(changed_at) AS last_hit
  FROM grantscope.finding_changes FINAL
  WHERE ${TENANT} AND treatment = 'suppressed'
  GROUP BY treated_by
) AS h ON h.treated_by = toString(s.suppression_id)
ORDER BY hits DESC, expires_at, rule_id LIMIT 50`),
          ],
        },
      ],
    },
  ],
});
