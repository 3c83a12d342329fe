import { SEVERITIES, type Severity } from '../../model/finding.ts';
import type { Change, Report, ReportKind, WeeklyContent } from '../../model/report.ts';
import {
  countEventsIn,
  errorsByCode,
  errorsBySurface,
  errorsByTime,
  failingClients,
  findingsByRule,
  findingTreatments,
  sentAlerts,
  sentDeliveries,
  type ErrorPair,
  type Span,
} from '../../store/queries/reports.ts';
import type { Scope } from '../../store/queries/scope.ts';
import { changeOf, errorCounts, iso, percentOf, totalOf } from './figures.ts';
import { monthlyContent, type Registration } from './monthly.ts';
import { quarterlyContent } from './quarterly.ts';
import { slosOf } from './slo_periods.ts';

/** Clients and errors that a report lists. */
const CLIENTS_LISTED_MAX = 20;
const ERRORS_LISTED_MAX = 20;

/** What a report is made from, beside the store. */
export interface ReportInput {
  readonly kind: ReportKind;
  readonly span: Span;
  /** The period to compare with. */
  readonly before: Span;
  readonly nowMs: number;
  /** Registered clients; undefined where this process does not know them. */
  readonly registrations: readonly Registration[] | undefined;
}

/** Reads a report from the store. It names clients, rules and scopes; never people, and no text that a person wrote. */
export async function buildReport(scope: Scope, input: ReportInput): Promise<Report> {
  const { span, before } = input;
  return {
    tenant: scope.tenant,
    period: { from: iso(span.fromMs), to: iso(span.toMs) },
    previous: { from: iso(before.fromMs), to: iso(before.toMs) },
    generated_at: iso(input.nowMs),
    events: changeOf(await countEventsIn(scope, span), await countEventsIn(scope, before)),
    content: await contentOf(scope, input),
  };
}

async function contentOf(scope: Scope, input: ReportInput): Promise<Report['content']> {
  switch (input.kind) {
    case 'weekly':
      return weeklyContent(scope, input.span, input.before);
    case 'monthly':
      return monthlyContent(scope, input);
    case 'quarterly':
      return quarterlyContent(scope, input.span, input.before);
  }
}

async function weeklyContent(scope: Scope, span: Span, before: Span): Promise<WeeklyContent> {
  const surfaces = await errorsBySurface(scope, span, before);
  const sum = (of: (pair: ErrorPair) => number): number => surfaces.reduce((t, s) => t + of(s), 0);
  const codes = await errorsByCode(scope, span, before, ERRORS_LISTED_MAX);
  const failing = await failingClients(scope, span, before, CLIENTS_LISTED_MAX);
  const days = await errorsByTime(scope, span, 'day');
  const alerts = await sentAlerts(scope, span);
  return {
    kind: 'weekly',
    auth_errors: {
      current: errorCounts(
        sum((s) => s.requests),
        sum((s) => s.failures),
      ),
      previous: errorCounts(
        sum((s) => s.previousRequests),
        sum((s) => s.previousFailures),
      ),
      by_day: days.map((d) => ({ day: d.name, ...errorCounts(d.requests, d.failures) })),
      by_surface: surfaces.map((s) => ({
        surface: s.name,
        ...errorCounts(s.requests, s.failures),
        previous_failure_percent: percentOf(s.previousFailures, s.previousRequests),
      })),
      by_error: codes.map((c) => ({ error: c.name, ...changeOf(c.current, c.previous) })),
    },
    failing_clients: failing.list.map((c) => ({
      client_id: c.name,
      ...errorCounts(c.requests, c.failures),
      previous_failures: c.previousFailures,
      change_percent: changeOf(c.failures, c.previousFailures).change_percent,
    })),
    failing_clients_not_listed: failing.more,
    slos: await slosOf(scope, span, before),
    findings: await findingCounts(scope, span, before),
    notifications: {
      alerts: alerts.map(({ firing, ...alert }) => ({ ...alert, still_firing: firing })),
      deliveries: [...(await sentDeliveries(scope, span))],
    },
  };
}

async function findingCounts(
  scope: Scope,
  span: Span,
  before: Span,
): Promise<WeeklyContent['findings']> {
  const rules = await findingsByRule(scope, span, before);
  const bySeverity = (severity: Severity): Change =>
    totalOf(rules.filter((r) => r.severity === severity));
  return {
    by_severity: [...SEVERITIES]
      .reverse()
      .map((severity) => ({ severity, ...bySeverity(severity) })),
    by_rule: rules.map((r) => ({
      rule_id: r.name,
      severity: r.severity,
      open: r.open,
      ...changeOf(r.current, r.previous),
    })),
    ...(await findingTreatments(scope, span)),
  };
}
