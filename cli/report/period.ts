import type { ReportKind } from '../../model/report.ts';
import { GrantscopeError } from '../../runtime/errors.ts';
import type { Span } from '../../store/queries/reports.ts';

const DAY_MS = 86_400_000;
const MINUTE_MS = 60_000;
/** Longest period of a report. */
const DAYS_MAX = 400;
/** Days from the epoch, a Thursday, back to the Monday of its week. */
const EPOCH_WEEKDAY = 3;

const MONTHS: Readonly<Record<Exclude<ReportKind, 'weekly'>, number>> = {
  monthly: 1,
  quarterly: 3,
};

/** The start of the week (Monday), month or quarter that holds a moment, in UTC. */
function startOf(kind: ReportKind, ms: number): number {
  if (kind === 'weekly') {
    const day = Math.floor(ms / DAY_MS);
    return (day - ((((day + EPOCH_WEEKDAY) % 7) + 7) % 7)) * DAY_MS;
  }
  const date = new Date(ms);
  const month = date.getUTCMonth();
  return Date.UTC(date.getUTCFullYear(), month - (month % MONTHS[kind]), 1);
}

/** The same moment a period later (`count` > 0) or earlier; a day that a month lacks is its last one. */
function shift(kind: ReportKind, ms: number, count: number): number {
  if (kind === 'weekly') return ms + count * 7 * DAY_MS;
  const date = new Date(ms);
  const month = date.getUTCMonth() + count * MONTHS[kind];
  const lastDay = new Date(Date.UTC(date.getUTCFullYear(), month + 1, 0)).getUTCDate();
  const first = Date.UTC(date.getUTCFullYear(), month, Math.min(date.getUTCDate(), lastDay));
  return first + (ms - Math.floor(ms / DAY_MS) * DAY_MS);
}

/**
 * The period of a report and the one before, to compare with. Without `from` and `to`: the last complete week from Monday, month or
 * quarter in UTC. With one of them: one such length from or up to it. With both: that stretch and, before it, another
 * of its length. Throws `invalid_argument`.
 */
export function periodOf(
  kind: ReportKind,
  given: { readonly from?: string | undefined; readonly to?: string | undefined },
  nowMs: number,
): { readonly span: Span; readonly before: Span } {
  const from = given.from === undefined ? undefined : Date.parse(given.from);
  const to = given.to === undefined ? undefined : Date.parse(given.to);
  if (from !== undefined && to !== undefined) {
    const span = checked(from, to);
    const before = { fromMs: from - (to - from), toMs: from };
    return isOne(kind, from, to) ? { span, before: one(kind, from) } : { span, before };
  }
  const end = to ?? (from === undefined ? startOf(kind, nowMs) : shift(kind, from, 1));
  const start = from ?? shift(kind, end, -1);
  return { span: checked(start, end), before: one(kind, start) };
}

/** Whether the stretch is a month or quarter by the calendar: the one before may be of another length. */
function isOne(kind: ReportKind, from: number, to: number): boolean {
  return shift(kind, from, 1) === to;
}

function one(kind: ReportKind, end: number): Span {
  return { fromMs: shift(kind, end, -1), toMs: end };
}

function checked(fromMs: number, toMs: number): Span {
  if (fromMs % MINUTE_MS !== 0 || toMs % MINUTE_MS !== 0)
    throw new GrantscopeError('invalid_argument', '--from, --to: must be whole minutes');
  if (toMs <= fromMs)
    throw new GrantscopeError('invalid_argument', '--from, --to: from must be before to');
  if (toMs - fromMs > DAYS_MAX * DAY_MS)
    throw new GrantscopeError('invalid_argument', `--from, --to: at most ${DAYS_MAX} days apart`);
  return { fromMs, toMs };
}
