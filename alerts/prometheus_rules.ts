import { stringify } from 'yaml';
import {
  BURN_TIERS,
  isBudgeted,
  type BurnTier,
  type CountedSlo,
  type SloDefinition,
} from '../model/define_slo.ts';
import { BURN_ALERT, KEEP_FIRING_SECONDS } from './burn.ts';
import { STALE_AFTER_SECONDS } from './compute.ts';
import { tiersOf } from './registry.ts';

/** Where links in alerts point when `GRANTSCOPE_PUBLIC_URL` is not known to Prometheus. */
const CONSOLE_URL = 'http://127.0.0.1:7400';
/** Many bad events in a day, and more occurrences than a counted objective allows. */
export const BAD_EVENTS_ALERT = 'OAuthSLOBadEvents';
export const OCCURRENCES_ALERT = 'OAuthSLOOccurrences';
/** How far back the last known burn rate is looked for while its source is silent. */
const FREEZE_LOOKBACK = '6h';

interface Rule {
  readonly record?: string;
  readonly alert?: string;
  readonly expr: string;
  readonly for?: string;
  readonly keep_firing_for?: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
}

/**
 * The Prometheus rules of the SLOs (Prometheus 2.42 or later, for `keep_firing_for`). The same text for the
 * same definitions. Throws `definition_invalid` for a tier that can never fire.
 */
export function renderPrometheusRules(slos: readonly SloDefinition[]): string {
  const usedTiers = BURN_TIERS.filter((t) =>
    slos.some((s) => tiersOf(s).some((own) => own.id === t.id)),
  );
  // One group: Prometheus evaluates a group in order, but groups beside each other, and an alert must not be
  // judged by recorded values of the round before.
  const rules = [
    ...recordingRules(),
    ...usedTiers.map((tier) => burnRule(tier, slos)),
    ...ticketRules(slos),
    ...slos.filter((s) => s.measure === 'counted').map((s) => occurrenceRule(s)),
    // An indicator has no objective that could be missed unseen.
    ...slos.filter((s) => s.measure !== 'indicator').map((s) => unmeasuredRule(s)),
    watchdogRule(),
  ];
  const groups = [{ name: 'oauth_slo', rules }];
  return `# Generated from alerts/slos/ by \`npx grantscope generate\`. Edit the definitions, not this file.\n${stringify({ groups }, { lineWidth: 0, blockQuote: 'literal' })}`;
}

function recordingRules(): readonly Rule[] {
  return [
    {
      // Without traffic there is no series, instead of 0/0. Replicas of one exporter count as one.
      record: 'oauth_slo:error:ratio',
      expr: 'max by (slo, window) (oauth_slo_bad_events) / (max by (slo, window) (oauth_slo_total_events) > 0)',
    },
    {
      record: 'oauth_slo:burn_rate:ratio',
      expr: 'oauth_slo:error:ratio / on (slo) group_left () (1 - max by (slo) (oauth_slo_objective_ratio))',
    },
    {
      record: 'oauth_slo:budget_remaining:ratio',
      expr: '1 - max by (slo) (oauth_slo:burn_rate:ratio{window="30d"})',
    },
  ];
}

const duration = (seconds: number): string =>
  seconds % 3_600 === 0 ? `${seconds / 3_600}h` : `${seconds / 60}m`;

/** Matches the SLOs that use a tier; a definition may leave tiers out. */
function sloMatcher(tier: BurnTier, slos: readonly SloDefinition[]): string {
  const ids = slos.filter((s) => isBudgeted(s) && s.tiers.includes(tier.id)).map((s) => s.id);
  return `slo=~"${ids.join('|')}"`;
}

/**
 * Fires while both windows burn and enough bad events are counted; while the watermark is stale or absent, what
 * fires goes on, with its last known value where that is recent. A pending alert is not frozen: it has paged
 * nobody yet.
 */
function burnExpr(tier: BurnTier, slos: readonly SloDefinition[]): string {
  const slo = sloMatcher(tier, slos);
  const rate = (window: string): string =>
    `max by (slo) (oauth_slo:burn_rate:ratio{${slo}, window="${window}"})`;
  const firing = `max by (slo, shadow) (ALERTS{alertname="${BURN_ALERT}", alertstate="firing", burn="${tier.id}"})`;
  return [
    '(',
    `  ${rate(tier.long)} > ${tier.factor}`,
    `  and on (slo) ${rate(tier.short)} > ${tier.factor}`,
    `  and on (slo) max by (slo) (oauth_slo_bad_events{${slo}, window="${tier.long}"}) >= on (slo) max by (slo) (oauth_slo_min_bad_events)`,
    ')',
    '* on (slo) group_left (shadow) max by (slo, shadow) (oauth_slo_info{enabled="true"})',
    'or on (slo)',
    '(',
    '  (',
    `    max by (slo) (last_over_time(oauth_slo:burn_rate:ratio{${slo}, window="${tier.long}"}[${FREEZE_LOOKBACK}]))`,
    `    * on (slo) group_left (shadow) ${firing}`,
    `    or on (slo) ${firing}`,
    '  )',
    `  unless on (slo) (time() - max by (slo) (oauth_slo_rollup_watermark_seconds) <= ${STALE_AFTER_SECONDS})`,
    ')',
    '',
  ].join('\n');
}

function burnRule(tier: BurnTier, slos: readonly SloDefinition[]): Rule {
  const remaining =
    '{{ with printf "100 * oauth_slo:budget_remaining:ratio{slo=%q}" .Labels.slo | query }}{{ . | first | value | printf "%.1f %%" }}{{ else }}an unknown part{{ end }}';
  return {
    alert: BURN_ALERT,
    expr: burnExpr(tier, slos),
    for: duration(tier.forSeconds),
    keep_firing_for: duration(KEEP_FIRING_SECONDS),
    labels: {
      kind: 'slo',
      severity: tier.severity,
      burn: tier.id,
      long: tier.long,
      short: tier.short,
    },
    annotations: {
      summary: `{{ $labels.slo }} spends its error budget {{ $value | humanize }} times too fast over ${tier.long} and ${tier.short}; ${remaining} of the 30-day budget is left.`,
      description: `At this pace a full 30-day budget lasts {{ with printf "720 * 3600 / oauth_slo:burn_rate:ratio{slo=%q, window=%q}" .Labels.slo "${tier.long}" | query }}{{ . | first | value | humanizeDuration }}{{ else }}an unknown time{{ end }}. The alert keeps firing while the watermark is stale.`,
      ...sloLinks(),
    },
  };
}

/** While the watermark is stale, what fires goes on, with the last count that is known; see burnExpr. */
function frozen(alert: string, matcher: string, window: string): string {
  const firing = `max by (slo, shadow) (ALERTS{alertname="${alert}", alertstate="firing", ${matcher}})`;
  return [
    'or on (slo)',
    '(',
    '  (',
    `    max by (slo) (last_over_time(oauth_slo_bad_events{${matcher}, window="${window}"}[${FREEZE_LOOKBACK}]))`,
    `    * on (slo) group_left (shadow) ${firing}`,
    `    or on (slo) ${firing}`,
    '  )',
    `  unless on (slo) (time() - max by (slo) (oauth_slo_rollup_watermark_seconds) <= ${STALE_AFTER_SECONDS})`,
    ')',
    '',
  ].join('\n');
}

/**
 * A ticket for many bad events in a day, whatever their share: with little traffic a burn rate is either zero or enormous, and
 * with a lot of it a thousand failures may be within the budget.
 */
function ticketRules(slos: readonly SloDefinition[]): readonly Rule[] {
  const ids = slos.filter((s) => isBudgeted(s) && s.ticketBadEvents !== undefined).map((s) => s.id);
  if (ids.length === 0) return [];
  const matcher = `slo=~"${ids.join('|')}"`;
  return [
    {
      alert: BAD_EVENTS_ALERT,
      expr: [
        `(max by (slo) (oauth_slo_bad_events{${matcher}, window="1d"}) >= on (slo) max by (slo) (oauth_slo_ticket_bad_events))`,
        '* on (slo) group_left (shadow) max by (slo, shadow) (oauth_slo_info{enabled="true"})',
        frozen(BAD_EVENTS_ALERT, matcher, '1d'),
      ].join('\n'),
      for: '5m',
      keep_firing_for: duration(KEEP_FIRING_SECONDS),
      labels: { kind: 'slo', severity: 'ticket' },
      annotations: {
        summary:
          '{{ $labels.slo }} counted {{ $value | humanize }} bad events in a day, more than are let pass without a look.',
        description:
          'The error budget may be in order all the same: this counts, it does not divide.',
        ...sloLinks(),
      },
    },
  ];
}

/** An occurrence beyond what a counted objective allows. */
function occurrenceRule(slo: CountedSlo): Rule {
  const matcher = `slo="${slo.id}"`;
  return {
    alert: OCCURRENCES_ALERT,
    expr: [
      `(max by (slo) (oauth_slo_bad_events{${matcher}, window="30d"}) > on (slo) max by (slo) (oauth_slo_allowed_occurrences))`,
      '* on (slo) group_left (shadow) max by (slo, shadow) (oauth_slo_info{enabled="true"})',
      frozen(OCCURRENCES_ALERT, matcher, '30d'),
    ].join('\n'),
    labels: { kind: 'slo', severity: 'ticket' },
    annotations: {
      summary: `{{ $labels.slo }} happened {{ $value | humanize }} times in 30 days; ${slo.allowed} ${slo.allowed === 1 ? 'is' : 'are'} allowed.`,
      description:
        'The findings that are counted have alerts of their own; this one says that the objective is missed.',
      ...sloLinks(),
    },
  };
}

function sloLinks(): Readonly<Record<string, string>> {
  return {
    runbook_url: `${CONSOLE_URL}/#/runbooks/{{ $labels.slo }}`,
    dashboard_url: 'http://127.0.0.1:3000/d/grantscope-on-call',
    investigation_url: `${CONSOLE_URL}/#/slos/{{ $labels.slo }}`,
  };
}

function unmeasuredRule(slo: SloDefinition): Rule {
  const watermark = `oauth_slo_rollup_watermark_seconds{slo="${slo.id}"}`;
  return {
    alert: 'OAuthSLOUnmeasured',
    expr: [
      '(',
      `  time() - max by (slo) (${watermark}) > ${STALE_AFTER_SECONDS}`,
      `or absent(${watermark})`,
      `) unless on (slo) oauth_slo_info{slo="${slo.id}", enabled="false"}`,
      '',
    ].join('\n'),
    for: '5m',
    labels: { kind: 'slo', severity: 'page', slo: slo.id },
    annotations: {
      summary: `${slo.id} is unmeasured: no event of its sources has been counted for more than ${duration(STALE_AFTER_SECONDS)}.`,
      description:
        'Unmeasured is not met. Burn alerts stay as they are until events are counted again.',
      runbook_url: `${CONSOLE_URL}/#/runbooks/slo_unmeasured`,
      dashboard_url: 'http://127.0.0.1:3000/d/grantscope-on-call',
      investigation_url: `${CONSOLE_URL}/#/slos/${slo.id}`,
    },
  };
}

/** Always fires: what listens for it notices when Prometheus or Alertmanager falls silent. */
function watchdogRule(): Rule {
  return {
    alert: 'Watchdog',
    expr: 'vector(1)',
    labels: { kind: 'meta', severity: 'none' },
    annotations: {
      summary: 'Always firing. Its absence means that alerts cannot reach anybody.',
      runbook_url: `${CONSOLE_URL}/#/runbooks/watchdog`,
    },
  };
}
