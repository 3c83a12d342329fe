import {
  BURN_TIERS,
  EVENT_CLASSES,
  type EventFilter,
  type SloDefinition,
} from '../model/define_slo.ts';
import { loadSlos } from './registry.ts';

/** The reference of all SLOs as Markdown, from the definitions: for `docs/reference/slos.md`. */
export async function renderSloReference(): Promise<string> {
  const slos = await loadSlos();
  return [
    '# SLOs',
    '',
    'Generated from `alerts/slos/` by `npx grantscope generate`. What the words mean: [docs/slo.md](../slo.md).',
    '',
    ...slos.flatMap((slo) => [...sloSection(slo), '']),
    '## Burn-rate tiers',
    '',
    '| tier | long and short window | budget spent faster than allowed by | for | severity |',
    '|---|---|---|---|---|',
    ...BURN_TIERS.map(
      (t) =>
        `| ${t.id} | ${t.long} and ${t.short} | ${t.factor} | ${t.forSeconds / 60} min | ${t.severity} |`,
    ),
    '',
  ].join('\n');
}

function sloSection(slo: SloDefinition): readonly string[] {
  return [
    `## ${slo.id}`,
    '',
    `${slo.title}. ${slo.description}`,
    '',
    '| | |',
    '|---|---|',
    `| objective | ${(slo.objective * 100).toFixed(3).replace(/\.?0+$/, '')} % over 30 days |`,
    `| attempts | ${words(slo.attempts)} |`,
    ...EVENT_CLASSES.map((name) => `| ${name} | ${words(slo[name])} |`),
    `| tiers | ${slo.tiers.join(', ')} |`,
    `| bad events before an alert | ${slo.minBadEvents} |`,
    `| allowed lateness | ${slo.latenessSeconds} s |`,
    `| owner | ${slo.owner} |`,
    `| runbook | [${slo.runbook}](../../alerts/runbooks/${slo.runbook}.md) |`,
    ...(slo.shadow ? ['| shadow | its alerts reach nobody |'] : []),
  ];
}

function words(filters: readonly EventFilter[]): string {
  if (filters.length === 0) return 'none';
  return filters.map(filterWords).join('; or ');
}

function filterWords(filter: EventFilter): string {
  const list = (name: string, values: readonly string[] | undefined): string[] =>
    values === undefined
      ? []
      : [`${name} ${values.map((v) => (v === '' ? 'not given' : `\`${v}\``)).join(', ')}`];
  const status = filter.httpStatus;
  return [
    ...list('kind', filter.kinds),
    ...list('outcome', filter.outcomes),
    ...list('endpoint', filter.endpoints),
    ...list('grant type', filter.grantTypes),
    ...list('error', filter.oauthErrors),
    ...(status === undefined
      ? []
      : [`HTTP status ${status.min} to ${status.max}${status.min === 0 ? ' or not given' : ''}`]),
  ].join(' with ');
}
