import { renderAlertmanagerConfig } from './alertmanager_config.ts';
import { renderPrometheusRules } from './prometheus_rules.ts';
import { loadSlos } from './registry.ts';

/**
 * What alerting generates from the SLO definitions: path from the package root to content. The same
 * definitions give the same text. Throws `definition_invalid` where a definition cannot work.
 */
export async function generateAlertRules(): Promise<Record<string, string>> {
  const slos = await loadSlos();
  return {
    'alerts/generated/alertmanager.yml': renderAlertmanagerConfig(),
    'alerts/generated/rules.yml': renderPrometheusRules(slos),
  };
}
