import type { BoundDetector } from '../model/define_detector.ts';
import { param, sql } from '../model/sql.ts';
import type { Store } from '../store/client.ts';
import { timeSql } from '../store/read_events.ts';
import { ClientRegistry, readRegistrations, type StatedClient } from './client_registry.ts';
import { evaluateUnits, readUnits, type Unit } from './engine.ts';
import { addChanges, NO_CHANGES, writeFindings, type FindingChanges } from './findings_store.ts';
import { eventCondition, makeScope, readBounds, type EventRange } from './scopes.ts';
import { inTurn, turnOf } from './turns.ts';

const UNITS_PER_PAGE = 500;

export interface ReevaluateInput {
  readonly store: Store;
  readonly tenant: string;
  readonly detectors: readonly BoundDetector[];
  readonly clients: readonly StatedClient[];
  /** Event time, ns, [from, to). */
  readonly range: EventRange;
  readonly nowMs: number;
  /** Called after each page, with entities done; the total grows as they are found. */
  readonly progress?: (done: number, total: number) => void;
}

/** What judging a rule again did to its findings. */
export interface RuleReevaluation {
  readonly rule_id: string;
  readonly entities_evaluated: number;
  readonly opened: number;
  readonly changed: number;
  readonly superseded: number;
  readonly closed: number;
  readonly truncated_entities: number;
}

export interface Reevaluation {
  /** Events in the range. */
  readonly events: number;
  readonly rules: readonly RuleReevaluation[];
  /** Findings that were written. */
  readonly changedIds: readonly string[];
}

/**
 * Judges again what happened in a stretch of event time and writes the findings: after a change of parameters or
 * registrations, say. Both what the events make a candidate now, and what has a finding from before, so that one which no
 * longer follows is withdrawn. Safe beside a runner in the same process, and safe to repeat.
 */
export async function reevaluate(input: ReevaluateInput): Promise<Reevaluation> {
  const { store, tenant, range } = input;
  const registrations = await readRegistrations(store, tenant);
  const clients = new ClientRegistry(input.clients, registrations);
  const { rows } = await readBounds(store, tenant, eventCondition(range));
  const rules: RuleReevaluation[] = [];
  const changedIds: string[] = [];
  let done = 0;
  const tell = (units: number): void => {
    done += units;
    const share = (rules.length + 1) / input.detectors.length;
    input.progress?.(done, Math.max(done, Math.round(done / share)));
  };
  for (const detector of input.detectors) {
    const { changes, entities, truncated } = await reevaluateRule(input, detector, clients, tell);
    const { ids, ...counts } = changes;
    changedIds.push(...ids);
    rules.push({
      rule_id: detector.docs.id,
      entities_evaluated: entities,
      ...counts,
      truncated_entities: truncated,
    });
  }
  input.progress?.(done, done);
  return { events: rows, rules, changedIds: [...new Set(changedIds)] };
}

async function reevaluateRule(
  { store, tenant, range, nowMs }: ReevaluateInput,
  detector: BoundDetector,
  clients: ClientRegistry,
  tell: (units: number) => void,
): Promise<{ changes: FindingChanges; entities: number; truncated: number }> {
  const condition = eventCondition(range);
  const bounds = await readBounds(store, tenant, condition);
  const scope = makeScope(tenant, condition, bounds, clients);
  const { id, quietMs } = detector.docs;
  let changes = NO_CHANGES;
  let entities = 0;
  let truncated = 0;
  const judge = async (units: readonly Unit[]): Promise<void> => {
    await inTurn(store, turnOf(tenant, id), async () => {
      const page = await evaluateUnits(store, detector, tenant, clients, units);
      const context = { tenant, ruleId: id, quietMs, nowMs };
      changes = addChanges(changes, await writeFindings(store, context, page.results));
      truncated += page.truncated;
    });
    entities += units.length;
    tell(units.length);
  };
  const sources = [
    (page: UnitPage) => readUnits(store, detector, scope, page),
    (page: UnitPage) => readFoundUnits(store, tenant, detector, range, page),
  ];
  for (const readPage of sources) {
    let after: Unit | undefined;
    for (;;) {
      const units = await readPage({ after, limit: UNITS_PER_PAGE });
      if (units.length > 0) await judge(units);
      after = units.at(-1);
      if (units.length < UNITS_PER_PAGE) break;
    }
  }
  return { changes, entities, truncated };
}

interface UnitPage {
  readonly after: Unit | undefined;
  readonly limit: number;
}

/** Units with a finding from before whose events touch the range, in order. */
function readFoundUnits(
  store: Store,
  tenant: string,
  { docs }: BoundDetector,
  range: EventRange,
  page: UnitPage,
): Promise<readonly Unit[]> {
  const day = docs.episodes === 'daily' ? sql`substring(episode, 1, 10)` : sql`''`;
  const after =
    page.after === undefined
      ? sql`true`
      : sql`(entity, day) > (${param.string(page.after.entity)}, ${param.string(page.after.day)})`;
  // Times of findings are cut to ms.
  return store.query<Unit>(sql`
    SELECT entity, day FROM (
      SELECT entity_ref AS entity, ${day} AS day FROM grantscope.findings FINAL
      WHERE tenant = ${param.string(tenant)} AND rule_id = ${param.string(docs.id)} AND state != 'superseded'
        AND first_event_time < ${timeSql(range.to)}
        AND addMilliseconds(last_event_time, 1) > ${timeSql(range.from)}
    ) WHERE ${after} GROUP BY entity, day ORDER BY entity, day LIMIT ${param.uint(page.limit)}`);
}
