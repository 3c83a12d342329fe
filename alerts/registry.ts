import { z } from 'zod';
import {
  BURN_TIER_IDS,
  BURN_TIERS,
  burnRateMax,
  FIGURES,
  isBudgeted,
  LATENCY_BOUNDS_MS,
  SPLIT_DIMENSIONS,
  VALIDATION_MODES,
  type BurnTier,
  type SloDefinition,
} from '../model/define_slo.ts';
import { SEVERITIES } from '../model/finding.ts';
import { EVENT_KINDS, OUTCOMES, SUBJECT_TYPES } from '../model/kinds.ts';
import type { YamlConfig } from '../runtime/config.ts';
import { GrantscopeError } from '../runtime/errors.ts';
import { loadDefinitions } from '../runtime/registry.ts';

const NAME = /^[a-z][a-z0-9_]{0,62}$/;
/** Values that go into generated SQL as literals: no quote, no backslash, nothing to escape. */
const Literal = z.string().regex(/^[A-Za-z0-9_.:/-]{0,200}$/);

const Filter = z.strictObject({
  kinds: z.array(z.enum(EVENT_KINDS)).min(1).optional(),
  outcomes: z.array(z.enum(OUTCOMES)).min(1).optional(),
  endpoints: z.array(Literal).min(1).optional(),
  grantTypes: z.array(Literal).min(1).optional(),
  oauthErrors: z.array(Literal).min(1).optional(),
  errorCodes: z.array(Literal).min(1).optional(),
  httpStatus: z
    .strictObject({
      min: z.number().int().min(0).max(599),
      max: z.number().int().min(0).max(599),
    })
    .refine((s) => s.min <= s.max, 'min must not be above max')
    .optional(),
  modes: z.array(z.enum(VALIDATION_MODES)).min(1).optional(),
  subjectTypes: z.array(z.enum(SUBJECT_TYPES)).min(1).optional(),
  underMs: z
    .number()
    .refine(
      (ms) => LATENCY_BOUNDS_MS.some((bound) => bound === ms),
      `must be a bound that is counted exactly; allowed: ${LATENCY_BOUNDS_MS.join(', ')}`,
    )
    .optional(),
  isTimed: z.boolean().optional(),
});
const Filters = z.array(Filter);

const base = {
  id: z.string().regex(NAME),
  title: z.string().min(1).max(80),
  description: z.string().min(20),
  owner: z.string().min(1),
  runbook: z.string().regex(NAME),
  latenessSeconds: z.number().int().min(0).max(3_600),
  shadow: z.boolean(),
  splitBy: z.array(z.enum(SPLIT_DIMENSIONS)).min(1),
};
const budget = {
  objective: z.number().gt(0).lt(1),
  tiers: z.array(z.enum(BURN_TIER_IDS)),
  minBadEvents: z.number().int().min(1),
  ticketBadEvents: z.number().int().min(1).optional(),
};
const classes = { attempts: Filters.min(1), good: Filters.min(1), excluded: Filters, bad: Filters };

const Definition = z.discriminatedUnion('measure', [
  z.strictObject({
    measure: z.literal('ratio'),
    ...base,
    ...budget,
    ...classes,
    bad: Filters.min(1),
  }),
  z.strictObject({
    measure: z.literal('propagation'),
    ...base,
    ...budget,
    withinSeconds: z.number().int().min(1).max(86_400),
  }),
  z.strictObject({
    measure: z.literal('counted'),
    ...base,
    allowed: z.number().int().min(0),
    rules: z.array(z.string().regex(NAME)).min(1),
    severityMin: z.enum(SEVERITIES),
  }),
  z.strictObject({
    measure: z.literal('indicator'),
    ...base,
    ...classes,
    value: z.enum(['share', 'rate', 'count']),
    goodMeans: z.string().min(1),
    badMeans: z.string(),
    figures: z.array(z.enum(FIGURES)),
  }),
]);

/** Checks one definition; throws with the path of what is wrong. */
export function checkSlo(candidate: unknown): SloDefinition {
  const parsed = Definition.safeParse(candidate);
  if (!parsed.success) {
    const problems = parsed.error.issues.map((i) => `${i.path.join('.')}: ${i.message}`);
    throw new GrantscopeError('definition_invalid', problems.join('; '), { stage: 'starting' });
  }
  const slo = candidate as SloDefinition;
  if (slo.runbook !== slo.id) {
    // The rules of all SLOs share one annotation, which finds the page by the label `slo`.
    throw new GrantscopeError('definition_invalid', `${slo.id}: runbook must equal the id`, {
      stage: 'starting',
    });
  }
  tiersOf(slo);
  return slo;
}

/**
 * The tiers of an SLO; none where it has no budget. Throws `definition_invalid` for a tier that can never fire: with every event
 * bad the burn rate is 1 / (1 - objective), so a factor at or above that would be an alert that only looks like one.
 */
export function tiersOf(slo: SloDefinition): readonly BurnTier[] {
  if (!isBudgeted(slo)) return [];
  const highest = burnRateMax(slo.objective);
  return BURN_TIERS.filter((t) => slo.tiers.includes(t.id)).map((tier) => {
    if (tier.factor < highest) return tier;
    const needed = 1 - 1 / tier.factor;
    throw new GrantscopeError(
      'definition_invalid',
      `${slo.id}: tiers: ${tier.id} can never fire at an objective of ${slo.objective}: it needs a burn rate above ${tier.factor}, and a full outage reaches ${highest.toFixed(2)}; allowed: an objective above ${needed.toFixed(4)}, or no ${tier.id} tier`,
      { stage: 'starting' },
    );
  });
}

/** All SLOs of `alerts/slos/`, sorted by id. */
export function loadSlos(): Promise<readonly SloDefinition[]> {
  return loadDefinitions(new URL('./slos/', import.meta.url), checkSlo);
}

/** The definitions with what `grantscope.yaml` changes; throws `config_invalid` for an unknown id. */
export function applyOverrides(
  slos: readonly SloDefinition[],
  overrides: YamlConfig['slos'],
): { readonly enabled: readonly SloDefinition[]; readonly disabled: readonly SloDefinition[] } {
  const known = slos.map((s) => s.id);
  const unknown = Object.keys(overrides).filter((id) => !known.includes(id));
  if (unknown.length > 0) {
    throw new GrantscopeError(
      'config_invalid',
      `slos: no SLO named ${unknown.join(', ')}; allowed: ${known.join(', ')}`,
      { stage: 'starting' },
    );
  }
  const changed = slos.map((slo) => {
    const { objective, shadow } = overrides[slo.id] ?? {};
    if (objective !== undefined && !isBudgeted(slo)) {
      throw new GrantscopeError(
        'config_invalid',
        `slos.${slo.id}.objective: this one has no share as its objective; allowed: enabled, shadow`,
        { stage: 'starting' },
      );
    }
    return checkSlo({
      ...slo,
      ...(isBudgeted(slo) ? { objective: objective ?? slo.objective } : {}),
      shadow: shadow ?? slo.shadow,
    });
  });
  const isOn = (slo: SloDefinition): boolean => overrides[slo.id]?.enabled ?? true;
  return { enabled: changed.filter(isOn), disabled: changed.filter((s) => !isOn(s)) };
}
