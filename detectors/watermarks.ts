import { clickHouseMs, param, sql } from '../model/sql.ts';
import type { Store } from '../store/client.ts';
import { clickHouseTime } from '../store/insert.ts';
import { nsOfClickHouseTime } from '../store/read_events.ts';

/** A detector's durable progress in ingest time, ns. */
export interface Watermark {
  readonly rule_id: string;
  readonly rule_version: number;
  /** Everything up to here was evaluated when it was surely visible. */
  readonly sweptTo: bigint;
  /** Everything that was visible up to here was looked at once. */
  readonly seenTo: bigint;
}

/** The newest watermark of each rule and version. */
export async function readWatermarks(store: Store, tenant: string): Promise<readonly Watermark[]> {
  const rows = await store.query<{
    rule_id: string;
    rule_version: number;
    swept: string;
    seen: string;
  }>(sql`
    SELECT rule_id, rule_version, max(swept_to) AS swept, max(seen_to) AS seen FROM grantscope.detector_watermarks
    WHERE tenant = ${param.string(tenant)} GROUP BY rule_id, rule_version`);
  return rows.map((r) => ({
    rule_id: r.rule_id,
    rule_version: r.rule_version,
    sweptTo: nsOfClickHouseTime(r.swept),
    seenTo: nsOfClickHouseTime(r.seen),
  }));
}

export async function writeWatermarks(
  store: Store,
  tenant: string,
  watermarks: readonly Watermark[],
  nowMs: number,
): Promise<void> {
  const updated_at = clickHouseMs(nowMs);
  await store.insertRows(
    'grantscope.detector_watermarks',
    watermarks.map((w) => ({
      tenant,
      rule_id: w.rule_id,
      rule_version: w.rule_version,
      swept_to: clickHouseTime(w.sweptTo).slice(0, 26),
      seen_to: clickHouseTime(w.seenTo).slice(0, 26),
      updated_at,
    })),
  );
}
