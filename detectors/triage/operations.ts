import { z } from 'zod';
import { SuppressionRequest, SuppressionScope, suppressionState } from '../../model/suppression.ts';
import { SEVERITIES } from '../../model/finding.ts';
import type { Runtime } from '../../runtime/context.ts';
import { GrantscopeError } from '../../runtime/errors.ts';
import type { Store } from '../../store/client.ts';
import {
  addDisposition,
  DispositionRequest,
  listDispositions,
  rulePrecision,
} from '../../store/queries/dispositions.ts';
import { getFinding } from '../../store/queries/findings.ts';
import {
  addSuppression,
  listSuppressions,
  previewSuppression,
  removeSuppression,
} from '../../store/queries/suppressions.ts';
import { readChanges } from '../../store/queries/triage.ts';

const Author = z.string().min(1).max(200);
const AddInput = z.strictObject({ request: SuppressionRequest, created_by: Author });
const PreviewInput = z.strictObject({
  scope: SuppressionScope,
  severity_max: z.enum(SEVERITIES).optional(),
});
const RemoveInput = z.strictObject({
  suppression_id: z.guid(),
  removed_by: Author,
  reason: z.string().min(1).max(1_000),
});

const FindingInput = z.strictObject({ finding_id: z.guid() });
const JudgeInput = DispositionRequest.extend({ finding_id: z.guid() });

/**
 * Registers what the commands `suppress` and `findings` ask for (runtime/operations.ts), once per runtime. Wrong input throws
 * `invalid_argument` with the field.
 */
export function registerTriageOperations(runtime: Runtime, store: Store): void {
  registerSuppressions(runtime, store);
  registerFindings(runtime, store);
}

/** `finding_history`, `finding_judge`, `rule_precision`. */
function registerFindings(runtime: Runtime, store: Store): void {
  const scope = { store, tenant: runtime.config.tenant };
  const { operations, clock } = runtime;
  operations.register('finding_history', async (input) => {
    const { finding_id } = check(FindingInput, input);
    if ((await getFinding(scope, finding_id)) === undefined)
      throw new GrantscopeError('not_found', 'finding_id: no finding has this id');
    return {
      steps: await readChanges(scope, finding_id),
      dispositions: await listDispositions(scope, finding_id),
    };
  });
  operations.register('finding_judge', (input) => {
    const { finding_id, ...request } = check(JudgeInput, input);
    return addDisposition(scope, finding_id, request, clock.nowMs());
  });
  operations.register('rule_precision', () => rulePrecision(scope));
}

/** `suppress_add`, `suppress_list`, `suppress_preview`, `suppress_remove`. */
function registerSuppressions(runtime: Runtime, store: Store): void {
  const scope = { store, tenant: runtime.config.tenant };
  const { operations, clock } = runtime;
  operations.register('suppress_list', async () =>
    (await listSuppressions(scope, clock.nowMs())).map((s) => ({
      ...s,
      state: suppressionState(s, clock.nowMs()),
    })),
  );
  operations.register('suppress_add', async (input) => {
    const { request, created_by } = check(AddInput, input);
    return addSuppression(scope, request, { createdBy: created_by, nowMs: clock.nowMs() });
  });
  operations.register('suppress_preview', async (input) => {
    const { scope: fields, severity_max } = check(PreviewInput, input);
    return previewSuppression(scope, fields, {
      nowMs: clock.nowMs(),
      severityMax: severity_max,
    });
  });
  operations.register('suppress_remove', async (input) => {
    const { suppression_id, removed_by, reason } = check(RemoveInput, input);
    const by = { removedBy: removed_by, reason, nowMs: clock.nowMs() };
    return removeSuppression(scope, suppression_id, by);
  });
}

function check<T extends z.ZodType>(schema: T, input: unknown): z.output<T> {
  const parsed = schema.safeParse(input);
  if (parsed.success) return parsed.data;
  const problems = parsed.error.issues.map((i) => {
    const path = i.path.filter((p) => p !== 'request' && p !== 'scope').join('.');
    return `${path || 'input'}: ${i.message}`;
  });
  throw new GrantscopeError('invalid_argument', problems.join('; '));
}
