/** The routes and the inhibition as they are generated, under the real amtool: every combination of labels to exactly its receiver. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import {
  INHIBIT_RULES,
  RECEIVERS,
  renderAlertmanagerConfig,
  type InhibitRule,
} from '../../alerts/alertmanager_config.ts';
import { renderPrometheusRules } from '../../alerts/prometheus_rules.ts';
import { loadSlos } from '../../alerts/registry.ts';
import { temporaryFolder } from '../harness.ts';
import { hasMonitoringPrograms, programs, run } from './programs.ts';

const installed = hasMonitoringPrograms();
const folder = temporaryFolder();
const file = join(folder.path, 'alertmanager.yml');
beforeAll(() => writeFileSync(file, renderAlertmanagerConfig()));
afterAll(() => folder.remove());

/** What a rule of inhibition lacks: labels that both sides must have with a value. */
function lacking(rule: InhibitRule): string[] {
  return rule.equal.flatMap((label) =>
    (['source_matchers', 'target_matchers'] as const)
      .filter((side) => !rule[side].includes(`${label}=~".+"`))
      .map((side) => `${side}: ${label}`),
  );
}

describe('inhibition', () => {
  it('asks on both sides for every label that must be equal', () => {
    expect(INHIBIT_RULES.map(lacking)).toEqual([[]]);
    const [rule] = INHIBIT_RULES;
    // The lint does find one that does not.
    expect(lacking({ ...rule!, target_matchers: ['severity="ticket"'] })).toEqual([
      'target_matchers: slo',
    ]);
    expect(lacking({ ...rule!, equal: ['slo', 'issuer'] })).toEqual([
      'source_matchers: issuer',
      'target_matchers: issuer',
    ]);
  });

  it('finds the label on every alert that it is about', async () => {
    const { groups } = parse(renderPrometheusRules(await loadSlos())) as {
      groups: {
        rules: { alert?: string; expr: string; labels?: Record<string, string> }[];
      }[];
    };
    const about = groups
      .flatMap((g) => g.rules)
      .filter((r) => r.alert !== undefined && r.labels?.['kind'] === 'slo');
    expect(about.length).toBeGreaterThan(4);
    for (const { alert, expr, labels } of about)
      expect(
        labels?.['slo'] !== undefined || /\b(max|sum) by \([^)]*\bslo\b/.test(expr),
        alert,
      ).toBe(true);
  });
});

/** The receiver by the words of docs and plan, and not by the configuration. */
function expectedReceiver(labels: Readonly<Record<string, string>>): string {
  if (labels['alertname'] === 'Watchdog') return 'dead_man';
  if (labels['shadow'] === 'true') return 'none';
  if (labels['kind'] === 'detection')
    return ['critical', 'high'].includes(labels['severity'] ?? '') ? 'soc_page' : 'soc';
  return labels['severity'] === 'page' ? 'sre_page' : 'sre_ticket';
}

const slo = ['OAuthSLOBudgetBurn', 'OAuthSLOBadEvents', 'OAuthSLOUnmeasured'].flatMap((alertname) =>
  ['page', 'ticket'].flatMap((severity) =>
    [undefined, 'true', 'false'].flatMap((shadow) =>
      [undefined, 'web-shop'].map((client_id) => ({
        alertname,
        kind: 'slo',
        slo: 'token_issuance_success',
        severity,
        ...(shadow === undefined ? {} : { shadow }),
        ...(client_id === undefined ? {} : { client_id }),
      })),
    ),
  ),
);
const detections = ['critical', 'high', 'medium', 'low'].flatMap((severity) =>
  [undefined, 'web-shop'].map((client_id) => ({
    alertname: 'refresh_token_reuse',
    kind: 'detection',
    severity,
    ...(client_id === undefined ? {} : { client_id }),
  })),
);
const others = [
  { alertname: 'Watchdog', kind: 'meta', severity: 'none' },
  { alertname: 'SomebodyElses' },
];

describe.skipIf(!installed)('amtool', () => {
  it('accepts the configuration', () => {
    const checked = run(programs.amtool, ['check-config', file]);
    expect(checked.output).toContain('SUCCESS');
    expect(checked.output).toContain(`${RECEIVERS.length} receivers`);
    expect(checked.output).toContain(`${INHIBIT_RULES.length} inhibit rules`);
    expect(checked.code).toBe(0);
  });

  it.each([...slo, ...detections, ...others])('routes %j', (labels: Record<string, string>) => {
    const routed = run(programs.amtool, [
      'config',
      'routes',
      'test',
      `--config.file=${file}`,
      ...Object.entries(labels).map(([k, v]) => `${k}=${v}`),
    ]);
    // The receivers stand on the first line; a remark about flags may follow.
    expect([routed.output.split('\n')[0], routed.code]).toEqual([expectedReceiver(labels), 0]);
  });
});
