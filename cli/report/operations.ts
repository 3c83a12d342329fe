import { z } from 'zod';
import { PostmortemRequest, type Postmortem } from '../../model/postmortem.ts';
import { REPORT_KINDS, type Report } from '../../model/report.ts';
import type { Runtime } from '../../runtime/context.ts';
import { GrantscopeError } from '../../runtime/errors.ts';
import type { Store } from '../../store/client.ts';
import { buildPostmortem } from './build_postmortem.ts';
import { buildReport } from './build_report.ts';
import type { Registration } from './monthly.ts';
import { periodOf } from './period.ts';

/** The operation that gives a `Report`. */
export const REPORT_OPERATION = 'report';
/** The operation that gives a `Postmortem`; the API's route asks for it by this name. */
export const POSTMORTEM_OPERATION = 'postmortem';

const Time = z.iso.datetime({ offset: true });
const ReportRequest = z.strictObject({
  kind: z.enum(REPORT_KINDS),
  from: Time.optional(),
  to: Time.optional(),
});
export type ReportRequest = z.infer<typeof ReportRequest>;

const Registrations = z.array(
  z.object({
    client_id: z.string(),
    scopes: z.array(z.string()).optional(),
    has_secret: z.boolean().optional(),
  }),
);

/** Makes reports and postmortems known to a process that holds the store, once per runtime. */
export function registerReportOperations(runtime: Runtime, store: Store): void {
  const scope = { store, tenant: runtime.config.tenant };
  runtime.operations.register(REPORT_OPERATION, async (input): Promise<Report> => {
    const { kind, ...given } = parsed(ReportRequest, input);
    const nowMs = runtime.clock.nowMs();
    return buildReport(scope, {
      kind,
      ...periodOf(kind, given, nowMs),
      nowMs,
      registrations: kind === 'monthly' ? await registrationsOf(runtime) : undefined,
    });
  });
  runtime.operations.register(POSTMORTEM_OPERATION, (input): Promise<Postmortem> =>
    buildPostmortem(scope, parsed(PostmortemRequest, input), runtime.clock.nowMs()),
  );
}

/** The clients that the rules know; undefined in a process without rules. */
async function registrationsOf(runtime: Runtime): Promise<readonly Registration[] | undefined> {
  const clients = await runtime.operations.get('clients_list')?.({}, () => undefined);
  return clients === undefined ? undefined : Registrations.parse(clients);
}

function parsed<T>(schema: z.ZodType<T>, input: unknown): T {
  const result = schema.safeParse(input);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  throw new GrantscopeError(
    'invalid_argument',
    `${issue?.path.join('.') ?? ''}: ${issue?.message ?? 'not allowed'}`,
  );
}
