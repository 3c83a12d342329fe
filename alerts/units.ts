import { createHash } from 'node:crypto';
import {
  OBJECTIVE_WINDOW,
  SLO_WINDOWS,
  type CountedSlo,
  type PropagationSlo,
  type SloDefinition,
} from '../model/define_slo.ts';
import { SEVERITIES } from '../model/finding.ts';
import { uuidFromHex } from '../model/ids.ts';
import { clickHouseMs, param, sql } from '../model/sql.ts';
import type { Store } from '../store/client.ts';
import { RevocationReader, type Revocation, type TokenUse } from './revocations.ts';

const MINUTE_MS = 60_000;
/** How far back units are judged: the window of the objective, and two days for what arrives late. Milliseconds. */
const HORIZON_MS = SLO_WINDOWS[OBJECTIVE_WINDOW] * 1_000 + 2 * 86_400_000;

/** One row of `grantscope.slo_units`, without what every row has. */
export interface Unit {
  readonly unit: string;
  readonly minuteMs: number;
  readonly source_id: string;
  readonly issuer: string;
  readonly service: string;
  /** `none` takes back what was counted before. */
  readonly class: 'good' | 'bad' | 'excluded' | 'none';
  /** -1: there was none. */
  readonly lastAcceptanceMs: number;
  readonly firstDenialMs: number;
}

/**
 * Judges what is judged one by one (revoked tokens at APIs, findings) and keeps the verdicts in `grantscope.slo_units`. A verdict
 * follows from everything that is stored about its unit, so that the order of arrival changes nothing: a late event has its unit
 * judged again, and the new row takes the place of the old.
 */
export class UnitJudge {
  readonly #store: Store;
  readonly #tenant: string;
  readonly #revocations: RevocationReader;

  constructor(store: Store, tenant: string) {
    this.#store = store;
    this.#tenant = tenant;
    this.#revocations = new RevocationReader(store, tenant);
  }

  /** Brings the units of all SLOs up to date. Throws what the store throws; then the next round does it again. */
  async round(slos: readonly SloDefinition[], nowMs: number): Promise<void> {
    const fromMs = nowMs - HORIZON_MS;
    const propagating = slos.filter((slo) => slo.measure === 'propagation');
    if (propagating.length > 0) {
      await this.#revocations.eachTouched(fromMs, nowMs, async (revocations) => {
        for (const slo of propagating)
          await this.#keep(
            slo,
            revocations.flatMap((r) => propagationUnits(slo, r)),
            nowMs,
          );
      });
    }
    for (const slo of slos)
      if (slo.measure === 'counted')
        await this.#keep(slo, await this.#findings(slo, fromMs), nowMs);
  }

  /** Writes the units that are new or were judged otherwise before. */
  async #keep(slo: SloDefinition, units: readonly Unit[], nowMs: number): Promise<void> {
    const before = await this.#stored(slo, units);
    const rows = units
      .filter((unit) => unit.class !== 'none' || before.has(unit.unit))
      .map((unit) => toRow(unit))
      .filter((row) => before.get(String(row['unit'])) !== JSON.stringify(row));
    await this.#store.insertRows(
      'grantscope.slo_units',
      rows.map((row) => ({
        tenant: this.#tenant,
        slo_id: slo.id,
        ...row,
        judged_at: clickHouseMs(nowMs),
      })),
    );
  }

  async #stored(slo: SloDefinition, units: readonly Unit[]): Promise<ReadonlyMap<string, string>> {
    const rows = await this.#store.query<Record<string, unknown>>(
      sql`SELECT toString(unit) AS unit, toString(minute) AS minute, source_id, issuer, service, good, bad, excluded, unclassified, toInt32(last_acceptance_ms) AS last_acceptance_ms, toInt32(first_denial_ms) AS first_denial_ms FROM grantscope.slo_units FINAL WHERE tenant = ${param.string(this.#tenant)} AND slo_id = ${param.string(slo.id)} AND unit IN ${param.uuids(units.map((u) => u.unit))}`,
    );
    return new Map(rows.map((row) => [String(row['unit']), JSON.stringify(row)]));
  }

  async #findings(slo: CountedSlo, fromMs: number): Promise<readonly Unit[]> {
    const grave = SEVERITIES.slice(SEVERITIES.indexOf(slo.severityMin));
    const rows = await this.#store.query<FindingRow>(
      sql`SELECT toString(f.finding_id) AS finding_id, f.severity AS severity, f.state AS state, f.verdict AS verdict, toUnixTimestamp64Milli(f.first_event_time) AS at_ms, f.issuer AS issuer, d.disposition AS disposition
      FROM (SELECT * FROM grantscope.findings FINAL WHERE tenant = ${param.string(this.#tenant)} AND rule_id IN ${param.strings(slo.rules)} AND first_event_time >= ${param.timeMs(fromMs)}) AS f
      LEFT JOIN (SELECT finding_id, argMax(disposition, (decided_at, disposition_id)) AS disposition FROM grantscope.dispositions WHERE tenant = ${param.string(this.#tenant)} GROUP BY finding_id) AS d ON d.finding_id = f.finding_id
      ORDER BY finding_id`,
    );
    return rows.map((row) => ({
      unit: row.finding_id,
      minuteMs: floorToMinute(Number(row.at_ms)),
      ...{ source_id: '', issuer: row.issuer, service: '' },
      class: classOfFinding(row, grave),
      ...{ lastAcceptanceMs: -1, firstDenialMs: -1 },
    }));
  }
}

interface FindingRow {
  readonly finding_id: string;
  readonly severity: string;
  readonly state: string;
  readonly verdict: string;
  readonly at_ms: string;
  readonly issuer: string;
  /** '' where nobody decided. */
  readonly disposition: string;
}

/** A finding that another one replaced counts nowhere; what was called benign or false is counted apart. */
function classOfFinding(row: FindingRow, grave: readonly string[]): Unit['class'] {
  if (row.state === 'superseded') return 'none';
  if (row.disposition === 'benign_positive' || row.disposition === 'false_positive')
    return 'excluded';
  return grave.includes(row.severity) ? 'bad' : 'excluded';
}

/**
 * The units of one revoked token: one for each API (or source, where no API is named) that saw it after the revocation. A unit stands
 * in the minute of what decided it, so that a burn is seen when it happens: the first acceptance that came too late, else
 * the first use after the revocation.
 */
export function propagationUnits(
  slo: Pick<PropagationSlo, 'withinSeconds'>,
  { tokenRef, otherRefs, atMs, uses }: Revocation,
): readonly Unit[] {
  const places = new Map<string, TokenUse[]>();
  for (const use of uses) {
    if (use.atMs <= atMs) continue;
    const place = JSON.stringify([use.source_id, use.service]);
    const there = places.get(place);
    if (there === undefined) places.set(place, [use]);
    else there.push(use);
  }
  return [...places].flatMap(([place, there]) => {
    const times = (accepted: boolean): number[] =>
      there.filter((use) => use.isAccepted === accepted).map((use) => use.atMs);
    const accepted = times(true);
    const denied = times(false);
    const late = accepted.filter((ms) => ms - atMs > slo.withinSeconds * 1_000);
    const decided = late.length > 0 ? late : there.map((use) => use.atMs);
    const [first] = there;
    const unit = {
      unit: unitId(tokenRef, place),
      minuteMs: floorToMinute(Math.min(...decided)),
      ...{ source_id: first?.source_id ?? '', service: first?.service ?? '' },
      issuer:
        there
          .map((use) => use.issuer)
          .sort()
          .at(-1) ?? '',
      class: late.length > 0 ? ('bad' as const) : ('good' as const),
      lastAcceptanceMs: accepted.length === 0 ? -1 : Math.max(...accepted) - atMs,
      firstDenialMs: denied.length === 0 ? -1 : Math.min(...denied) - atMs,
    };
    const former = otherRefs.map((ref) => ({
      ...unit,
      unit: unitId(ref, place),
      class: 'none' as const,
    }));
    return [unit, ...former];
  });
}

function unitId(tokenRef: string, place: string): string {
  return uuidFromHex(createHash('sha256').update(`${tokenRef} ${place}`).digest('hex'));
}

function floorToMinute(ms: number): number {
  return Math.floor(ms / MINUTE_MS) * MINUTE_MS;
}

/** Longest time that is kept, ms: what an Int32 holds, 24 days. */
const KEPT_MS_MAX = 2_147_483_647;

function toRow(unit: Unit): Record<string, unknown> {
  const is = (name: Unit['class']): number => (unit.class === name ? 1 : 0);
  return {
    unit: unit.unit,
    minute: clickHouseMs(unit.minuteMs).slice(0, 19),
    source_id: unit.source_id,
    issuer: unit.issuer,
    service: unit.service,
    good: is('good'),
    bad: is('bad'),
    excluded: is('excluded'),
    unclassified: 0,
    last_acceptance_ms: Math.min(unit.lastAcceptanceMs, KEPT_MS_MAX),
    first_denial_ms: Math.min(unit.firstDenialMs, KEPT_MS_MAX),
  };
}
