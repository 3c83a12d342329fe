import { z } from 'zod';
import type { Runtime } from '../runtime/context.ts';
import { GrantscopeError, messageOf } from '../runtime/errors.ts';
import type { Store } from '../store/client.ts';
import { backtest } from './backtest.ts';
import type { FindingContent } from './finding_identity.ts';
import { bindDetectors, detectorById, loadDetectors } from './registry.ts';

/** Findings listed per rule and side; the counts are of all. */
export const WHAT_IF_LISTED_MAX = 100;

/** Input of the operation `what_if`: parameters by rule that differ from the configured ones. */
export const WhatIfInput = z.strictObject({
  from: z.iso.datetime({ offset: true }),
  to: z.iso.datetime({ offset: true }),
  set: z
    .record(z.string(), z.record(z.string(), z.unknown()))
    .refine((s) => Object.keys(s).length > 0, 'at least one rule'),
});
export type WhatIfInput = z.input<typeof WhatIfInput>;

/** A finding that a change of parameters brings or takes away. */
export interface WhatIfFinding {
  readonly entity_ref: string;
  readonly client_id: string;
  readonly verdict: string;
  readonly severity: string;
  readonly summary: string;
}

/** What the change does to one rule. */
export interface RuleWhatIf {
  readonly rule_id: string;
  /** Each changed parameter with its configured and its tried value. */
  readonly changes: readonly { readonly name: string; readonly from: unknown; to: unknown }[];
  readonly before: number;
  readonly after: number;
  /** Findings of entities and episodes that the configured parameters don't give. */
  readonly added: readonly WhatIfFinding[];
  readonly added_count: number;
  readonly removed: readonly WhatIfFinding[];
  readonly removed_count: number;
  /** The same finding with another verdict or severity, as it becomes. */
  readonly regraded: readonly WhatIfFinding[];
  readonly regraded_count: number;
}

/** Result of the operation `what_if`. */
export interface WhatIfReport {
  readonly from: string;
  readonly to: string;
  /** Events in the range: with none, nothing was measured. */
  readonly events: number;
  readonly rules: readonly RuleWhatIf[];
}

/** Registers `what_if`: runs rules with the configured and with other parameters, and compares. Nothing is written. */
export async function registerWhatIfOperation(runtime: Runtime, store: Store): Promise<void> {
  const detectors = await loadDetectors();
  const { config } = runtime;
  runtime.operations.register('what_if', async (input, progress): Promise<WhatIfReport> => {
    const asked = checked(input);
    const range = { from: nsOf(asked.from), to: nsOf(asked.to) };
    if (range.from >= range.to)
      throw new GrantscopeError('invalid_argument', 'from: must be before to');
    const ids = Object.keys(asked.set).sort();
    const rules: RuleWhatIf[] = [];
    let events = 0;
    for (const [i, id] of ids.entries()) {
      progress(i, ids.length);
      const rule = detectorById(detectors, id);
      const configured = config.detectors[id] ?? {};
      const run = (overrides: Readonly<Record<string, unknown>>) =>
        backtest({
          ...{ store, tenant: config.tenant, clients: config.clients, range },
          detectors: bound(() => bindDetectors([rule], { [id]: overrides })),
        });
      const tried = { ...configured, ...asked.set[id] };
      const [now] = bound(() => bindDetectors([rule], { [id]: configured }));
      const [then] = bound(() => bindDetectors([rule], { [id]: tried }));
      const before = await run(configured);
      const after = await run(tried);
      ({ events } = before);
      const changes = Object.keys(asked.set[id] ?? {}).map((name) => ({
        ...{ name, from: now?.params[name], to: then?.params[name] },
      }));
      rules.push({ rule_id: id, changes, ...compareFindings(before.findings, after.findings) });
    }
    progress(ids.length, ids.length);
    return { from: asked.from, to: asked.to, events, rules };
  });
}

function checked(input: unknown): z.output<typeof WhatIfInput> {
  const parsed = WhatIfInput.safeParse(input);
  if (parsed.success) return parsed.data;
  const problems = parsed.error.issues.map((i) => `${i.path.join('.') || 'input'}: ${i.message}`);
  throw new GrantscopeError('invalid_argument', problems.join('; '));
}

/** A wrong parameter is the caller's mistake here, not the configuration's. */
function bound<T>(bind: () => T): T {
  try {
    return bind();
  } catch (error) {
    throw new GrantscopeError('invalid_argument', messageOf(error));
  }
}

function nsOf(iso: string): bigint {
  return BigInt(Date.parse(iso)) * 1_000_000n;
}

/** What differs between two runs of one rule: findings are the same where their ids are. */
export function compareFindings(
  before: readonly FindingContent[],
  after: readonly FindingContent[],
): Omit<RuleWhatIf, 'rule_id' | 'changes'> {
  const old = new Map(before.map((f) => [f.finding_id, f]));
  const ids = new Set(after.map((f) => f.finding_id));
  const added = after.filter((f) => !old.has(f.finding_id));
  const removed = before.filter((f) => !ids.has(f.finding_id));
  const regraded = after.filter((f) => {
    const was = old.get(f.finding_id);
    return was !== undefined && (was.verdict !== f.verdict || was.severity !== f.severity);
  });
  return {
    before: before.length,
    after: after.length,
    added: added.slice(0, WHAT_IF_LISTED_MAX).map(listed),
    added_count: added.length,
    removed: removed.slice(0, WHAT_IF_LISTED_MAX).map(listed),
    removed_count: removed.length,
    regraded: regraded.slice(0, WHAT_IF_LISTED_MAX).map(listed),
    regraded_count: regraded.length,
  };
}

function listed(finding: FindingContent): WhatIfFinding {
  const { entity_ref, client_id, verdict, severity, summary } = finding;
  return { entity_ref, client_id, verdict, severity, summary };
}
