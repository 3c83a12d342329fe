import type { Gauge } from 'prom-client';
import type { TrackedSilence } from '../model/silence.ts';
import type { Clock } from '../runtime/clock.ts';
import { GrantscopeError } from '../runtime/errors.ts';
import type { Log } from '../runtime/log.ts';
import type { Metrics } from '../runtime/metrics.ts';
import {
  liveSilences,
  writeSilenceReports,
  type SilenceReport,
} from '../store/queries/silences.ts';
import type { Scope } from '../store/queries/scope.ts';
import type { AlertmanagerClient, HeldSilence, MutedAlert } from './alertmanager_client.ts';

/** Muted alerts that a silence lists. */
export const MUTED_LISTED_MAX = 50;

export interface SilenceKeeperOptions {
  readonly scope: Scope;
  readonly client: AlertmanagerClient;
  readonly clock: Clock;
  readonly metrics: Metrics;
  readonly log: Log;
}

/** What is known of Alertmanager in one round. */
interface Held {
  readonly silences: readonly HeldSilence[];
  readonly muted: readonly MutedAlert[];
}

/**
 * Keeps Alertmanager's silences in step with those that were asked for here. Nothing is queued: each round compares, so that
 * an Alertmanager that was away, or that lost its storage, gets what should be in force. Each silence carries its id here
 * in its comment, by which a round that was cut off finds it again.
 */
export class SilenceKeeper {
  readonly #options: SilenceKeeperOptions;
  readonly #failing: Gauge;

  constructor(options: SilenceKeeperOptions) {
    this.#options = options;
    this.#failing = options.metrics.gauge(
      'grantscope_silences_not_in_force',
      'Silences that were asked for and that Alertmanager does not have.',
    );
  }

  /** One comparison and what follows from it. Throws what the store throws; never for Alertmanager's sake. */
  async round(): Promise<void> {
    const { scope, clock } = this.#options;
    const now = clock.nowMs();
    const wanted = await liveSilences(scope, now);
    if (wanted.length === 0) {
      this.#failing.set(0);
      return;
    }
    const reports = await this.#compare(wanted);
    const before = new Map(wanted.map((s) => [s.silence_id, s]));
    const changed = reports.filter((r) => isNews(before.get(r.silence_id), r));
    if (changed.length > 0) await writeSilenceReports(scope, changed, now);
    const isFailing = (r: SilenceReport): boolean => ['refused', 'unreachable'].includes(r.status);
    this.#failing.set(reports.filter(isFailing).length);
  }

  async #compare(wanted: readonly TrackedSilence[]): Promise<readonly SilenceReport[]> {
    const { client } = this.#options;
    let held: Held;
    try {
      held = { silences: await client.silences(), muted: await client.mutedAlerts() };
    } catch (error) {
      return wanted.map((s) => this.#failed(s, error));
    }
    const reports: SilenceReport[] = [];
    for (const silence of wanted) {
      try {
        reports.push(await this.#settle(silence, held));
      } catch (error) {
        reports.push(this.#failed(silence, error));
      }
    }
    return reports;
  }

  async #settle(silence: TrackedSilence, held: Held): Promise<SilenceReport> {
    const { client } = this.#options;
    const mine = held.silences.filter((s) => s.comment.endsWith(markOf(silence)));
    const living = mine.find((s) => s.state !== 'expired');
    const known = mine.find((s) => s.id === silence.alertmanager_id);
    const report = { silence_id: silence.silence_id, error: '', mutes: [] };
    if (silence.withdrawn_at !== '') {
      if (living !== undefined) await client.expireSilence(living.id);
      return { ...report, status: 'withdrawn', alertmanager_id: silence.alertmanager_id };
    }
    if (living !== undefined) {
      const mutes = held.muted.filter((a) => a.silencedBy.includes(living.id));
      return {
        ...report,
        status: 'accepted',
        alertmanager_id: living.id,
        mutes: mutes.slice(0, MUTED_LISTED_MAX).map((a) => a.labels),
      };
    }
    // Refused once, refused always: a silence never changes.
    if (silence.status === 'refused') return { ...silence, status: 'refused' };
    if (known !== undefined || silence.status === 'ended')
      return {
        ...report,
        status: 'ended',
        alertmanager_id: silence.alertmanager_id,
        error: 'it was ended in Alertmanager',
      };
    const id = await client.addSilence({
      matchers: silence.matchers,
      startsAt: silence.starts_at,
      endsAt: silence.ends_at,
      createdBy: silence.created_by,
      comment: `${silence.reason}${markOf(silence)}`,
    });
    return { ...report, status: 'accepted', alertmanager_id: id };
  }

  #failed(silence: TrackedSilence, error: unknown): SilenceReport {
    if (!(error instanceof GrantscopeError)) throw error;
    this.#options.log.warn({ err: error, silence_id: silence.silence_id }, 'a silence is not set');
    return {
      silence_id: silence.silence_id,
      // A withdrawal is tried again whatever the answer was.
      status: error.retriable || silence.withdrawn_at !== '' ? 'unreachable' : 'refused',
      alertmanager_id: silence.alertmanager_id,
      error: error.message,
      mutes: [],
    };
  }
}

/** What tells a silence of ours in Alertmanager, at the end of its comment. */
function markOf(silence: TrackedSilence): string {
  return ` [grantscope ${silence.silence_id}]`;
}

function isNews(before: TrackedSilence | undefined, now: SilenceReport): boolean {
  return (
    before === undefined ||
    before.status !== now.status ||
    before.alertmanager_id !== now.alertmanager_id ||
    before.error !== now.error ||
    JSON.stringify(before.mutes) !== JSON.stringify(now.mutes)
  );
}
