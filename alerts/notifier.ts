import type { Counter, Gauge } from 'prom-client';
import { clickHouseMs, param, sql } from '../model/sql.ts';
import type { Clock } from '../runtime/clock.ts';
import { GrantscopeError } from '../runtime/errors.ts';
import type { Log } from '../runtime/log.ts';
import type { Metrics } from '../runtime/metrics.ts';
import type { Store } from '../store/client.ts';
import type { AlertmanagerClient, PostableAlert } from './alertmanager_client.ts';
import type { DesiredAlert } from './desired_alerts.ts';

/** A firing alert is sent again after this long, so that Alertmanager keeps it. Milliseconds. */
export const RESEND_INTERVAL_MS = 60_000;
/** How long a sent alert is valid without being sent again: outlasts a few lost rounds. Milliseconds. */
export const VALID_FOR_MS = 300_000;
/** Alerts in one request. */
export const BATCH_ALERTS_MAX = 64;
/** First and longest pause after Alertmanager could not take alerts. Milliseconds. */
export const BACKOFF_MS = { first: 1_000, longest: 60_000 } as const;

/** What should fire now; `isTruncated` where more is open than one round looks at. */
export interface Desired {
  readonly alerts: readonly DesiredAlert[];
  readonly isTruncated: boolean;
}

export interface NotifierOptions {
  readonly store: Store;
  readonly tenant: string;
  readonly client: AlertmanagerClient;
  readonly clock: Clock;
  readonly metrics: Metrics;
  readonly log: Log;
  readonly desired: () => Promise<Desired>;
}

/** An alert that Alertmanager has been told of. */
interface OpenAlert {
  readonly alert: DesiredAlert;
  readonly firstSentMs: number;
  readonly lastSentMs: number;
}

interface Outgoing {
  readonly alert: DesiredAlert;
  readonly isResolved: boolean;
}

/**
 * Keeps Alertmanager in step with what should fire. Nothing is queued: each round compares what should fire with
 * what was sent, so that an Alertmanager that was away for an hour gets the present and not an hour of history, and
 * memory is bounded by what is open. What was sent is kept in `grantscope.notifications`, so that a
 * restart resolves what it must.
 */
export class Notifier {
  readonly #options: NotifierOptions;
  readonly #open = new Map<string, OpenAlert>();
  /** Alerts that Alertmanager refused as malformed, by key: content that it refused. */
  readonly #refused = new Map<string, string>();
  readonly #sent: Counter<'kind' | 'state'>;
  readonly #failures: Counter<'reason'>;
  readonly #openGauge: Gauge;
  readonly #truncated: Counter;
  #isLoaded = false;
  #backoffMs = 0;
  #notBeforeMs = 0;

  constructor(options: NotifierOptions) {
    this.#options = options;
    const { metrics } = options;
    this.#sent = metrics.counter(
      'grantscope_notifications_sent_total',
      'Alerts that Alertmanager took, resends included.',
      ['kind', 'state'],
    );
    this.#failures = metrics.counter(
      'grantscope_notification_failures_total',
      'Requests to Alertmanager that failed: unreachable (tried again) or refused (not tried again).',
      ['reason'],
    );
    this.#openGauge = metrics.gauge(
      'grantscope_notifications_open',
      'Alerts that are firing in Alertmanager by our account.',
    );
    this.#truncated = metrics.counter(
      'grantscope_notifier_rounds_truncated_total',
      'Rounds in which more findings were open than one round looks at.',
    );
  }

  /** Alerts that were firing when the process last ran. Read once; later calls return the same. */
  async load(): Promise<readonly DesiredAlert[]> {
    if (!this.#isLoaded) {
      const { store, tenant } = this.#options;
      const rows = await store.query<NotificationRow>(
        sql`SELECT alert_key, kind, labels, annotations, finding_ids, toUnixTimestamp64Milli(starts_at) AS starts_ms, toUnixTimestamp64Milli(first_sent_at) AS first_ms FROM grantscope.notifications FINAL WHERE tenant = ${param.string(tenant)} AND state = 'firing'`,
      );
      // Sent at time 0: due at once, so that Alertmanager hears of it before it expires there.
      for (const row of rows)
        this.#open.set(row.alert_key, {
          alert: alertOf(row),
          firstSentMs: Number(row.first_ms),
          lastSentMs: 0,
        });
      this.#isLoaded = true;
    }
    return [...this.#open.values()].map((o) => o.alert);
  }

  /** One comparison and what follows from it. Throws what the store throws; never for Alertmanager's sake. */
  async round(): Promise<void> {
    const now = this.#options.clock.nowMs();
    if (now < this.#notBeforeMs) return;
    await this.load();
    const desired = await this.#options.desired();
    if (desired.isTruncated) this.#truncated.inc();
    const outgoing = this.#outgoing(desired, now);
    for (let at = 0; at < outgoing.length; at += BATCH_ALERTS_MAX) {
      const isDelivered = await this.#deliver(outgoing.slice(at, at + BATCH_ALERTS_MAX), now);
      if (!isDelivered) break;
    }
    this.#openGauge.set(this.#open.size);
  }

  #outgoing(desired: Desired, now: number): readonly Outgoing[] {
    const wanted = new Map(desired.alerts.map((a) => [a.key, a]));
    for (const key of this.#refused.keys()) if (!wanted.has(key)) this.#refused.delete(key);
    const firing = desired.alerts.filter((alert) => {
      if (this.#refused.get(alert.key) === contentOf(alert)) return false;
      const open = this.#open.get(alert.key);
      if (open === undefined) return true;
      const isDue = now - open.lastSentMs >= RESEND_INTERVAL_MS;
      return isDue || contentOf(open.alert) !== contentOf(alert);
    });
    const resolved = [...this.#open.values()]
      .map((o) => o.alert)
      .filter((a) => !wanted.has(a.key))
      // Beyond the limit, a finding that was not read may still be open.
      .filter((a) => !(desired.isTruncated && a.kind === 'detection'));
    return [
      ...firing.map((alert) => ({ alert, isResolved: false })),
      ...resolved.map((alert) => ({ alert, isResolved: true })),
    ];
  }

  /** False where Alertmanager cannot take anything now. */
  async #deliver(batch: readonly Outgoing[], now: number): Promise<boolean> {
    try {
      await this.#options.client.post(batch.map((o) => toPostable(o, now)));
    } catch (error) {
      if (!(error instanceof GrantscopeError)) throw error;
      if (error.retriable) return this.#backOff(error, now);
      return this.#refuse(batch, error, now);
    }
    this.#backoffMs = 0;
    await this.#remember(batch, now);
    return true;
  }

  #backOff(error: GrantscopeError, now: number): false {
    this.#failures.inc({ reason: 'unreachable' });
    const next = this.#backoffMs === 0 ? BACKOFF_MS.first : this.#backoffMs * 2;
    this.#backoffMs = Math.min(next, BACKOFF_MS.longest);
    this.#notBeforeMs = now + this.#backoffMs;
    this.#options.log.warn({ err: error, retry_in_ms: this.#backoffMs }, 'alerts were not sent');
    return false;
  }

  /** One malformed alert must not keep the others back: they are sent one by one. */
  async #refuse(batch: readonly Outgoing[], error: GrantscopeError, now: number): Promise<boolean> {
    const [only] = batch;
    if (batch.length > 1) {
      for (const one of batch) if (!(await this.#deliver([one], now))) return false;
      return true;
    }
    if (only === undefined) return true;
    this.#failures.inc({ reason: 'refused' });
    this.#refused.set(only.alert.key, contentOf(only.alert));
    this.#open.delete(only.alert.key);
    this.#options.log.error(
      { err: error, alertname: only.alert.labels['alertname'] },
      'Alertmanager refused an alert; it is sent again when it changes',
    );
    return true;
  }

  async #remember(batch: readonly Outgoing[], now: number): Promise<void> {
    const rows: Record<string, unknown>[] = [];
    for (const { alert, isResolved } of batch) {
      const before = this.#open.get(alert.key);
      const firstSentMs = before?.firstSentMs ?? now;
      this.#sent.inc({ kind: alert.kind, state: isResolved ? 'resolved' : 'firing' });
      this.#refused.delete(alert.key);
      if (isResolved) this.#open.delete(alert.key);
      else this.#open.set(alert.key, { alert, firstSentMs, lastSentMs: now });
      // A plain resend changes nothing worth keeping.
      if (isResolved || before === undefined || contentOf(before.alert) !== contentOf(alert))
        rows.push(toRow(this.#options.tenant, alert, isResolved, firstSentMs, now));
    }
    await this.#options.store.insertRows('grantscope.notifications', rows);
  }
}

interface NotificationRow {
  readonly alert_key: string;
  readonly kind: 'detection' | 'slo';
  readonly labels: Record<string, string>;
  readonly annotations: Record<string, string>;
  readonly finding_ids: string[];
  readonly starts_ms: string | number;
  readonly first_ms: string | number;
}

function alertOf(row: NotificationRow): DesiredAlert {
  return {
    key: row.alert_key,
    kind: row.kind,
    labels: row.labels,
    annotations: row.annotations,
    startsAtMs: Number(row.starts_ms),
    findingIds: row.finding_ids,
    url: row.annotations['investigation_url'] ?? '',
  };
}

/** What makes an alert worth sending before its time: which findings it stands for. Rates in a summary change all the time. */
function contentOf(alert: DesiredAlert): string {
  return alert.kind === 'slo' ? alert.key : JSON.stringify(alert.annotations);
}

function toPostable({ alert, isResolved }: Outgoing, now: number): PostableAlert {
  return {
    labels: alert.labels,
    annotations: alert.annotations,
    // Alertmanager refuses a start after the end, which a clock that runs ahead could make.
    startsAt: new Date(Math.min(alert.startsAtMs, now)).toISOString(),
    endsAt: new Date(isResolved ? now : now + VALID_FOR_MS).toISOString(),
    generatorURL: alert.url,
  };
}

function toRow(
  tenant: string,
  alert: DesiredAlert,
  isResolved: boolean,
  firstSentMs: number,
  now: number,
): Record<string, unknown> {
  const time = (ms: number): string => clickHouseMs(Math.round(ms));
  return {
    tenant,
    alert_key: alert.key,
    kind: alert.kind,
    alertname: alert.labels['alertname'] ?? '',
    labels: alert.labels,
    annotations: alert.annotations,
    finding_ids: alert.findingIds,
    state: isResolved ? 'resolved' : 'firing',
    starts_at: time(alert.startsAtMs),
    first_sent_at: time(firstSentMs),
    resolved_at: time(isResolved ? now : 0),
    updated_at: time(now),
    version: Math.round(now),
  };
}
