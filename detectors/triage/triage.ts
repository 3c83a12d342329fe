import type { Counter, Gauge } from 'prom-client';
import { param, sql, type Sql } from '../../model/sql.ts';
import type { SuppressionRequest } from '../../model/suppression.ts';
import type { FindingStatus } from '../../model/triage.ts';
import type { Clock } from '../../runtime/clock.ts';
import type { Metrics } from '../../runtime/metrics.ts';
import type { Store } from '../../store/client.ts';
import {
  activeSuppressions,
  syncConfiguredSuppressions,
} from '../../store/queries/suppressions.ts';
import { readStatuses, writeSteps } from '../../store/queries/triage.ts';
import { readCauses, withHosts } from './causes.ts';
import { decide, type TriagedFinding } from './decide.ts';

/** Pause between two looks at everything that is open, ms: when a suppression ends or a cause shows up. */
export const FULL_ROUND_INTERVAL_MS = 10_000;
/** Findings that are read and decided at once. */
const FINDINGS_PER_PAGE = 2_000;

export interface TriageOptions {
  readonly store: Store;
  readonly tenant: string;
  readonly clock: Clock;
  readonly metrics: Metrics;
  /** Suppressions of grantscope.yaml. */
  readonly configured: readonly SuppressionRequest[];
}

/**
 * Follows the life of every finding: compares what the detectors wrote with the last step of its history, applies
 * suppressions and inhibitions, and writes a step where something changed. Nothing is queued and all state is in
 * the store, so a restart goes on where it was, and two processes at once write the same steps.
 */
export class Triage {
  readonly #options: TriageOptions;
  readonly #steps: Counter<'change'>;
  readonly #hidden: Gauge<'treatment'>;
  #isSynced = false;
  #nextFullMs = 0;

  constructor(options: TriageOptions) {
    this.#options = options;
    const { metrics } = options;
    this.#steps = metrics.counter(
      'grantscope_triage_steps_total',
      'Steps in the life of findings, by what happened.',
      ['change'],
    );
    this.#hidden = metrics.gauge(
      'grantscope_triage_open_findings',
      'Open findings, by treatment: active ones are notified.',
      ['treatment'],
    );
  }

  /**
   * Decides about these findings, and from time to time about all that are open or were never looked at. Gives the
   * steps that it wrote.
   */
  async round(changedIds: readonly string[]): Promise<readonly FindingStatus[]> {
    const { store, tenant, clock, configured } = this.#options;
    const nowMs = clock.nowMs();
    if (!this.#isSynced) {
      await syncConfiguredSuppressions({ store, tenant }, configured, nowMs);
      this.#isSynced = true;
    }
    if (nowMs >= this.#nextFullMs) {
      const steps = await this.#decideAll(openOrUnseen(tenant));
      this.#nextFullMs = nowMs + FULL_ROUND_INTERVAL_MS;
      await this.#countOpen();
      return steps;
    }
    const steps: FindingStatus[] = [];
    const ids = [...new Set(changedIds)].sort();
    for (let at = 0; at < ids.length; at += FINDINGS_PER_PAGE) {
      const page = param.uuids(ids.slice(at, at + FINDINGS_PER_PAGE));
      steps.push(...(await this.#decideAll(sql`finding_id IN ${page}`)));
    }
    return steps;
  }

  async #decideAll(which: Sql): Promise<readonly FindingStatus[]> {
    const { store, tenant, clock } = this.#options;
    const nowMs = clock.nowMs();
    const suppressions = await activeSuppressions({ store, tenant }, nowMs);
    const steps: FindingStatus[] = [];
    let after: string | undefined;
    for (;;) {
      const findings = await readTriaged(store, tenant, which, after);
      const statuses = await readStatuses(
        { store, tenant },
        findings.map((f) => f.finding_id),
      );
      const causes = await readCauses(store, tenant, findings, nowMs);
      const placed = await withHosts(store, tenant, findings, causes);
      const page = placed.flatMap((finding) => {
        const before = statuses.get(finding.finding_id);
        return decide(finding, before, { suppressions, causes, nowMs }) ?? [];
      });
      await writeSteps({ store, tenant }, page);
      for (const step of page) this.#steps.inc({ change: step.change });
      steps.push(...page);
      after = findings.at(-1)?.finding_id;
      if (findings.length < FINDINGS_PER_PAGE) return steps;
    }
  }

  async #countOpen(): Promise<void> {
    const { store, tenant } = this.#options;
    const rows = await store.query<{ treatment: string; n: number }>(
      sql`SELECT toString(treatment) AS treatment, toUInt32(count()) AS n FROM grantscope.finding_status FINAL WHERE tenant = ${param.string(tenant)} AND state = 'open' GROUP BY treatment`,
    );
    for (const treatment of ['active', 'suppressed', 'inhibited'])
      this.#hidden.set({ treatment }, rows.find((r) => r.treatment === treatment)?.n ?? 0);
  }
}

function openOrUnseen(tenant: string): Sql {
  return sql`(state = 'open' OR (finding_id, toString(state)) NOT IN (SELECT finding_id, toString(state) FROM grantscope.finding_status FINAL WHERE tenant = ${param.string(tenant)}))`;
}

interface Row extends Omit<TriagedFinding, 'firstMs' | 'lastMs'> {
  readonly first_ms: string | number;
  readonly last_ms: string | number;
}

async function readTriaged(
  store: Store,
  tenant: string,
  which: Sql,
  after: string | undefined,
): Promise<readonly TriagedFinding[]> {
  const beyond = after === undefined ? sql`` : sql` AND finding_id > ${param.uuid(after)}`;
  const rows = await store.query<Row>(
    sql`SELECT finding_id, rule_id, severity, verdict, state, entity_type, entity_ref, client_id, issuer, networks, sources, toUnixTimestamp64Milli(first_event_time) AS first_ms, toUnixTimestamp64Milli(last_event_time) AS last_ms FROM grantscope.findings FINAL WHERE tenant = ${param.string(tenant)} AND ${which}${beyond} ORDER BY finding_id LIMIT ${param.uint(FINDINGS_PER_PAGE)}`,
  );
  return rows.map(({ first_ms, last_ms, ...rest }) => ({
    ...rest,
    firstMs: Number(first_ms),
    lastMs: Number(last_ms),
  }));
}
