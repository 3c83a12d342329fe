import type { OktaSystemLogSettings } from '../../runtime/collector_settings.ts';
import type { PullConnector, PullPage } from './pull_runner.ts';
import { askVendor, nextLink, pacing, readSecret, VendorError } from './vendor_http.ts';

/** Events of one page: the most that Okta gives. */
const PAGE_EVENTS = 1_000;
const PATH = '/api/v1/logs';
const LIMITS = { remaining: 'X-Rate-Limit-Remaining', reset: 'X-Rate-Limit-Reset' };

/**
 * The Okta System Log API (GET /api/v1/logs), polled as Okta says: ascending, without an end, and from then on by the `next`
 * link of each page, which is there on the last page too. Such pages come in the order in which Okta stored the events, so
 * that late ones are not missed. The cursor is that link's query.
 */
export function oktaSystemLog(settings: OktaSystemLogSettings): PullConnector {
  const token = readSecret('collector.pull.okta_system_log.token_file', settings.token_file);
  const base = new URL(settings.url);
  return {
    id: 'okta_system_log',
    sourceId: 'okta',
    intervalMs: settings.interval_seconds * 1_000,
    fetchPage: async (cursor, { nowMs, signal }): Promise<PullPage> => {
      const url = new URL(PATH, base);
      url.search = cursor ?? firstQuery(nowMs() - settings.start_hours_ago * 3_600_000);
      const headers = { Accept: 'application/json', Authorization: `SSWS ${token}` };
      const answer = await askVendor(url, { headers }, LIMITS, signal);
      if (!Array.isArray(answer.body)) throw new VendorError('answers with no list of events');
      const records = answer.body as readonly unknown[];
      return {
        records,
        cursor: queryOfNext(answer.headers, base) ?? url.search,
        isLast: records.length < PAGE_EVENTS,
        pacingMs: pacing(answer.headers, LIMITS),
      };
    },
  };
}

function firstQuery(sinceMs: number): string {
  const since = new Date(sinceMs).toISOString();
  return `?${new URLSearchParams({ since, limit: String(PAGE_EVENTS), sortOrder: 'ASCENDING' }).toString()}`;
}

/** The credential goes to the configured host alone, whatever a link says. */
function queryOfNext(headers: Headers, base: URL): string | undefined {
  const next = nextLink(headers);
  if (next === undefined) return undefined;
  if (next.origin !== base.origin || next.pathname !== PATH)
    throw new VendorError('names a next page at another address');
  return next.search;
}
