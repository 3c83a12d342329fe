import { z } from 'zod';
import { ENTITY_TYPES, SEVERITIES, type Finding, type Severity } from './finding.ts';

/** Longest life of a suppression, days: a year, leap years included. Whoever still wants it then says so again. */
export const SUPPRESSION_DAYS_MAX = 366;
/** Networks or sources that one scope names. */
export const SCOPE_VALUES_MAX = 50;

const NO_CONTROL_CHARACTERS = /^[^\u0000-\u001f\u007f]*$/;
const text = (max: number): z.ZodString =>
  z
    .string()
    .min(1)
    .max(max)
    .regex(NO_CONTROL_CHARACTERS, 'must not hold control characters')
    .regex(/\S/, 'must not be blank');
/** A name is compared as it is. What looks like "everything" is refused, not taken for a name. */
const name = text(512).regex(
  /[^*%?\s]/,
  'names one thing; there is no wildcard: leave the field out for any',
);

const scopeFields = {
  rule_id: name.optional().describe('Rule.'),
  verdict: name.optional().describe('Verdict of the rule.'),
  entity_type: z.enum(ENTITY_TYPES).optional().describe('Goes with entity_ref.'),
  entity_ref: name.optional().describe('What the finding is about. Goes with entity_type.'),
  client_id: name.optional().describe('Client.'),
  networks: z
    .array(name)
    .min(1)
    .max(SCOPE_VALUES_MAX)
    .optional()
    .describe('A finding is inside when it names a network and all it names are listed.'),
  sources: z
    .array(name)
    .min(1)
    .max(SCOPE_VALUES_MAX)
    .optional()
    .describe('A finding is inside when it names a source and all it names are listed.'),
} as const;

type ScopeFields = z.infer<z.ZodObject<typeof scopeFields>>;

/** Adds what a scope as a whole must satisfy. */
function checkScope(scope: ScopeFields, context: z.RefinementCtx): void {
  if ((scope.entity_type === undefined) !== (scope.entity_ref === undefined)) {
    const path = [scope.entity_type === undefined ? 'entity_type' : 'entity_ref'];
    context.addIssue({ code: 'custom', path, message: 'entity_type and entity_ref go together' });
  }
  const named = Object.keys(scopeFields) as (keyof ScopeFields)[];
  if (named.every((key) => scope[key] === undefined)) {
    context.addIssue({
      code: 'custom',
      path: ['rule_id'],
      message: `a scope names at least one of ${named.join(', ')}; nothing hides everything`,
    });
  }
}

/** Which findings a suppression is about: those that satisfy every field that is given. At least one is. */
export const SuppressionScope = z.strictObject(scopeFields).superRefine(checkScope);
export type SuppressionScope = z.infer<typeof SuppressionScope>;

const termFields = {
  owner: text(200).describe('Who answers for it: a person or a team.'),
  reason: text(1_000).describe('Why these findings are not worth a notification.'),
  expires_at: z.iso
    .datetime({ offset: true, error: 'must be ISO 8601 with a time zone' })
    .describe(`When it ends; at most ${SUPPRESSION_DAYS_MAX} days away.`),
  severity_max: z
    .enum(SEVERITIES)
    .optional()
    .describe(
      'Gravest severity that it hides; a finding above it breaks through. Default: the gravest among the findings it would have hidden in the last 30 days, at most high, and medium where there were none.',
    ),
} as const;

/** What a person gives to add a suppression. */
export const SuppressionRequest = z
  .strictObject({ ...scopeFields, ...termFields })
  .superRefine(checkScope);
export type SuppressionRequest = z.infer<typeof SuppressionRequest>;

/** Where a suppression comes from: a person by API or command line, or grantscope.yaml. */
export const SUPPRESSION_ORIGINS = ['api', 'config'] as const;
export type SuppressionOrigin = (typeof SUPPRESSION_ORIGINS)[number];

/** `removed`: a person ended it, or it is no longer in grantscope.yaml. */
export const SUPPRESSION_STATES = ['active', 'expired', 'removed'] as const;
export type SuppressionState = (typeof SUPPRESSION_STATES)[number];

/** A suppression as it is stored. Times are ISO 8601; '' where there is none. */
export interface Suppression {
  readonly suppression_id: string;
  readonly origin: SuppressionOrigin;
  readonly scope: SuppressionScope;
  readonly severity_max: Severity;
  readonly owner: string;
  readonly reason: string;
  readonly created_by: string;
  readonly created_at: string;
  readonly expires_at: string;
  readonly removed_at: string;
  readonly removed_by: string;
  readonly removed_reason: string;
}

/** The fields of a finding that scopes are about. */
export type ScopedFinding = Pick<
  Finding,
  'rule_id' | 'verdict' | 'entity_type' | 'entity_ref' | 'client_id' | 'networks' | 'sources'
>;

const allListed = (values: readonly string[], listed: readonly string[]): boolean =>
  values.length > 0 && values.every((v) => listed.includes(v));

/**
 * Whether a finding is inside a scope. `store/queries/suppressions.ts` says the same in SQL; a test holds them together.
 * A scope of networks or sources hides only what lies wholly within it: somebody from elsewhere is never hidden.
 */
export function isInScope(scope: SuppressionScope, finding: ScopedFinding): boolean {
  const equals = (wanted: string | undefined, value: string): boolean =>
    wanted === undefined || wanted === value;
  return (
    equals(scope.rule_id, finding.rule_id) &&
    equals(scope.verdict, finding.verdict) &&
    equals(scope.entity_type, finding.entity_type) &&
    equals(scope.entity_ref, finding.entity_ref) &&
    equals(scope.client_id, finding.client_id) &&
    (scope.networks === undefined || allListed(finding.networks, scope.networks)) &&
    (scope.sources === undefined || allListed(finding.sources, scope.sources))
  );
}

/** True where `severity` is graver than `limit`. */
export function isGraver(severity: Severity, limit: Severity): boolean {
  return SEVERITIES.indexOf(severity) > SEVERITIES.indexOf(limit);
}

/** The state of a suppression at a time, ms. */
export function suppressionState(
  s: Pick<Suppression, 'expires_at' | 'removed_at'>,
  nowMs: number,
): SuppressionState {
  if (s.removed_at !== '') return 'removed';
  return Date.parse(s.expires_at) <= nowMs ? 'expired' : 'active';
}

/** The scope in words: `rule refresh_token_reuse, client shop`. */
export function scopeInWords(scope: SuppressionScope): string {
  const parts = [
    ['rule', scope.rule_id],
    ['verdict', scope.verdict],
    [scope.entity_type ?? 'entity', scope.entity_ref],
    ['client', scope.client_id],
    ['networks', scope.networks?.join(' ')],
    ['sources', scope.sources?.join(' ')],
  ] as const;
  return parts
    .filter(([, value]) => value !== undefined)
    .map(([what, value]) => `${what} ${value ?? ''}`)
    .join(', ');
}
