import { FINDING_FAMILIES, SEVERITIES } from '../../model/finding.ts';
import { countFindingsBy, listFindings } from '../../store/queries/findings.ts';
import { readSlos } from '../../store/queries/slos.ts';
import { countEvents, readSources } from '../../store/queries/sources.ts';
import { defineRoutes, jsonRoute } from '../define_route.ts';
import { FindingView } from '../schemas/finding_view.ts';
import { Overview } from '../schemas/overview_view.ts';

/** Findings on the first screen. */
const TOP_MAX = 8;
const WEEK_MS = 7 * 86_400_000;

/** Every key of the vocabulary, zero where nothing was counted. */
function counts<K extends string>(
  keys: readonly K[],
  of: ReadonlyMap<string, number>,
): Record<K, number> {
  return Object.fromEntries(keys.map((k) => [k, of.get(k) ?? 0])) as Record<K, number>;
}

export default defineRoutes({
  id: 'overview',
  description: 'The first screen.',
  routes: [
    jsonRoute({
      method: 'get',
      path: '/api/v1/overview',
      operationId: 'getOverview',
      summary: 'Open findings, service levels and sources at a glance.',
      response: Overview,
      handle: async ({ scope, runtime }) => {
        const nowMs = runtime.clock.nowMs();
        const [by, top, slos, sources, events] = await Promise.all([
          countFindingsBy(scope, 'open'),
          listFindings(
            scope,
            { state: ['open'] },
            { by: 'severity', descending: true },
            { limit: TOP_MAX },
          ),
          readSlos(scope),
          readSources(scope, { sinceMs: nowMs - WEEK_MS, nowMs }),
          countEvents(scope),
        ]);
        const { host, port } = runtime.config.collectorListen;
        return {
          now: new Date(nowMs).toISOString(),
          tenant: scope.tenant,
          events,
          last_event_time:
            sources
              .map((s) => s.last_event_time)
              .sort()
              .at(-1) ?? null,
          open_findings: {
            total: [...by.severity.values()].reduce((sum, n) => sum + n, 0),
            by_severity: counts(SEVERITIES, by.severity),
            by_family: counts(FINDING_FAMILIES, by.family),
            top: top.items.map((f) => FindingView.parse(f)),
          },
          slos,
          sources,
          collector: `http://${host.includes(':') ? `[${host}]` : host}:${port}`,
        };
      },
    }),
  ],
});
