import { readFileSync } from 'node:fs';
import { parse as parseYaml } from 'yaml';
import { z } from 'zod';
import { GrantscopeError, messageOf } from '../runtime/errors.ts';

const count = z.int().min(0).optional();

/** One line of a file of expectations: how many findings of a rule, a verdict of it, or a severity there must be. */
const Expectation = z
  .strictObject({
    rule: z.string(),
    verdict: z.string().optional(),
    severity: z.enum(['info', 'low', 'medium', 'high', 'critical']).optional(),
    at_least: count,
    at_most: count,
    exactly: count,
  })
  .refine((e) => e.verdict === undefined || e.severity === undefined, {
    message: 'verdict or severity, not both',
  })
  .refine((e) => [e.at_least, e.at_most, e.exactly].some((n) => n !== undefined), {
    message: 'at_least, at_most or exactly is needed',
  });
export type Expectation = z.output<typeof Expectation>;

/** What an expectation is held against. */
interface Counted {
  readonly rule_id: string;
  readonly findings: number;
  readonly by_severity: Readonly<Record<string, number>>;
  readonly by_verdict: Readonly<Record<string, number>>;
}

/** The same with what was found. */
export interface Judged extends Expectation {
  /** null where the rule did not run. */
  readonly found: number | null;
  readonly met: boolean;
}

/** Reads a YAML or JSON list. Throws `invalid_argument` with the place and what is allowed. */
export function readExpectations(file: string): readonly Expectation[] {
  let raw: unknown;
  try {
    raw = parseYaml(readFileSync(file, 'utf8'));
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? messageOf(error);
    throw new GrantscopeError('invalid_argument', `--expect ${file}: cannot be read (${code})`);
  }
  const parsed = z.array(Expectation).min(1).safeParse(raw);
  if (parsed.success) return parsed.data;
  const problems = parsed.error.issues.map((i) => `${i.path.join('.') || 'list'}: ${i.message}`);
  throw new GrantscopeError('invalid_argument', `--expect ${file}: ${problems.join('; ')}`);
}

/** Holds expectations against a backtest. Without events nothing was measured, and none is met. */
export function judgeExpectations(
  expectations: readonly Expectation[],
  rules: readonly Counted[],
  events: number,
): readonly Judged[] {
  return expectations.map((e) => {
    const rule = rules.find((r) => r.rule_id === e.rule);
    const found = rule === undefined ? null : countOf(rule, e);
    const met =
      events > 0 &&
      found !== null &&
      found >= (e.at_least ?? 0) &&
      found <= (e.at_most ?? Infinity) &&
      (e.exactly === undefined || found === e.exactly);
    return { ...e, found, met };
  });
}

function countOf(rule: Counted, { verdict, severity }: Expectation): number {
  if (verdict !== undefined) return rule.by_verdict[verdict] ?? 0;
  return severity === undefined ? rule.findings : (rule.by_severity[severity] ?? 0);
}

export function expectationLine(e: Judged): string {
  const what = [e.rule, e.verdict ?? e.severity].filter((t) => t !== undefined).join(' ');
  const asked = (['at_least', 'at_most', 'exactly'] as const)
    .filter((c) => e[c] !== undefined)
    .map((c) => `${c} ${e[c]}`)
    .join(', ');
  const found = e.found === null ? 'the rule did not run' : `found ${e.found}`;
  return `${e.met ? 'met    ' : 'NOT MET'}  ${what}: ${asked}; ${found}`;
}
