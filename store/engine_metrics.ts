import { param, sql } from '../model/sql.ts';
import type { Metrics } from '../runtime/metrics.ts';
import type { Store } from './client.ts';

/** What the engine calls it, and what we call it. */
const MEMORY: Readonly<Record<string, string>> = {
  MemoryTracking: 'process',
  MergesMutationsMemoryTracking: 'merges',
  MarkCacheBytes: 'marks',
  IndexMarkCacheBytes: 'index_marks',
  PrimaryIndexCacheBytes: 'primary_keys',
  QueryConditionCacheBytes: 'query_conditions',
  CompiledExpressionCacheBytes: 'expressions',
};
const PARTS: Readonly<Record<string, string>> = {
  PartsActive: 'active',
  PartsOutdated: 'outdated',
};

/** What the embedded engine holds in memory and on disk, read when the metrics are. A server says it itself. */
export function registerEngineMetrics(metrics: Metrics, store: Store): void {
  if (!store.isEmbedded) return;
  const read = async (
    names: Readonly<Record<string, string>>,
  ): Promise<Readonly<Record<string, number>>> => {
    const rows = await store.query<{ metric: string; value: number }>(
      sql`SELECT metric, toFloat64(value) AS value FROM system.metrics WHERE metric IN ${param.strings(Object.keys(names))}`,
    );
    return Object.fromEntries(rows.map((r) => [names[r.metric] ?? r.metric, r.value]));
  };
  metrics.readGauges(
    'grantscope_engine_memory_bytes',
    'Memory as the embedded engine counts it: of the whole process, in merges, and in its caches, which are bounded.',
    'of',
    () => read(MEMORY),
  );
  metrics.readGauges(
    'grantscope_engine_parts',
    'Parts of tables that the embedded engine holds; many active ones mean that merges do not keep up.',
    'state',
    () => read(PARTS),
  );
}
