// How: two weeks of a small world are written by hand, so that every figure of the three reports is known; the texts are
// compared with golden files, and a tenant without any data gets a report, too.
import { afterAll, beforeAll, expect, it } from 'vitest';
import { buildReport, type ReportInput } from '../../cli/report/build_report.ts';
import { toMarkdown } from '../../cli/report/document.ts';
import { periodOf } from '../../cli/report/period.ts';
import { reportDocument } from '../../cli/report/report_document.ts';
import { completeEvent, type PartialEvent } from '../../model/complete_event.ts';
import type { Finding } from '../../model/finding.ts';
import { Report, type ReportKind } from '../../model/report.ts';
import { insertEvents } from '../../store/insert.ts';
import type { Scope } from '../../store/queries/scope.ts';
import { HOSTILE, id, insertFindings, insertSlos, makeFinding } from '../api_seed.ts';
import { openTestStore } from '../harness.ts';

const NOW_MS = Date.parse('2026-03-11T05:00:00Z');
const PERSON = 'Ada Example';
let opened: Awaited<ReturnType<typeof openTestStore>>;
let count = 0;

function event(
  at: string,
  e: Omit<PartialEvent, 'event_id' | 'time'>,
  tenant = 'default',
): PartialEvent {
  count += 1;
  const time = BigInt(Date.parse(at)) * 1_000_000n;
  return { event_id: id('e', count), time, tenant, phase: 'outcome', ...e };
}

const issued = (
  client: string,
  scopes: string[],
  subject = 1,
): Omit<PartialEvent, 'event_id' | 'time'> => ({
  kind: 'token_issued',
  outcome: 'success',
  grant_type: 'authorization_code',
  client: { id: client, name: PERSON },
  subject: { ref: id('5', subject), type: 'user' },
  scopes_granted: scopes,
});
const failed = (client: string, error: string): Omit<PartialEvent, 'event_id' | 'time'> => ({
  kind: 'token_request_failed',
  outcome: 'failure',
  client: { id: client, name: PERSON },
  error: { code: '', oauth_error: error, detail: PERSON },
  http: { status: 400 },
});
const ledger = (
  kind: PartialEvent['kind'],
  role: 'issued' | 'presented' | 'revoked',
  ref: string,
  family = id('f', 1),
): Omit<PartialEvent, 'event_id' | 'time'> => ({
  kind,
  outcome: 'success',
  client: { id: 'shop-web', name: '' },
  tokens: [{ role, type: 'refresh', ref, family_ref: family }],
});

/** The week from Monday, 2 March, and the one before. */
function world(): PartialEvent[] {
  return [
    // The week before: 2 requests, 1 failure.
    event('2026-02-23T00:00:00Z', issued('shop-web', ['openid', 'orders:read'])),
    event('2026-03-01T23:59:59.999Z', failed('shop-web', 'invalid_grant')),
    // The week: 6 requests at the token endpoint, 4 failures; the last ms of Sunday counts, Monday does not.
    event('2026-03-02T00:00:00Z', issued('shop-web', ['openid', 'orders:read'])),
    event('2026-03-03T10:00:00Z', issued('shop-web', ['openid', 'admin'], 2)),
    event('2026-03-03T10:00:01Z', failed('shop-web', 'invalid_grant')),
    event('2026-03-03T10:00:02Z', failed('shop-web', 'invalid_grant')),
    event('2026-03-04T10:00:00Z', failed(HOSTILE, 'invalid_client')),
    event('2026-03-08T23:59:59.999Z', failed('shop-web', '')),
    event('2026-03-09T00:00:00Z', failed('shop-web', 'invalid_scope')),
    // An attempt is no request, a rotation of keys neither.
    { ...event('2026-03-03T11:00:00Z', failed('shop-web', 'invalid_grant')), phase: 'attempt' },
    event('2026-03-03T11:00:01Z', { kind: 'key_rotated', outcome: 'success' }),
    event('2026-03-05T08:00:00Z', {
      kind: 'token_rejected',
      outcome: 'denied',
      client: { id: 'batch' },
      error: { code: 'expired' },
    }),
    event('2026-03-05T08:00:01Z', {
      kind: 'token_validated',
      outcome: 'success',
      client: { id: 'batch' },
    }),
    // A theft on Friday: used, revoked 60 s after its first event, accepted for another 5 s.
    event('2026-03-06T12:00:00Z', ledger('code_redeemed', 'issued', id('a', 1))),
    event('2026-03-06T12:00:30Z', ledger('api_accessed', 'presented', id('a', 1))),
    event('2026-03-06T12:01:00Z', ledger('token_revoked', 'revoked', id('a', 1))),
    event('2026-03-06T12:01:05Z', ledger('api_accessed', 'presented', id('a', 1))),
    // Another in January, of which nothing was accepted after the revocation; that it was revoked twice is no use.
    event('2026-01-10T12:00:00Z', ledger('api_accessed', 'presented', id('a', 3), id('f', 3))),
    event('2026-01-10T12:01:00Z', ledger('token_revoked', 'revoked', id('a', 3), id('f', 3))),
    event('2026-01-10T12:02:00Z', ledger('token_revoked', 'revoked', id('a', 3), id('f', 3))),
    // The neighbour's are never counted.
    event('2026-03-03T10:00:00Z', failed('shop-web', 'invalid_grant'), 'neighbour'),
  ];
}

async function seedFindings(): Promise<void> {
  const day = (
    text: string,
  ): { first_event_time: string; last_event_time: string; detected_at: string } => ({
    first_event_time: `${text}T12:00:00.000Z`,
    last_event_time: `${text}T12:00:30.000Z`,
    detected_at: `${text}T12:00:40.000Z`,
  });
  const plain: Partial<Finding> = {
    token_refs: [],
    rule_id: 'clock_skew',
    family: 'operations',
    severity: 'medium',
  };
  await insertFindings(opened.store, [
    makeFinding({ finding_id: id('1', 1), token_refs: [id('a', 1)], ...day('2026-03-06') }),
    makeFinding({ finding_id: id('1', 2), ...plain, state: 'closed', ...day('2026-03-07') }),
    makeFinding({ finding_id: id('1', 3), ...plain, ...day('2026-02-24') }),
    makeFinding({ finding_id: id('1', 4), ...plain, ...day('2026-02-25') }),
    makeFinding({ finding_id: id('1', 5), state: 'superseded', ...day('2026-03-06') }),
    makeFinding({ finding_id: id('1', 7), token_refs: [id('a', 3)], ...day('2026-01-10') }),
    makeFinding({ finding_id: id('1', 6), tenant: 'neighbour', ...day('2026-03-06') }),
  ]);
  const judged = {
    rule_id: 'clock_skew',
    rule_version: 1,
    verdict: 'host_clock',
    severity: 'medium',
  };
  const judge = (
    finding: number,
    disposition: string,
    at: string,
    note: string,
  ): Readonly<Record<string, unknown>> => ({
    ...{ tenant: 'default', ...judged, author: PERSON, note, disposition, decided_at: at },
    disposition_id: id('b', (count += 1)),
    finding_id: id('1', finding),
  });
  await opened.store.insertRows('grantscope.dispositions', [
    judge(2, 'false_positive', '2026-03-08 10:00:00.000', ''),
    judge(2, 'true_positive', '2026-03-08 11:00:00.000', ''),
    judge(3, 'false_positive', '2026-03-08 12:00:00.000', PERSON),
    judge(4, 'benign_positive', '2025-12-08 12:00:00.000', ''),
    judge(1, 'true_positive', '2026-03-09 12:00:00.000', 'Drill of March'),
  ]);
  await opened.store.insertRows('grantscope.finding_status', [
    {
      ...{ tenant: 'default', finding_id: id('1', 2), change_no: 1, change: 'suppressed' },
      ...{ rule_id: 'clock_skew', state: 'closed', severity: 'medium', treatment: 'suppressed' },
      ...{ treated_owner: PERSON, treated_reason: PERSON },
    },
  ]);
}

async function seedSlos(): Promise<void> {
  await insertSlos(opened.store, NOW_MS);
  const minute = (at: string, good: number, bad: number): Readonly<Record<string, unknown>> => ({
    ...{
      tenant: 'default',
      slo_id: 'token_endpoint_availability',
      minute: at,
      good,
      bad,
      excluded: 1,
    },
  });
  await opened.store.insertRows('grantscope.slo_minutes', [
    minute('2026-02-24 00:00:00', 5_000, 10),
    minute('2026-03-02 00:00:00', 3_990, 4),
    minute('2026-03-08 23:59:00', 990, 6),
    minute('2026-03-09 00:00:00', 1, 99),
  ]);
  await opened.store.insertRows('grantscope.notifications', [
    {
      ...{
        tenant: 'default',
        alert_key: id('9', 1),
        kind: 'detection',
        alertname: 'refresh_token_reuse',
      },
      ...{
        labels: { severity: 'high' },
        state: 'firing',
        first_sent_at: '2026-03-06 12:00:41.000',
        version: 1,
      },
    },
    {
      ...{ tenant: 'default', alert_key: id('9', 2), kind: 'slo', alertname: 'OAuthSLOBudgetBurn' },
      ...{
        labels: { severity: 'page' },
        state: 'resolved',
        first_sent_at: '2026-03-04 00:00:00.000',
        version: 1,
      },
    },
    {
      ...{ tenant: 'default', alert_key: id('9', 3), kind: 'slo', alertname: 'OAuthSLOBudgetBurn' },
      ...{
        labels: { severity: 'page' },
        state: 'firing',
        first_sent_at: '2026-03-09 00:00:00.000',
        version: 1,
      },
    },
  ]);
  await opened.store.insertRows('grantscope.deliveries', [
    {
      ...{
        tenant: 'default',
        sink: 'ocsf/siem',
        finding_id: id('1', 1),
        change_no: 1,
        status: 'delivered',
      },
      ...{ delivery_id: id('8', 1), attempted_at: '2026-03-06 12:00:42.000', version: 1 },
    },
  ]);
}

beforeAll(async () => {
  opened = await openTestStore();
  await insertEvents(opened.store, world().map(completeEvent));
  await seedFindings();
  await seedSlos();
});
afterAll(() => opened.close());

const REGISTRATIONS: NonNullable<ReportInput['registrations']> = [
  { client_id: 'batch', scopes: ['orders:read', 'orders:admin'], has_secret: true },
  { client_id: 'forgotten|`x`', scopes: ['openid'], has_secret: false },
  { client_id: 'rested' },
  { client_id: 'shop-web', scopes: ['openid', 'orders:read', 'orders:write', 'admin'] },
];

async function reportOf(
  kind: ReportKind,
  given: { from?: string; to?: string; tenant?: string },
  registrations: ReportInput['registrations'] | null = REGISTRATIONS,
): Promise<Report> {
  const scope: Scope = { store: opened.store, tenant: given.tenant ?? 'default' };
  const period = periodOf(kind, given, NOW_MS);
  const report = await buildReport(scope, {
    kind,
    ...period,
    nowMs: NOW_MS,
    registrations: registrations ?? undefined,
  });
  // What the schema does not name must not be there either.
  expect(Report.parse(report)).toEqual(report);
  return report;
}

const golden = (name: string): string => `../golden/reports/${name}`;

it('writes the week: errors, clients, budgets, findings, notifications', async () => {
  const report = await reportOf('weekly', {});
  const { content } = report;
  if (content.kind !== 'weekly') throw new Error(content.kind);
  expect(report.events).toEqual({ current: 14, previous: 2, change_percent: 600 });
  expect(content.auth_errors.current).toEqual({
    requests: 11,
    failures: 5,
    failure_percent: 45.455,
  });
  expect(content.auth_errors.previous).toEqual({ requests: 2, failures: 1, failure_percent: 50 });
  expect(content.auth_errors.by_error).toEqual([
    { error: 'invalid_grant', current: 2, previous: 1, change_percent: 100 },
    { error: 'expired', current: 1, previous: 0, change_percent: null },
    { error: 'invalid_client', current: 1, previous: 0, change_percent: null },
    { error: 'not told', current: 1, previous: 0, change_percent: null },
  ]);
  expect(
    content.failing_clients.map((c) => [c.client_id, c.requests, c.failures, c.change_percent]),
  ).toEqual([
    ['shop-web', 8, 3, 200],
    [HOSTILE, 1, 1, null],
    ['batch', 2, 1, null],
  ]);
  // 10 bad of 4,990 in the week; 20 of 10,000 in the 30 days up to its end, of which 10 are the budget.
  expect(content.slos[1]).toMatchObject({
    slo_id: 'token_endpoint_availability',
    good: 4_980,
    bad: 10,
    excluded: 2,
    previous_bad: 10,
    good_percent: 99.7996,
    budget_spent_percent: 100,
    budget_remaining_percent: -100,
  });
  expect(content.slos[0]).toMatchObject({
    slo_id: 'introspection_latency',
    state: 'unmeasured',
    good_percent: null,
  });
  expect(content.findings).toMatchObject({ active: 1, suppressed: 1, inhibited: 0 });
  expect(content.findings.by_severity.find((s) => s.severity === 'medium')).toEqual({
    severity: 'medium',
    current: 1,
    previous: 2,
    change_percent: -50,
  });
  await expect(toMarkdown(reportDocument(report))).toMatchFileSnapshot(golden('weekly.md'));
  await expect(`${JSON.stringify(report, null, 2)}\n`).toMatchFileSnapshot(golden('weekly.json'));
});

it('writes the month: scopes, clients that rest, what is held without use', async () => {
  const report = await reportOf('monthly', { from: '2026-03-01T00:00:00Z' });
  const { content } = report;
  if (content.kind !== 'monthly') throw new Error(content.kind);
  expect(content.scopes).toEqual([
    { scope: 'openid', current: 2, previous: 1, change_percent: 100, clients: 1 },
    { scope: 'admin', current: 1, previous: 0, change_percent: null, clients: 1 },
    { scope: 'orders:read', current: 1, previous: 1, change_percent: 0, clients: 1 },
  ]);
  expect(content.stale_clients.map((c) => [c.client_id, c.last_used])).toEqual([
    ['forgotten|`x`', null],
    ['rested', null],
  ]);
  expect(content.unused_scopes).toEqual([
    {
      client_id: 'batch',
      registered: 2,
      used: 0,
      unused: ['orders:read', 'orders:admin'],
      unused_privileged: ['orders:admin'],
    },
    {
      client_id: 'shop-web',
      registered: 4,
      used: 3,
      unused: ['orders:write'],
      unused_privileged: [],
    },
  ]);
  expect(content.privileged_grants).toEqual([
    {
      client_id: 'shop-web',
      scope: 'admin',
      grants: 1,
      subjects: 1,
      first: '2026-03-03T10:00:00.000Z',
      last: '2026-03-03T10:00:00.000Z',
      is_new: true,
    },
  ]);
  await expect(toMarkdown(reportDocument(report))).toMatchFileSnapshot(golden('monthly.md'));
});

it('writes the quarter: time to contain, months, judgements', async () => {
  const report = await reportOf('quarterly', { from: '2026-01-01T00:00:00Z' });
  const { content } = report;
  if (content.kind !== 'quarterly') throw new Error(content.kind);
  expect(content.containment).toEqual({
    incidents: 2,
    drills: 1,
    contained: 2,
    median_seconds_to_detect: 40,
    median_seconds_to_contain: 62.5,
    longest_seconds_to_contain: 65,
    list: [
      {
        finding_id: id('1', 1),
        rule_id: 'refresh_token_reuse',
        severity: 'high',
        is_drill: true,
        first_event: '2026-03-06T12:00:00.000Z',
        detected_at: '2026-03-06T12:00:40.000Z',
        revoked_at: '2026-03-06T12:01:00.000000000Z',
        last_accepted_at: '2026-03-06T12:01:05.000000000Z',
        seconds_to_detect: 40,
        seconds_to_contain: 65,
      },
      {
        finding_id: id('1', 7),
        rule_id: 'refresh_token_reuse',
        severity: 'high',
        is_drill: false,
        first_event: '2026-01-10T12:00:00.000Z',
        detected_at: '2026-01-10T12:00:40.000Z',
        revoked_at: '2026-01-10T12:01:00.000000000Z',
        last_accepted_at: null,
        seconds_to_detect: 40,
        seconds_to_contain: 60,
      },
    ],
    not_listed: 0,
  });
  // The last judgement of each finding counts, each in the period in which it was made.
  expect(content.precision).toEqual([
    {
      rule_id: 'clock_skew',
      judged: 3,
      true_positive: 2,
      benign_positive: 0,
      false_positive: 1,
      precision_percent: 66.667,
      previous_precision_percent: 0,
    },
  ]);
  expect(
    content.months.map((m) => [m.month, m.requests, m.failures, m.findings, m.findings_high]),
  ).toEqual([
    ['2026-01', 3, 0, 1, 1],
    ['2026-02', 1, 0, 2, 0],
    ['2026-03', 13, 7, 2, 1],
  ]);
  await expect(toMarkdown(reportDocument(report))).toMatchFileSnapshot(golden('quarterly.md'));
});

it('names no person and quotes nobody', async () => {
  for (const kind of ['weekly', 'monthly', 'quarterly'] as const) {
    const report = await reportOf(kind, {
      from: '2026-03-01T00:00:00Z',
      to: '2026-03-10T00:00:00Z',
    });
    expect(JSON.stringify(report)).not.toContain(PERSON);
    expect(report.events.current).toBeGreaterThan(0);
  }
});

it.each(['weekly', 'monthly', 'quarterly'] as const)('has a %s report of nothing', async (kind) => {
  const report = await reportOf(kind, { tenant: 'nobody' }, null);
  expect(report.events).toEqual({ current: 0, previous: 0, change_percent: null });
  await expect(toMarkdown(reportDocument(report))).toMatchFileSnapshot(golden(`empty_${kind}.md`));
});
