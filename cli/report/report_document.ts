import type {
  MonthlyContent,
  QuarterlyContent,
  Report,
  SloPeriod,
  WeeklyContent,
} from '../../model/report.ts';
import { shownDuration } from '../duration.ts';
import { data, heading, paragraph, table, type Block, type Cell } from './document.ts';

const TITLES = { weekly: 'Weekly', monthly: 'Monthly', quarterly: 'Quarterly' } as const;

/** A report as a document for people. */
export function reportDocument(report: Report): readonly Block[] {
  const { content, period, previous, events } = report;
  const from = `${minute(period.from)} to ${minute(period.to)}`;
  return [
    heading(1, `${TITLES[content.kind]} report`),
    paragraph(
      'Tenant ',
      data(report.tenant),
      `, ${from} (UTC), compared with ${minute(previous.from)} to ${minute(previous.to)}.`,
    ),
    paragraph(
      `${events.current} events, ${events.previous} in the period before (${signed(events.change_percent)}). Written ${minute(report.generated_at)}.`,
    ),
    ...contentBlocks(content),
  ];
}

function contentBlocks(content: Report['content']): readonly Block[] {
  switch (content.kind) {
    case 'weekly':
      return weeklyBlocks(content);
    case 'monthly':
      return monthlyBlocks(content);
    case 'quarterly':
      return quarterlyBlocks(content);
  }
}

/** `2026-01-31 12:00`, in UTC. */
export function minute(iso: string): string {
  return iso.slice(0, 16).replace('T', ' ');
}

/** `2026-01-31 12:00:05.000`, in UTC. */
export function momentText(iso: string): string {
  return iso.slice(0, 23).replace('T', ' ').replace('Z', '');
}

export function moment(iso: string | null): Cell {
  return iso === null ? null : momentText(iso);
}

function signed(change: number | null): string {
  if (change === null) return 'nothing to compare with';
  return `${change > 0 ? '+' : ''}${change} %`;
}

const change = (value: number | null): Cell => (value === null ? null : signed(value));
export const percent = (value: number | null): Cell => (value === null ? null : `${value} %`);

/** Seconds in the unit that reads best. */
export function durationText(seconds: number): string {
  return seconds < 1 ? `${seconds} s` : shownDuration(seconds * 1_000);
}

export function duration(seconds: number | null): Cell {
  return seconds === null ? null : durationText(seconds);
}

function weeklyBlocks(c: WeeklyContent): readonly Block[] {
  return [
    ...errorBlocks(c),
    ...clientBlocks(c),
    ...sloBlocks(c.slos),
    ...findingBlocks(c),
    ...notificationBlocks(c),
  ];
}

function errorBlocks({ auth_errors: e }: WeeklyContent): readonly Block[] {
  const total = (counts: typeof e.current): string =>
    counts.failure_percent === null
      ? 'no request'
      : `${counts.failures} of ${counts.requests} (${counts.failure_percent} %)`;
  return [
    heading(2, 'Auth errors'),
    paragraph(`Failed requests: ${total(e.current)}; in the period before: ${total(e.previous)}.`),
    table(
      ['day', 'requests', 'failures', 'share'],
      e.by_day.map((d) => [d.day, d.requests, d.failures, percent(d.failure_percent)]),
      'No request was seen on any day.',
    ),
    table(
      ['where', 'requests', 'failures', 'share', 'share before'],
      e.by_surface.map((s) => [
        s.surface.replaceAll('_', ' '),
        s.requests,
        s.failures,
        percent(s.failure_percent),
        percent(s.previous_failure_percent),
      ]),
      'No request was seen.',
    ),
    table(
      ['error', 'failures', 'before', 'change'],
      e.by_error.map((x) => [data(x.error), x.current, x.previous, change(x.change_percent)]),
      'No request failed.',
    ),
  ];
}

function clientBlocks(c: WeeklyContent): readonly Block[] {
  const more = c.failing_clients_not_listed;
  return [
    heading(2, 'Clients with most failures'),
    table(
      ['client', 'requests', 'failures', 'share', 'failures before', 'change'],
      c.failing_clients.map((f) => [
        data(f.client_id),
        f.requests,
        f.failures,
        percent(f.failure_percent),
        f.previous_failures,
        change(f.change_percent),
      ]),
      'No request of a known client failed.',
    ),
    ...(more > 0 ? [paragraph(`And ${more} more clients with failures.`)] : []),
  ];
}

function sloBlocks(slos: readonly SloPeriod[]): readonly Block[] {
  return [
    heading(2, 'SLO budgets'),
    table(
      [
        'SLO',
        'state',
        'objective',
        'good share',
        'bad',
        'bad before',
        'budget spent in the period',
        'budget left',
      ],
      slos.map((s) => [
        s.slo_id,
        s.state,
        percent(s.objective_percent),
        percent(s.good_percent),
        s.bad,
        s.previous_bad,
        percent(s.budget_spent_percent),
        percent(s.budget_remaining_percent),
      ]),
      'No SLO has been computed.',
    ),
  ];
}

function findingBlocks({ findings: f }: WeeklyContent): readonly Block[] {
  return [
    heading(2, 'Findings'),
    paragraph(`${f.active} active, ${f.suppressed} suppressed, ${f.inhibited} inhibited.`),
    table(
      ['severity', 'findings', 'before', 'change'],
      f.by_severity.map((s) => [s.severity, s.current, s.previous, change(s.change_percent)]),
      '',
    ),
    table(
      ['rule', 'severity', 'findings', 'before', 'change', 'still open'],
      f.by_rule.map((r) => [
        r.rule_id,
        r.severity,
        r.current,
        r.previous,
        change(r.change_percent),
        r.open,
      ]),
      'Nothing was found in either period.',
    ),
  ];
}

function notificationBlocks({ notifications: s }: WeeklyContent): readonly Block[] {
  return [
    heading(2, 'Notifications'),
    table(
      ['alert', 'severity', 'sent', 'still firing'],
      s.alerts.map((a) => [data(a.alertname), data(a.severity), a.sent, a.still_firing]),
      'No alert was sent.',
    ),
    table(
      ['receiver', 'result', 'messages'],
      s.deliveries.map((d) => [data(d.sink), d.status, d.messages]),
      'No message was sent to other receivers.',
    ),
  ];
}

const NAMES_LISTED_MAX = 10;

function names(list: readonly string[]): Cell {
  if (list.length === 0) return null;
  const rest = list.length - NAMES_LISTED_MAX;
  return data(`${list.slice(0, NAMES_LISTED_MAX).join(' ')}${rest > 0 ? ` and ${rest} more` : ''}`);
}

function monthlyBlocks(c: MonthlyContent): readonly Block[] {
  const unknown = 'No part of the running server knows which clients are registered.';
  return [
    heading(2, 'Scopes in use'),
    table(
      ['scope', 'grants', 'before', 'change', 'clients'],
      c.scopes.map((s) => [
        data(s.scope),
        s.current,
        s.previous,
        change(s.change_percent),
        s.clients,
      ]),
      'No token with a scope was granted in either period.',
    ),
    ...(c.scopes_not_listed > 0 ? [paragraph(`And ${c.scopes_not_listed} more scopes.`)] : []),
    heading(2, 'Stale clients'),
    table(
      ['client', 'last use', 'secret', 'registered scopes'],
      c.stale_clients.map((s) => [
        data(s.client_id),
        s.last_used === null ? 'never seen' : minute(s.last_used),
        s.has_secret === null ? 'unknown' : s.has_secret ? 'set' : 'none',
        s.scopes === null ? 'unknown' : names(s.scopes),
      ]),
      c.registrations_known ? 'Every registered client was used.' : unknown,
    ),
    heading(2, 'Registered and never used scopes'),
    table(
      ['client', 'registered', 'used', 'unused, privileged', 'unused'],
      c.unused_scopes.map((u) => [
        data(u.client_id),
        u.registered,
        u.used,
        names(u.unused_privileged),
        names(u.unused),
      ]),
      c.registrations_known
        ? 'Clients that were used carried every scope that they are registered for.'
        : unknown,
    ),
    heading(2, 'Privileged grants'),
    table(
      ['client', 'scope', 'grants', 'subjects', 'first', 'last', 'new'],
      c.privileged_grants.map((g) => [
        data(g.client_id),
        data(g.scope),
        g.grants,
        g.subjects,
        minute(g.first),
        minute(g.last),
        g.is_new ? 'new' : '',
      ]),
      'No privileged scope was granted.',
    ),
  ];
}

function quarterlyBlocks(c: QuarterlyContent): readonly Block[] {
  return [
    ...containmentBlocks(c.containment),
    heading(2, 'Months'),
    table(
      ['month', 'requests', 'failures', 'share', 'findings', 'high and critical'],
      c.months.map((m) => [
        m.month,
        m.requests,
        m.failures,
        percent(m.failure_percent),
        m.findings,
        m.findings_high,
      ]),
      'Nothing was seen.',
    ),
    heading(2, 'Findings by family'),
    table(
      ['family', 'findings', 'before', 'change'],
      c.findings_by_family.map((f) => [
        f.family.replaceAll('_', ' '),
        f.current,
        f.previous,
        change(f.change_percent),
      ]),
      '',
    ),
    heading(2, 'Judgements'),
    table(
      ['rule', 'judged', 'true', 'benign', 'false', 'precision', 'precision before'],
      c.precision.map((p) => [
        p.rule_id,
        p.judged,
        p.true_positive,
        p.benign_positive,
        p.false_positive,
        percent(p.precision_percent),
        percent(p.previous_precision_percent),
      ]),
      'No finding was judged.',
    ),
    ...sloBlocks(c.slos),
  ];
}

function containmentBlocks(c: QuarterlyContent['containment']): readonly Block[] {
  return [
    heading(2, 'Time to contain'),
    paragraph(
      `Incidents of severity high and above that name tokens: ${c.incidents}, drills among them: ${c.drills}. Looked at: ${c.list.length}, ended by a revocation: ${c.contained}.`,
    ),
    table(
      ['', 'median', 'longest'],
      [
        ['to detect', duration(c.median_seconds_to_detect), null],
        [
          'to contain',
          duration(c.median_seconds_to_contain),
          duration(c.longest_seconds_to_contain),
        ],
      ],
      '',
    ),
    table(
      [
        'finding',
        'rule',
        'severity',
        'drill',
        'first event',
        'detected after',
        'revoked',
        'last accepted',
        'contained after',
      ],
      c.list.map((i) => [
        data(i.finding_id),
        i.rule_id,
        i.severity,
        i.is_drill ? 'drill' : '',
        moment(i.first_event),
        duration(i.seconds_to_detect),
        moment(i.revoked_at),
        moment(i.last_accepted_at),
        duration(i.seconds_to_contain),
      ]),
      'No such incident.',
    ),
    ...(c.not_listed > 0 ? [paragraph(`And ${c.not_listed} older ones.`)] : []),
  ];
}
