import { clickHouseMs, param, sql } from '../../model/sql.ts';
import { isoTime, ofTenant, type Scope } from './scope.ts';

/** One alert of one notice that Alertmanager sent. */
export interface AlertNotice {
  readonly group_key: string;
  readonly fingerprint: string;
  readonly starts_at_ms: number;
  readonly receiver: string;
  readonly status: 'firing' | 'resolved';
  readonly alertname: string;
  readonly kind: string;
  readonly severity: string;
  readonly slo: string;
  readonly client_id: string;
  readonly summary: string;
  readonly finding_ids: readonly string[];
}

/** What a receiver was told of one alert, from its beginning to its end. Times are ISO 8601. */
export interface SentAlert {
  readonly alertname: string;
  readonly kind: string;
  readonly severity: string;
  readonly slo: string;
  readonly client_id: string;
  readonly receiver: string;
  readonly summary: string;
  readonly finding_ids: readonly string[];
  readonly starts_at: string;
  /** '' where only its end was told. */
  readonly sent_at: string;
  readonly last_sent_at: string;
  /** '' where its end was not told; a silenced alert that ends is never told of. */
  readonly resolved_at: string;
}

/** Keeps what was sent. Notices that are told again change nothing but the time of the last one. */
export async function writeAlertNotices(
  scope: Scope,
  notices: readonly AlertNotice[],
  nowMs: number,
): Promise<void> {
  const now = clickHouseMs(nowMs);
  await scope.store.insertRows(
    'grantscope.alert_notices',
    notices.map(({ starts_at_ms, ...n }) => ({
      tenant: scope.tenant,
      ...n,
      starts_at: clickHouseMs(starts_at_ms),
      first_sent_at: now,
      last_sent_at: now,
    })),
  );
}

/** What was sent, last sent first. */
export async function listSentAlerts(
  scope: Scope,
  filter: {
    readonly findingId?: string | undefined;
    readonly slo?: string | undefined;
    readonly limit: number;
  },
): Promise<readonly SentAlert[]> {
  const bySlo = filter.slo === undefined ? sql`` : sql` AND slo = ${param.string(filter.slo)}`;
  const byFinding =
    filter.findingId === undefined
      ? sql``
      : sql` HAVING has(finding_ids, ${param.uuid(filter.findingId)})`;
  const rows = await scope.store.query<
    Omit<SentAlert, 'resolved_at' | 'sent_at'> & { sent_at: string; resolved_at: string }
  >(sql`
    SELECT toString(n.alertname) AS alertname, toString(n.kind) AS kind, toString(n.severity) AS severity, toString(n.slo) AS slo,
      n.client_id AS client_id, toString(n.receiver) AS receiver, argMax(n.summary, n.last_sent_at) AS summary,
      arraySort(groupUniqArrayArray(n.finding_ids)) AS finding_ids, n.starts_at AS starts_at,
      minIf(n.first_sent_at, n.status = 'firing') AS sent_at, max(n.last_sent_at) AS last_sent_at,
      minIf(n.first_sent_at, n.status = 'resolved') AS resolved_at
    FROM grantscope.alert_notices AS n WHERE ${ofTenant(scope)}${bySlo}
    GROUP BY n.fingerprint, n.starts_at, n.receiver, n.alertname, n.kind, n.severity, n.slo, n.client_id${byFinding}
    ORDER BY last_sent_at DESC, alertname, receiver, client_id LIMIT ${param.uint(filter.limit)}`);
  const time = (text: string): string => (text.startsWith('1970-') ? '' : isoTime(text));
  return rows.map((row) => ({
    ...row,
    starts_at: isoTime(row.starts_at),
    sent_at: time(row.sent_at),
    last_sent_at: isoTime(row.last_sent_at),
    resolved_at: time(row.resolved_at),
  }));
}
