/**
 * The generated rules and routes under the real programs: promtool runs them over synthetic time series, amtool
 * routes a matrix of labels. Expected alerts are listed in full, so that one too many fails as well.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parse, stringify } from 'yaml';
import { RECEIVERS } from '../../alerts/alertmanager_config.ts';
import { burnLabels } from '../../alerts/burn.ts';
import { generateAlertRules } from '../../alerts/generate.ts';
import { renderPrometheusRules } from '../../alerts/prometheus_rules.ts';
import { loadSlos } from '../../alerts/registry.ts';
import { BURN_TIERS, SLO_WINDOW_NAMES, type RatioSlo } from '../../model/define_slo.ts';
import { packageRoot } from '../../runtime/paths.ts';
import { temporaryFolder } from '../harness.ts';
import { hasMonitoringPrograms, programs, run } from './programs.ts';

const installed = hasMonitoringPrograms();
const folder = temporaryFolder();
afterAll(() => folder.remove());
/** The rules of one SLO of each kind that alerts: the others would be unmeasured in every scenario. */
const ownRules = join(folder.path, 'own.yml');
beforeAll(async () => {
  const ids = [SLO, COUNTED];
  const own = (await loadSlos()).filter((s) => ids.includes(s.id));
  writeFileSync(ownRules, renderPrometheusRules(own));
});

const SLO = 'token_issuance_success';
const COUNTED = 'unexpected_scope_grants';
const rulesFile = join(packageRoot, 'alerts', 'generated', 'rules.yml');
const routesFile = join(packageRoot, 'alerts', 'generated', 'alertmanager.yml');

interface Series {
  series: string;
  values: string;
}
/** Samples a minute apart, in promtool's notation. */
interface Scenario {
  /** bad events of every window but those in `badByWindow` */
  bad: string;
  badByWindow?: Partial<Record<string, string>>;
  total: string;
  watermark?: string;
  /** Of the constant series; shorter ones end with `stale`. */
  constant?: (value: number) => string;
  shadow?: boolean;
  /** Bad events in a day that are a ticket; absent: no such limit. */
  ticketBad?: number;
  /** Occurrences of the counted objective in 30 days; default none. */
  occurrences?: string;
  occurrencesWatermark?: string;
}
const LENGTH = 700;

function seriesOf(s: Scenario): Series[] {
  const constant = s.constant ?? ((value: number) => `${value}x${LENGTH}`);
  const windows = SLO_WINDOW_NAMES.flatMap((w) => [
    {
      series: `oauth_slo_bad_events{slo="${SLO}",window="${w}"}`,
      values: s.badByWindow?.[w] ?? s.bad,
    },
    { series: `oauth_slo_total_events{slo="${SLO}",window="${w}"}`, values: s.total },
  ]);
  return [
    ...windows,
    { series: `oauth_slo_objective_ratio{slo="${SLO}"}`, values: constant(0.999) },
    { series: `oauth_slo_min_bad_events{slo="${SLO}"}`, values: constant(10) },
    {
      series: `oauth_slo_info{slo="${SLO}",shadow="${String(s.shadow ?? false)}",enabled="true"}`,
      values: constant(1),
    },
    {
      series: `oauth_slo_rollup_watermark_seconds{slo="${SLO}"}`,
      values: s.watermark ?? `0+60x${LENGTH}`,
    },
    ...(s.ticketBad === undefined
      ? []
      : [
          {
            series: `oauth_slo_ticket_bad_events{slo="${SLO}"}`,
            values: constant(s.ticketBad),
          },
        ]),
  ];
}

/** The counted objective, heard of in every scenario. */
function countedSeries(s: Scenario): Series[] {
  return [
    {
      series: `oauth_slo_bad_events{slo="${COUNTED}",window="30d"}`,
      values: s.occurrences ?? `0x${LENGTH}`,
    },
    { series: `oauth_slo_allowed_occurrences{slo="${COUNTED}"}`, values: `0x${LENGTH}` },
    {
      series: `oauth_slo_info{slo="${COUNTED}",shadow="false",enabled="true"}`,
      values: `1x${LENGTH}`,
    },
    {
      series: `oauth_slo_rollup_watermark_seconds{slo="${COUNTED}"}`,
      values: s.occurrencesWatermark ?? `0+60x${LENGTH}`,
    },
  ];
}

const links = (slo: string): Record<string, string> => ({
  runbook_url: `http://127.0.0.1:7400/#/runbooks/${slo}`,
  dashboard_url: 'http://127.0.0.1:3000/d/grantscope-on-call',
  investigation_url: `http://127.0.0.1:7400/#/slos/${slo}`,
});

const lines = (text: string): string => text.replace(/\s+/g, ' ');

/** A burn alert of a tier as promtool must see it. */
function burn(
  id: string,
  words: { rate: string; left: string; lasts: string },
  shadow = false,
): Record<string, unknown> {
  const tier = BURN_TIERS.find((t) => t.id === id)!;
  return {
    exp_labels: {
      slo: SLO,
      kind: 'slo',
      severity: tier.severity,
      burn: id,
      long: tier.long,
      short: tier.short,
      shadow: String(shadow),
    },
    exp_annotations: {
      summary: `${SLO} spends its error budget ${words.rate} times too fast over ${tier.long} and ${tier.short}; ${words.left} of the 30-day budget is left.`,
      description: `At this pace a full 30-day budget lasts ${words.lasts}. The alert keeps firing while the watermark is stale.`,
      runbook_url: `http://127.0.0.1:7400/#/runbooks/${SLO}`,
      dashboard_url: 'http://127.0.0.1:3000/d/grantscope-on-call',
      investigation_url: `http://127.0.0.1:7400/#/slos/${SLO}`,
    },
  };
}

const badEvents = (n: string): Record<string, unknown> => ({
  exp_labels: { slo: SLO, kind: 'slo', severity: 'ticket', shadow: 'false' },
  exp_annotations: {
    summary: `${SLO} counted ${n} bad events in a day, more than are let pass without a look.`,
    description: 'The error budget may be in order all the same: this counts, it does not divide.',
    ...links(SLO),
  },
});

const occurred = (n: string): Record<string, unknown> => ({
  exp_labels: { slo: COUNTED, kind: 'slo', severity: 'ticket', shadow: 'false' },
  exp_annotations: {
    summary: `${COUNTED} happened ${n} times in 30 days; 0 are allowed.`,
    description:
      'The findings that are counted have alerts of their own; this one says that the objective is missed.',
    ...links(COUNTED),
  },
});

const unmeasured = {
  exp_labels: { slo: SLO, kind: 'slo', severity: 'page' },
  exp_annotations: {
    summary: `${SLO} is unmeasured: no event of its sources has been counted for more than 10m.`,
    description:
      'Unmeasured is not met. Burn alerts stay as they are until events are counted again.',
    runbook_url: 'http://127.0.0.1:7400/#/runbooks/slo_unmeasured',
    dashboard_url: 'http://127.0.0.1:3000/d/grantscope-on-call',
    investigation_url: `http://127.0.0.1:7400/#/slos/${SLO}`,
  },
};

interface GeneratedRule {
  alert?: string;
  expr: string;
  labels: Record<string, string>;
  annotations: Record<string, string>;
}

type Expectation = [at: string, alertname: string, alerts: Record<string, unknown>[]];

function testRules(
  scenario: Scenario,
  expected: Expectation[],
  expressions: Record<string, unknown>[] = [],
): { code: number | null; output: string } {
  const file = join(folder.path, `test_${Math.random().toString(36).slice(2)}.yml`);
  writeFileSync(
    file,
    stringify({
      rule_files: [ownRules],
      evaluation_interval: '1m',
      tests: [
        {
          interval: '1m',
          input_series: [...seriesOf(scenario), ...countedSeries(scenario)],
          alert_rule_test: expected.map(([eval_time, alertname, exp_alerts]) => ({
            eval_time,
            alertname,
            exp_alerts,
          })),
          promql_expr_test: expressions,
        },
      ],
    }),
  );
  return run(programs.promtool, ['test', 'rules', file]);
}

const BURN = 'OAuthSLOBudgetBurn';
const UNMEASURED = 'OAuthSLOUnmeasured';
/** 10 % bad at an objective of 99.9 %: a burn rate of 100. */
const outage = { rate: '100', left: '-9900.0 %', lasts: '7h 12m 0s' };

describe.skipIf(!installed)('promtool', () => {
  it('accepts the generated rules, which are what the definitions render', async () => {
    const generated = await generateAlertRules();
    expect(readFileSync(rulesFile, 'utf8')).toBe(generated['alerts/generated/rules.yml']);
    expect(readFileSync(routesFile, 'utf8')).toBe(generated['alerts/generated/alertmanager.yml']);
    const checked = run(programs.promtool, ['check', 'rules', rulesFile]);
    expect(checked.output).toContain('SUCCESS: 21 rules found');
    expect(checked.code).toBe(0);
  });

  it('fails a test whose expectation is wrong, so that the others mean something', () => {
    const result = testRules({ bad: `0x${LENGTH}`, total: `1000x${LENGTH}` }, [
      ['10m', BURN, [burn('fast', outage)]],
    ]);
    expect(result.code).toBe(1);
    expect(result.output).toContain('FAILED');
  });

  it('opens a ticket for many bad events in a day within the budget, and none for one fewer', () => {
    // 50 of a million: a burn rate of 0.05, which no tier sees.
    const ticket = badEvents('50');
    const total = `1000000x${LENGTH}`;
    const many = testRules({ bad: `50x${LENGTH}`, total, ticketBad: 50 }, [
      ['4m', 'OAuthSLOBadEvents', []],
      ['5m', 'OAuthSLOBadEvents', [ticket]],
      ['60m', BURN, []],
    ]);
    expect(many.output).toContain('SUCCESS');
    const fewer = testRules({ bad: `49x${LENGTH}`, total, ticketBad: 50 }, [
      ['60m', 'OAuthSLOBadEvents', []],
    ]);
    expect(fewer.output).toContain('SUCCESS');
  });

  it('opens a ticket for the first occurrence beyond a counted objective, until it is past', () => {
    const ticket = occurred('2');
    const result = testRules(
      { bad: `0x${LENGTH}`, total: `1000x${LENGTH}`, occurrences: '0x9 2x20 0x100' },
      [
        ['9m', 'OAuthSLOOccurrences', []],
        ['10m', 'OAuthSLOOccurrences', [ticket]],
        ['29m', 'OAuthSLOOccurrences', [ticket]],
        ['31m', 'OAuthSLOOccurrences', []],
      ],
    );
    expect(result.output).toContain('SUCCESS');
  });

  it('fires each tier after its own time and not before', () => {
    const result = testRules({ bad: `100x${LENGTH}`, total: `1000x${LENGTH}` }, [
      ['1m', BURN, []],
      ['2m', BURN, [burn('fast', outage)]],
      ['14m', BURN, [burn('fast', outage)]],
      ['15m', BURN, [burn('fast', outage), burn('medium', outage)]],
      ['60m', BURN, [burn('fast', outage), burn('medium', outage), burn('slow', outage)]],
      [
        '180m',
        BURN,
        [burn('fast', outage), burn('medium', outage), burn('slow', outage), burn('drift', outage)],
      ],
      ['180m', UNMEASURED, []],
    ]);
    expect(result.output).toContain('SUCCESS');
    expect(result.code).toBe(0);
  });

  it('keeps firing for 15 minutes after the short window has recovered, then resets', () => {
    // The fast tier's short window recovers at minute 20; the alert last held at 19.
    const result = testRules(
      {
        bad: `0x${LENGTH}`,
        badByWindow: { '1h': `100x${LENGTH}`, '5m': `100x19 0x${LENGTH}`, '30d': `100x${LENGTH}` },
        total: `1000x${LENGTH}`,
      },
      [
        ['19m', BURN, [burn('fast', outage)]],
        ['34m', BURN, [{ ...burn('fast', outage) }]],
        ['36m', BURN, []],
      ],
    );
    expect(result.output).toContain('SUCCESS');
    expect(result.code).toBe(0);
  });

  it('stays silent on a quiet SLO, on few bad events and without traffic', () => {
    const silent: Expectation[] = [
      ['30m', BURN, []],
      ['240m', BURN, []],
      ['240m', UNMEASURED, []],
    ];
    for (const scenario of [
      { bad: `0x${LENGTH}`, total: `1000x${LENGTH}` },
      // Burn rate 100, but one bad event fewer than the minimum.
      { bad: `9x${LENGTH}`, total: `90x${LENGTH}` },
      { bad: `0x${LENGTH}`, total: `0x${LENGTH}` },
    ]) {
      const result = testRules(scenario, silent, [
        {
          expr: 'count(oauth_slo:error:ratio) or vector(0)',
          eval_time: '240m',
          exp_samples: [{ labels: '{}', value: scenario.total.startsWith('0') ? 0 : 8 }],
        },
      ]);
      expect(result.output).toContain('SUCCESS');
      expect(result.code).toBe(0);
    }
  });

  it('does not fire at exactly the factor', () => {
    // 1.44 % bad burns at 14.4, give or take the last bit of 1 - 0.999: below the factor it must be silent.
    const result = testRules({ bad: `143x${LENGTH}`, total: `10000x${LENGTH}` }, [
      ['10m', BURN, []],
    ]);
    expect(result.code).toBe(0);
  });

  it('freezes what fires when the exporter dies, and says that the SLO is unmeasured', () => {
    const dies = (value: number | string): string => `${value}x10 stale`;
    const frozen = { rate: '100', left: 'an unknown part', lasts: 'an unknown time' };
    const result = testRules(
      {
        bad: dies(100),
        total: dies(1000),
        constant: (value) => dies(value),
        watermark: '0+60x10 stale',
      },
      [
        ['10m', BURN, [burn('fast', outage)]],
        // The medium tier was pending: it has paged nobody and is not frozen.
        ['30m', BURN, [burn('fast', frozen)]],
        ['300m', BURN, [burn('fast', frozen)]],
        // Past the look-back the value is gone, the alert is not.
        ['690m', BURN, [burn('fast', { ...frozen, rate: '1' })]],
        ['15m', UNMEASURED, []],
        ['16m', UNMEASURED, [unmeasured]],
        ['690m', UNMEASURED, [unmeasured]],
      ],
    );
    expect(result.output).toContain('SUCCESS');
    expect(result.code).toBe(0);
  });

  it('freezes on a stale watermark and resolves once it moves again', () => {
    // The watermark stops at minute 5 and is back at minute 60, when all is well.
    const result = testRules(
      {
        bad: `100x20 0x${LENGTH}`,
        total: `1000x${LENGTH}`,
        watermark: `0+60x5 300x54 3600+60x${LENGTH}`,
      },
      [
        // Stale from minute 16 on; the windows empty at 21 and the alert stays.
        ['15m', UNMEASURED, []],
        ['21m', UNMEASURED, [unmeasured]],
        [
          '55m',
          BURN,
          [
            burn('fast', { rate: '0', left: '100.0 %', lasts: '+Inf' }),
            burn('medium', { rate: '0', left: '100.0 %', lasts: '+Inf' }),
          ],
        ],
        ['62m', UNMEASURED, []],
        ['80m', BURN, []],
      ],
    );
    expect(result.output).toContain('SUCCESS');
    expect(result.code).toBe(0);
  });

  it('keeps tickets while the watermark stands still, and closes them once it moves again', () => {
    // Both watermarks stop at minute 5, are stale from minute 16 on and are back at minute 60, when all is well.
    const stops = `0+60x5 300x54 3600+60x${LENGTH}`;
    const result = testRules(
      {
        bad: `50x59 0x${LENGTH}`,
        total: `1000000x${LENGTH}`,
        ticketBad: 50,
        watermark: stops,
        occurrences: `2x59 0x${LENGTH}`,
        occurrencesWatermark: stops,
      },
      [
        ['20m', 'OAuthSLOBadEvents', [badEvents('50')]],
        ['20m', 'OAuthSLOOccurrences', [occurred('2')]],
        ['55m', 'OAuthSLOBadEvents', [badEvents('50')]],
        ['55m', 'OAuthSLOOccurrences', [occurred('2')]],
        ['62m', 'OAuthSLOOccurrences', []],
        ['80m', 'OAuthSLOBadEvents', []],
      ],
    );
    expect(result.output).toContain('SUCCESS');
    expect(result.code).toBe(0);
  });

  it('keeps tickets with their last count when the exporter dies', () => {
    const dies = (value: number | string): string => `${value}x30 stale`;
    const result = testRules(
      {
        bad: dies(50),
        total: dies(1_000_000),
        ticketBad: 50,
        constant: dies,
        watermark: '0+60x30 stale',
        occurrences: '2x30 stale',
        occurrencesWatermark: '0+60x30 stale',
      },
      [
        ['300m', 'OAuthSLOBadEvents', [badEvents('50')]],
        ['300m', 'OAuthSLOOccurrences', [occurred('2')]],
      ],
    );
    expect(result.output).toContain('SUCCESS');
    expect(result.code).toBe(0);
  });

  it('marks the alerts of an SLO in shadow', () => {
    const result = testRules({ bad: `100x${LENGTH}`, total: `1000x${LENGTH}`, shadow: true }, [
      ['2m', BURN, [burn('fast', outage, true)]],
    ]);
    expect(result.output).toContain('SUCCESS');
    expect(result.code).toBe(0);
  });

  it('records the ratios', () => {
    const result = testRules(
      { bad: `5x${LENGTH}`, total: `10000x${LENGTH}` },
      [],
      [
        {
          expr: `round(oauth_slo:burn_rate:ratio{window="1h"}, 0.0001)`,
          eval_time: '10m',
          exp_samples: [{ labels: `{slo="${SLO}", window="1h"}`, value: 0.5 }],
        },
        {
          expr: 'round(oauth_slo:budget_remaining:ratio, 0.0001)',
          eval_time: '10m',
          exp_samples: [{ labels: `{slo="${SLO}"}`, value: 0.5 }],
        },
        {
          expr: 'ALERTS{alertname="Watchdog"}',
          eval_time: '10m',
          exp_samples: [
            {
              labels:
                'ALERTS{alertname="Watchdog", alertstate="firing", kind="meta", severity="none"}',
              value: 1,
            },
          ],
        },
      ],
    );
    expect(result.output).toContain('SUCCESS');
    expect(result.code).toBe(0);
  });
});

async function issuance(): Promise<RatioSlo> {
  const slo = (await loadSlos()).find((s) => s.id === SLO);
  if (slo?.measure !== 'ratio') throw new Error(`${SLO} is gone`);
  return slo;
}

describe('generation', () => {
  it('refuses a tier that can never fire, and says what is needed', async () => {
    const slo = await issuance();
    expect(() => renderPrometheusRules([{ ...slo, objective: 0.93 }])).toThrow(
      /fast can never fire at an objective of 0\.93: .* allowed: an objective above 0\.9306/,
    );
    expect(renderPrometheusRules([{ ...slo, objective: 0.9306 }])).toContain('14.4');
    expect(() => renderPrometheusRules([{ ...slo, objective: 0.83, tiers: ['medium'] }])).toThrow(
      /medium can never fire/,
    );
    expect(() => renderPrometheusRules([{ ...slo, objective: 0.66, tiers: ['slow'] }])).toThrow(
      /slow can never fire/,
    );
    expect(renderPrometheusRules([{ ...slo, objective: 0.66, tiers: ['drift'] }])).toContain(
      '> 1\n',
    );
  });

  it('gives every alert a severity, a runbook that exists and, where inhibition looks, an slo', async () => {
    const rules = parse((await generateAlertRules())['alerts/generated/rules.yml']!) as {
      groups: { rules: GeneratedRule[] }[];
    };
    const alerts = rules.groups.flatMap((g) => g.rules).filter((r) => 'alert' in r);
    expect(alerts.map((a) => a.alert)).toEqual([
      ...BURN_TIERS.map(() => BURN),
      'OAuthSLOBadEvents',
      'OAuthSLOOccurrences',
      ...(await loadSlos()).filter((s) => s.measure !== 'indicator').map(() => UNMEASURED),
      'Watchdog',
    ]);
    for (const alert of alerts) {
      expect(['page', 'ticket', 'none']).toContain(alert.labels['severity']);
      const runbook = alert.annotations['runbook_url']!.split('/')
        .pop()!
        .replace('{{ $labels.slo }}', SLO);
      const page = readFileSync(join(packageRoot, 'alerts', 'runbooks', `${runbook}.md`), 'utf8');
      for (const part of ['Meaning', 'Impact', 'Diagnosis', 'Mitigation', 'Afterwards'])
        expect(page).toContain(`## ${part}`);
    }
    const config = parse((await generateAlertRules())['alerts/generated/alertmanager.yml']!) as {
      inhibit_rules: { source_matchers: string[]; target_matchers: string[]; equal: string[] }[];
    };
    for (const rule of config.inhibit_rules) {
      for (const label of rule.equal) {
        expect(rule.source_matchers).toContain(`${label}=~".+"`);
        expect(rule.target_matchers).toContain(`${label}=~".+"`);
      }
    }
    // Every alert that either side selects has the label: the expression carries it by aggregation.
    for (const alert of alerts.filter((a) => a.alert === BURN))
      expect(lines(alert.expr)).toMatch(/^\( max by \(slo\) .* or on \(slo\) \( .* \) $/);
  });

  it('gives the same labels on both ways to Alertmanager', async () => {
    const slo = await issuance();
    const tier = BURN_TIERS[0]!;
    const fromPrometheus = (burn('fast', outage) as { exp_labels: Record<string, string> })
      .exp_labels;
    expect(burnLabels(slo, tier)).toEqual({ alertname: BURN, ...fromPrometheus });
  });
});

describe.skipIf(!installed)('amtool', () => {
  it('accepts the configuration', () => {
    const checked = run(programs.amtool, ['check-config', routesFile]);
    expect(checked.output).toContain('SUCCESS');
    expect(checked.output).toContain(`${RECEIVERS.length} receivers`);
    expect(checked.code).toBe(0);
  });

  it.each([
    [['alertname=Watchdog', 'severity=none', 'kind=meta'], 'dead_man'],
    [['alertname=OAuthSLOBudgetBurn', 'kind=slo', 'severity=page', 'slo=x'], 'sre_page'],
    [['alertname=OAuthSLOBudgetBurn', 'kind=slo', 'severity=ticket', 'slo=x'], 'sre_ticket'],
    [['alertname=OAuthSLOBudgetBurn', 'severity=page', 'slo=x', 'shadow=true'], 'none'],
    [['alertname=OAuthSLOBudgetBurn', 'severity=page', 'slo=x', 'shadow=false'], 'sre_page'],
    [['alertname=OAuthSLOUnmeasured', 'kind=slo', 'severity=page', 'slo=x'], 'sre_page'],
    [['alertname=refresh_reuse', 'kind=detection', 'severity=critical'], 'soc_page'],
    [['alertname=refresh_reuse', 'kind=detection', 'severity=high', 'client_id=a'], 'soc_page'],
    [['alertname=refresh_reuse', 'kind=detection', 'severity=medium'], 'soc'],
    [['alertname=Other'], 'sre_ticket'],
  ])('routes %j to %s', (labels, receiver) => {
    const right = run(programs.amtool, [
      'config',
      'routes',
      'test',
      `--config.file=${routesFile}`,
      `--verify.receivers=${receiver}`,
      ...labels,
    ]);
    expect(right.output.trim().split('\n')[0]).toBe(receiver);
    expect(right.code).toBe(0);
  });
});
