import { createHash } from 'node:crypto';
import { SEVERITIES, type Severity } from '../model/finding.ts';
import { uuidFromHex } from '../model/ids.ts';
import { param, sql } from '../model/sql.ts';
import type { Store } from '../store/client.ts';
import { budgetInWords, burnLabels, type BurnAlert } from './burn.ts';

/** Findings below this severity are for the console, not for a pager. */
export const NOTIFY_SEVERITY_MIN: Severity = 'medium';
/** Open findings that are looked at in one round; the most severe and newest first. */
export const OPEN_FINDINGS_MAX = 10_000;
/** Longest annotation or label value, characters. */
const TEXT_LENGTH_MAX = 1_000;
/** Finding ids that one alert lists. */
const FINDING_IDS_MAX = 20;
/**
 * Alerts of one rule and severity that are told apart by their entity; the findings of further entities share one alert.
 * So a scan from a thousand networks is not a thousand pages.
 */
export const ENTITY_ALERTS_MAX = 20;
/** A finding that triage has not seen is held back for this long after it was written, ms; triage follows at once. */
export const TRIAGE_GRACE_MS = 3_000;

/** An alert that should be firing in Alertmanager. */
export interface DesiredAlert {
  /** Hash of the labels, which are what Alertmanager knows an alert by. */
  readonly key: string;
  readonly kind: 'detection' | 'slo';
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
  readonly startsAtMs: number;
  readonly findingIds: readonly string[];
  readonly url: string;
}

/** UUID of a label set, whatever the order of its labels. */
export function keyOfLabels(labels: Readonly<Record<string, string>>): string {
  const pairs = Object.entries(labels).sort(([a], [b]) => (a < b ? -1 : 1));
  return uuidFromHex(createHash('sha256').update(JSON.stringify(pairs)).digest('hex'));
}

interface OpenFinding {
  readonly finding_id: string;
  readonly rule_id: string;
  readonly severity: string;
  readonly entity_type: string;
  readonly entity_ref: string;
  readonly summary: string;
  readonly client_id: string;
  readonly issuer: string;
  readonly runbook: string;
  readonly detected_ms: string | number;
}

/**
 * One alert per rule, severity, client and issuer, for all open findings that share them: Alertmanager would take
 * them for one alert in any case, and resolving one finding must not resolve the others. Where no client is known, the
 * entity tells alerts apart: what happens behind one address or to one subject is one alert, and does not merge with the
 * rest of the world. Suppressed and inhibited findings are left out.
 */
export async function findingAlerts(
  store: Store,
  tenant: string,
  consoleUrl: string,
  nowMs: number,
): Promise<{ readonly alerts: readonly DesiredAlert[]; readonly isTruncated: boolean }> {
  const wanted = SEVERITIES.slice(SEVERITIES.indexOf(NOTIFY_SEVERITY_MIN));
  const found = await store.query<OpenFinding>(sql`
    SELECT f.finding_id AS finding_id, f.rule_id AS rule_id, f.severity AS severity, entity_type, entity_ref, summary, client_id, issuer, runbook,
      toUnixTimestamp64Milli(detected_at) AS detected_ms
    FROM (SELECT * FROM grantscope.findings FINAL WHERE tenant = ${param.string(tenant)} AND state = 'open' AND severity IN ${param.strings(wanted)}) AS f
    LEFT JOIN (SELECT finding_id, toString(treatment) AS treatment, change_no FROM grantscope.finding_status FINAL WHERE tenant = ${param.string(tenant)}) AS s ON s.finding_id = f.finding_id
    WHERE s.treatment = 'active' OR (s.change_no = 0 AND f.updated_at <= ${param.timeMs(nowMs - TRIAGE_GRACE_MS)})
    ORDER BY indexOf(${param.strings(wanted)}, toString(severity)) DESC, f.updated_at DESC, finding_id LIMIT ${param.uint(OPEN_FINDINGS_MAX + 1)}`);
  const groups = new Map<string, OpenFinding[]>();
  const listed = found.slice(0, OPEN_FINDINGS_MAX);
  const apart = withinEntityLimit(listed);
  for (const finding of listed) {
    const key = keyOfLabels(findingLabels(finding, apart));
    const group = groups.get(key);
    if (group === undefined) groups.set(key, [finding]);
    else group.push(finding);
  }
  return {
    alerts: [...groups].map(([key, group]) => toAlert(key, group, apart, consoleUrl)),
    isTruncated: found.length > OPEN_FINDINGS_MAX,
  };
}

/** Which findings have an alert by their entity. The entities that were found first keep theirs, so that alerts don't jump. */
function withinEntityLimit(findings: readonly OpenFinding[]): ReadonlySet<OpenFinding> {
  const perRule = new Map<string, Set<string>>();
  const byAge = [...findings].sort(
    (a, b) =>
      Number(a.detected_ms) - Number(b.detected_ms) || (a.finding_id < b.finding_id ? -1 : 1),
  );
  const apart = new Set<OpenFinding>();
  for (const finding of byAge) {
    if (finding.client_id !== '') continue;
    const rule = `${finding.rule_id} ${finding.severity}`;
    const entities = perRule.get(rule) ?? new Set<string>();
    perRule.set(rule, entities);
    const entity = `${finding.entity_type} ${finding.entity_ref}`;
    if (entities.size < ENTITY_ALERTS_MAX) entities.add(entity);
    if (entities.has(entity)) apart.add(finding);
  }
  return apart;
}

function findingLabels(
  finding: OpenFinding,
  apart: ReadonlySet<OpenFinding>,
): Record<string, string> {
  const labels = {
    alertname: finding.rule_id,
    kind: 'detection',
    severity: finding.severity,
    client_id: finding.client_id.slice(0, TEXT_LENGTH_MAX),
    issuer: finding.issuer.slice(0, TEXT_LENGTH_MAX),
    entity: apart.has(finding)
      ? `${finding.entity_type}:${finding.entity_ref}`.slice(0, TEXT_LENGTH_MAX)
      : '',
  };
  // Alertmanager drops empty labels; without them here too, the key is the same as there.
  return Object.fromEntries(Object.entries(labels).filter(([, value]) => value !== ''));
}

function toAlert(
  key: string,
  group: readonly OpenFinding[],
  apart: ReadonlySet<OpenFinding>,
  consoleUrl: string,
): DesiredAlert {
  const [newest] = group;
  if (newest === undefined) throw new RangeError('an alert needs a finding');
  const url = `${consoleUrl}/#/findings/${newest.finding_id}`;
  const ids = group.map((f) => f.finding_id);
  return {
    key,
    kind: 'detection',
    labels: findingLabels(newest, apart),
    annotations: {
      finding_id: newest.finding_id,
      finding_ids: ids.slice(0, FINDING_IDS_MAX).join(' '),
      findings: String(ids.length),
      entities: String(new Set(group.map((f) => `${f.entity_type} ${f.entity_ref}`)).size),
      summary: newest.summary.slice(0, TEXT_LENGTH_MAX),
      investigation_url: url,
      runbook_url: `${consoleUrl}/#/runbooks/${newest.runbook}`,
    },
    startsAtMs: Math.min(...group.map((f) => Number(f.detected_ms))),
    findingIds: ids.slice(0, FINDING_IDS_MAX),
    url,
  };
}

/** The alert for a burning SLO, with the labels that the generated Prometheus rule gives it. */
export function burnAlert(burn: BurnAlert, consoleUrl: string): DesiredAlert {
  const { slo, tier, state } = burn;
  const labels = burnLabels(slo, tier);
  const url = `${consoleUrl}/#/slos/${slo.id}`;
  const rate = (state.burnRates[tier.long] ?? 0).toPrecision(3);
  return {
    key: keyOfLabels(labels),
    kind: 'slo',
    labels,
    annotations: {
      summary: `${slo.id} spends its error budget ${Number(rate)} times too fast over ${tier.long} and ${tier.short}; ${budgetInWords(state, tier)}.`,
      investigation_url: url,
      runbook_url: `${consoleUrl}/#/runbooks/${slo.runbook}`,
    },
    startsAtMs: burn.sinceMs,
    findingIds: [],
    url,
  };
}
