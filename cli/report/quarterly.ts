import { FINDING_FAMILIES, type Finding } from '../../model/finding.ts';
import type { Containment, QuarterlyContent } from '../../model/report.ts';
import { fateOfTokens } from '../../store/queries/containment.ts';
import { listFindings } from '../../store/queries/findings.ts';
import {
  drillsAmong,
  errorsByTime,
  findingsByMonth,
  findingsByRule,
  judgedRules,
  type Span,
} from '../../store/queries/reports.ts';
import type { Scope } from '../../store/queries/scope.ts';
import { errorCounts, iso, percentOf, round, secondsBetween, totalOf } from './figures.ts';
import { slosOf } from './slo_periods.ts';

/** Incidents whose tokens are followed; the newest count. */
const INCIDENTS_MAX = 200;
/** Findings that are looked through for incidents, per page. */
const PAGE = 200;

/** How long incidents took, what months were like, and how right the rules were. */
export async function quarterlyContent(
  scope: Scope,
  span: Span,
  before: Span,
): Promise<QuarterlyContent> {
  const rules = await findingsByRule(scope, span, before);
  return {
    kind: 'quarterly',
    containment: await containmentOf(scope, span),
    months: await monthsOf(scope, span),
    findings_by_family: FINDING_FAMILIES.map((family) => ({
      family,
      ...totalOf(rules.filter((r) => r.family === family)),
    })),
    precision: await precisionOf(scope, span, before),
    slos: await slosOf(scope, span, before),
  };
}

/** Findings that name tokens, begin in the span and were not withdrawn; newest first. */
async function incidentsOf(scope: Scope, span: Span): Promise<readonly Finding[]> {
  const found: Finding[] = [];
  const filter = {
    severity_min: 'high',
    state: ['open', 'closed'],
    from: iso(span.fromMs),
    to: iso(span.toMs),
  } as const;
  let after: Parameters<typeof listFindings>[3]['after'];
  do {
    const page = await listFindings(
      scope,
      filter,
      { by: 'last_event_time', descending: true },
      { limit: PAGE, after },
    );
    found.push(...page.items);
    after = page.next;
  } while (after !== undefined);
  return found.filter((f) => f.token_refs.length > 0 && f.first_event_time >= iso(span.fromMs));
}

async function containmentOf(scope: Scope, span: Span): Promise<QuarterlyContent['containment']> {
  const incidents = await incidentsOf(scope, span);
  const followed = incidents.slice(0, INCIDENTS_MAX);
  const drills = await drillsAmong(
    scope,
    incidents.map((f) => f.finding_id),
  );
  const list: Containment[] = [];
  for (const f of followed)
    list.push(await followFinding(scope, f, span, drills.has(f.finding_id)));
  const times = list.flatMap((c) => c.seconds_to_contain ?? []);
  return {
    incidents: incidents.length,
    drills: drills.size,
    contained: times.length,
    median_seconds_to_detect: median(list.map((c) => c.seconds_to_detect)),
    median_seconds_to_contain: median(times),
    longest_seconds_to_contain: times.length === 0 ? null : Math.max(...times),
    list,
    not_listed: incidents.length - followed.length,
  };
}

async function followFinding(
  scope: Scope,
  finding: Finding,
  span: Span,
  isDrill: boolean,
): Promise<Containment> {
  const { first_event_time, detected_at } = finding;
  const fate = await fateOfTokens(scope, finding.token_refs, first_event_time, iso(span.toMs));
  const end = fate.acceptedAfter ?? fate.revokedAt;
  return {
    finding_id: finding.finding_id,
    rule_id: finding.rule_id,
    severity: finding.severity,
    is_drill: isDrill,
    first_event: first_event_time,
    detected_at,
    revoked_at: fate.revokedAt,
    last_accepted_at: fate.acceptedAfter,
    seconds_to_detect: secondsBetween(first_event_time, detected_at),
    seconds_to_contain: end === null ? null : secondsBetween(first_event_time, end),
  };
}

/** The middle value, or the mean of the two in the middle; null of nothing. */
export function median(values: readonly number[]): number | null {
  const sorted = [...values].sort((a, b) => a - b);
  const low = sorted[Math.floor((sorted.length - 1) / 2)];
  const high = sorted[Math.floor(sorted.length / 2)];
  return low === undefined || high === undefined ? null : round((low + high) / 2, 3);
}

async function monthsOf(scope: Scope, span: Span): Promise<QuarterlyContent['months']> {
  const errors = await errorsByTime(scope, span, 'month');
  const findings = await findingsByMonth(scope, span);
  const months = new Set([...errors.map((e) => e.name), ...findings.map((f) => f.month)]);
  return [...months].sort().map((month) => {
    const error = errors.find((e) => e.name === month);
    const finding = findings.find((f) => f.month === month);
    return {
      month,
      ...errorCounts(error?.requests ?? 0, error?.failures ?? 0),
      findings: finding?.findings ?? 0,
      findings_high: finding?.high ?? 0,
    };
  });
}

async function precisionOf(
  scope: Scope,
  span: Span,
  before: Span,
): Promise<QuarterlyContent['precision']> {
  const previous = new Map((await judgedRules(scope, before)).map((r) => [r.ruleId, r]));
  return (await judgedRules(scope, span)).map((r) => {
    const earlier = previous.get(r.ruleId);
    return {
      rule_id: r.ruleId,
      judged: r.judged,
      true_positive: r.truePositive,
      benign_positive: r.benignPositive,
      false_positive: r.falsePositive,
      precision_percent: percentOf(r.truePositive, r.judged) ?? 0,
      previous_precision_percent:
        earlier === undefined ? null : percentOf(earlier.truePositive, earlier.judged),
    };
  });
}
