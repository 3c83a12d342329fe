import type { BoundDetector } from '../model/define_detector.ts';
import type { Store } from '../store/client.ts';
import { ClientRegistry, readRegistrations, type StatedClient } from './client_registry.ts';
import { evaluateUnits, readUnits, type Unit } from './engine.ts';
import type { FindingContent } from './finding_identity.ts';
import { eventCondition, makeScope, readBounds, type EventRange } from './scopes.ts';

const UNITS_PER_PAGE = 500;
const NS_PER_MS = 1_000_000n;
/** Entities listed per rule. */
export const TOP_ENTITIES_MAX = 10;

export interface BacktestInput {
  readonly store: Store;
  readonly tenant: string;
  readonly detectors: readonly BoundDetector[];
  readonly clients: readonly StatedClient[];
  /** Event time, ns, [from, to). */
  readonly range: EventRange;
  readonly progress?: (done: number, total: number) => void;
}

/** What one rule finds. */
export interface RuleBacktest {
  readonly rule_id: string;
  readonly findings: number;
  readonly by_severity: Readonly<Record<string, number>>;
  readonly by_verdict: Readonly<Record<string, number>>;
  /** UTC day of the finding's last event to number. */
  readonly by_day: Readonly<Record<string, number>>;
  readonly top_entities: readonly { entity_ref: string; client_id: string; findings: number }[];
  readonly entities_evaluated: number;
  readonly truncated_entities: number;
}

/**
 * Runs rules over what is stored, by event time, through the code that also runs live. Nothing is written.
 * A finding counts when its events overlap the range.
 */
export async function backtest(input: BacktestInput): Promise<{
  /** Events in the range: with none, nothing was measured. */
  readonly events: number;
  readonly rules: readonly RuleBacktest[];
  readonly findings: readonly FindingContent[];
}> {
  const { store, tenant, range } = input;
  const registrations = await readRegistrations(store, tenant);
  const clients = new ClientRegistry(input.clients, registrations);
  const condition = eventCondition(range);
  const bounds = await readBounds(store, tenant, condition);
  const scope = makeScope(tenant, condition, bounds, clients);
  const findings: FindingContent[] = [];
  const rules: RuleBacktest[] = [];
  for (const [i, detector] of input.detectors.entries()) {
    input.progress?.(i, input.detectors.length);
    // By id: two references of one thing may fall on two pages.
    const found = new Map<string, FindingContent>();
    let entities = 0;
    let truncated = 0;
    let after: Unit | undefined;
    for (;;) {
      const units = await readUnits(store, detector, scope, { after, limit: UNITS_PER_PAGE });
      const page = await evaluateUnits(store, detector, tenant, clients, units);
      for (const finding of page.results.flatMap((r) => r.findings))
        if (overlaps(finding, range)) found.set(finding.finding_id, finding);
      entities += units.length;
      truncated += page.truncated;
      after = units.at(-1);
      if (units.length < UNITS_PER_PAGE) break;
    }
    const own = [...found.values()].sort((a, b) => (a.finding_id < b.finding_id ? -1 : 1));
    findings.push(...own);
    rules.push(summarise(detector.docs.id, own, entities, truncated));
  }
  input.progress?.(input.detectors.length, input.detectors.length);
  return { events: bounds.rows, rules, findings };
}

function overlaps(finding: FindingContent, range: EventRange): boolean {
  const first = BigInt(Date.parse(finding.first_event_time)) * NS_PER_MS;
  const last = BigInt(Date.parse(finding.last_event_time)) * NS_PER_MS;
  // Finding times are cut to ms, the range may begin within one.
  return last + NS_PER_MS > range.from && first < range.to;
}

function countBy(
  findings: readonly FindingContent[],
  key: (f: FindingContent) => string,
): Record<string, number> {
  const counts = new Map<string, number>();
  for (const f of findings) counts.set(key(f), (counts.get(key(f)) ?? 0) + 1);
  return Object.fromEntries([...counts].sort(([a], [b]) => (a < b ? -1 : 1)));
}

function summarise(
  ruleId: string,
  findings: readonly FindingContent[],
  entities: number,
  truncated: number,
): RuleBacktest {
  const perEntity = countBy(findings, (f) => f.entity_ref);
  const clientOf = new Map(findings.map((f) => [f.entity_ref, f.client_id]));
  return {
    rule_id: ruleId,
    findings: findings.length,
    by_severity: countBy(findings, (f) => f.severity),
    by_verdict: countBy(findings, (f) => f.verdict),
    by_day: countBy(findings, (f) => f.last_event_time.slice(0, 10)),
    top_entities: Object.entries(perEntity)
      .sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1))
      .slice(0, TOP_ENTITIES_MAX)
      .map(([entity_ref, n]) => ({
        entity_ref,
        client_id: clientOf.get(entity_ref) ?? '',
        findings: n,
      })),
    entities_evaluated: entities,
    truncated_entities: truncated,
  };
}
