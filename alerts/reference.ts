import {
  BURN_TIERS,
  EVENT_CLASSES,
  type BudgetedSlo,
  type Classification,
  type EventFilter,
  type SloDefinition,
} from '../model/define_slo.ts';
import { FIGURE_WORDS } from './figures.ts';
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
    ...measureRows(slo),
    `| split by | ${slo.splitBy.map((d) => `\`${d}\``).join(', ')} |`,
    `| allowed lateness | ${slo.latenessSeconds} s |`,
    `| owner | ${slo.owner} |`,
    `| runbook | [${slo.runbook}](../../alerts/runbooks/${slo.runbook}.md) |`,
    ...(slo.shadow ? ['| shadow | its alerts reach nobody |'] : []),
  ];
}

function measureRows(slo: SloDefinition): readonly string[] {
  switch (slo.measure) {
    case 'ratio':
      return [...budgetRows(slo), ...classRows(slo)];
    case 'propagation':
      return [
        ...budgetRows(slo),
        '| counted | each revoked token at each API that saw it after the revocation |',
        `| good | the last acceptance came within ${slo.withinSeconds} s of the revocation, or there was none |`,
        '| bad | a later acceptance |',
      ];
    case 'counted':
      return [
        `| objective | at most ${slo.allowed} in 30 days |`,
        `| counted | findings of ${slo.rules.map((r) => `\`${r}\``).join(', ')} of severity ${slo.severityMin} and above that nobody called benign |`,
        '| excluded | the same below that severity |',
      ];
    case 'indicator':
      return [
        `| value | ${VALUE_WORDS[slo.value]} |`,
        ...classRows(slo),
        `| good means | ${slo.goodMeans} |`,
        ...(slo.badMeans === '' ? [] : [`| bad means | ${slo.badMeans} |`]),
        ...slo.figures.map((f) => `| figure \`${f}\` | ${FIGURE_WORDS[f]} |`),
      ];
  }
}

const VALUE_WORDS = {
  share: 'good by good and bad events',
  rate: 'good events a second',
  count: 'good events',
} as const;

function budgetRows(slo: BudgetedSlo): readonly string[] {
  const percent = (slo.objective * 100).toFixed(3).replace(/\.?0+$/, '');
  const ticket = slo.ticketBadEvents;
  return [
    `| objective | ${percent} % over 30 days |`,
    `| tiers | ${slo.tiers.join(', ')} |`,
    `| bad events before an alert | ${slo.minBadEvents} |`,
    ...(ticket === undefined ? [] : [`| bad events in a day that are a ticket | ${ticket} |`]),
  ];
}

function classRows(slo: Classification): readonly string[] {
  return [
    `| attempts | ${words(slo.attempts)} |`,
    ...EVENT_CLASSES.map((name) => `| ${name} | ${words(slo[name])} |`),
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
    ...list('code', filter.errorCodes),
    ...list('validation mode', filter.modes),
    ...list('subject', filter.subjectTypes),
    ...(filter.underMs === undefined ? [] : [`duration under ${filter.underMs} ms`]),
    ...(filter.isTimed === undefined ? [] : [`duration ${filter.isTimed ? '' : 'not '}known`]),
    ...(status === undefined
      ? []
      : [`HTTP status ${status.min} to ${status.max}${status.min === 0 ? ' or not given' : ''}`]),
  ].join(' with ');
}
