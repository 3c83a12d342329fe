import { appendFile, open } from 'node:fs/promises';
import type { Severity } from '../../model/finding.ts';
import { RISK_LEVEL_FROM } from '../../model/risk.ts';
import { messageOf } from '../../runtime/errors.ts';
import { VERSION } from '../../runtime/version.ts';
import { post, POST_TIMEOUT_MS } from './http_post.ts';
import { messageId, type Outcome, type PendingStep, type Sink } from './sink.ts';

/** The version of the Open Cybersecurity Schema Framework that the events follow. */
export const OCSF_VERSION = '1.4.0';
const CATEGORY_FINDINGS = 2;
const CLASS_DETECTION_FINDING = 2004;
const ACTIVITY = { create: 1, update: 2, close: 3 } as const;
const ACTIVITY_NAMES = { 1: 'Create', 2: 'Update', 3: 'Close' } as const;
const STATUS = { new: 1, suppressed: 3, resolved: 4, deleted: 6 } as const;
const STATUS_NAMES = { 1: 'New', 3: 'Suppressed', 4: 'Resolved', 6: 'Deleted' } as const;
const SEVERITY: Readonly<Record<Severity, readonly [id: number, caption: string]>> = {
  info: [1, 'Informational'],
  low: [2, 'Low'],
  medium: [3, 'Medium'],
  high: [4, 'High'],
  critical: [5, 'Critical'],
};
const TYPE_OTHER = 99;
/** Observables of one kind that an event lists. */
const OBSERVABLES_MAX = 20;

export interface OcsfOptions {
  readonly id: string;
  readonly severityMin: Severity;
  readonly includeHidden: boolean;
  /** For links to the finding. */
  readonly consoleUrl: string;
  readonly to:
    | { readonly file: string }
    | {
        readonly url: string;
        readonly token: string | undefined;
        readonly ca: string | undefined;
        readonly timeoutMs?: number;
      };
}

/** Tells findings as OCSF Detection Findings. */
export function ocsfSink(options: OcsfOptions): Sink {
  const { to } = options;
  const send = 'file' in to ? fileSender(to.file) : webhookSender(to);
  const id = `ocsf/${options.id}`;
  return {
    id,
    kind: 'ocsf',
    severityMin: options.severityMin,
    includeHidden: options.includeHidden,
    prepare: (pending) => {
      const uid = messageId(id, pending.finding.finding_id, pending.step.change_no);
      const event = detectionFinding(pending, { uid, consoleUrl: options.consoleUrl });
      return Promise.resolve({ id: uid, body: JSON.stringify(event), subjectRef: '', level: '' });
    },
    send,
  };
}

/** The OCSF event of a step. Times are milliseconds since the epoch, as OCSF has them. */
export function detectionFinding(
  { step, finding: f, isKnown }: PendingStep,
  by: { readonly uid: string; readonly consoleUrl: string },
): Record<string, unknown> {
  const isOver = step.state !== 'open';
  const activity = isOver ? ACTIVITY.close : isKnown ? ACTIVITY.update : ACTIVITY.create;
  const status = statusOf(step);
  const [severity_id, severity] = SEVERITY[step.severity];
  const ms = (iso: string): number => Date.parse(iso);
  return {
    category_uid: CATEGORY_FINDINGS,
    category_name: 'Findings',
    class_uid: CLASS_DETECTION_FINDING,
    class_name: 'Detection Finding',
    activity_id: activity,
    activity_name: ACTIVITY_NAMES[activity],
    type_uid: CLASS_DETECTION_FINDING * 100 + activity,
    type_name: `Detection Finding: ${ACTIVITY_NAMES[activity]}`,
    time: ms(step.changed_at),
    start_time: ms(f.first_event_time),
    end_time: ms(f.last_event_time),
    severity_id,
    severity,
    status_id: status,
    status: STATUS_NAMES[status],
    // What holds now; the reason of a suppression or inhibition is why nobody was woken.
    ...(step.treated_reason === '' ? {} : { status_detail: step.treated_reason }),
    is_alert: !isOver && step.treatment === 'active',
    message: f.summary,
    confidence_score: f.confidence,
    confidence_id: f.confidence >= 70 ? 3 : f.confidence >= 40 ? 2 : 1,
    risk_score: f.risk,
    risk_level_id: f.risk >= RISK_LEVEL_FROM.high ? 3 : f.risk >= RISK_LEVEL_FROM.medium ? 2 : 1,
    metadata: {
      version: OCSF_VERSION,
      uid: by.uid,
      tenant_uid: f.tenant,
      sequence: step.change_no,
      product: { name: 'Grantscope', vendor_name: 'Grantscope', version: VERSION },
    },
    finding_info: findingInfo({ step, finding: f, isKnown }, by.consoleUrl),
    resources: [{ type: f.entity_type, uid: f.entity_ref }],
    evidences: [{ data: f.evidence }],
    observables: observablesOf({ step, finding: f, isKnown }),
    unmapped: { change: step.change, state: step.state, reopened: step.reopened },
  };
}

function statusOf({ state, treatment }: PendingStep['step']): keyof typeof STATUS_NAMES {
  if (state === 'superseded') return STATUS.deleted;
  if (state === 'closed') return STATUS.resolved;
  return treatment === 'active' ? STATUS.new : STATUS.suppressed;
}

function findingInfo({ step, finding: f }: PendingStep, consoleUrl: string) {
  const techniques = f.references.flatMap((r) => /\bT\d{4}(?:\.\d{3})?\b/.exec(r)?.[0] ?? []);
  return {
    uid: f.finding_id,
    title: f.title,
    desc: f.reasons.join('; '),
    types: [f.family, ...(step.verdict === '' ? [] : [step.verdict])],
    analytic: {
      type_id: 1,
      type: 'Rule',
      uid: f.rule_id,
      name: f.title,
      version: String(f.rule_version),
    },
    created_time: Date.parse(f.detected_at),
    modified_time: Date.parse(step.changed_at),
    first_seen_time: Date.parse(f.first_event_time),
    last_seen_time: Date.parse(f.last_event_time),
    data_sources: f.sources,
    src_url: `${consoleUrl}/#/findings/${f.finding_id}`,
    ...(techniques.length === 0
      ? {}
      : {
          attacks: techniques.map((uid) =>
            // A sub-technique goes with its technique.
            uid.includes('.')
              ? { technique: { uid: uid.slice(0, 5) }, sub_technique: { uid } }
              : { technique: { uid } },
          ),
        }),
  };
}

function observablesOf({ finding: f }: PendingStep): Record<string, unknown>[] {
  const some = (type: string, values: readonly string[]): Record<string, unknown>[] =>
    values
      .filter((v) => v !== '')
      .slice(0, OBSERVABLES_MAX)
      .map((value) => ({ name: `unmapped.${type}`, type_id: TYPE_OTHER, type, value }));
  return [
    ...some('oauth_client_id', [f.client_id]),
    ...some('subject_reference', [f.subject_ref]),
    ...some('issuer', [f.issuer]),
    ...some('network', f.networks),
    ...some('token_reference', f.token_refs),
  ];
}

/** Statuses that say that this very event will never be taken. */
const REFUSALS = new Set([400, 413, 415, 422]);

function webhookSender(to: Extract<OcsfOptions['to'], { readonly url: string }>): Sink['send'] {
  return async (message) => {
    const { status, retryAfterMs } = await post({
      url: to.url,
      headers: {
        'content-type': 'application/json',
        'idempotency-key': message.id,
        ...(to.token === undefined ? {} : { authorization: `Bearer ${to.token}` }),
      },
      body: message.body,
      ca: to.ca,
      timeoutMs: to.timeoutMs ?? POST_TIMEOUT_MS,
    });
    if (status >= 200 && status < 300) return { status: 'delivered' };
    const error = `http_${status}`;
    if (REFUSALS.has(status)) return { status: 'refused', error };
    return { status: 'retrying', error, retryAfterMs };
  };
}

/** How much of the end of a file is read at start, to know what a crash left unrecorded, bytes. */
const TAIL_BYTES_MAX = 1_048_576;

/** Appends and syncs. A line that a crash left behind without a record is not written again. */
function fileSender(file: string): Sink['send'] {
  let written: ReadonlySet<string> | undefined;
  let endsInLine = true;
  return async (message): Promise<Outcome> => {
    try {
      if (written === undefined) ({ uids: written, endsInLine } = await readTail(file));
      if (written.has(message.id)) return { status: 'delivered' };
      // What a crash cut off becomes a line of its own, which no reader takes for an event.
      const text = `${endsInLine ? '' : '\n'}${message.body}\n`;
      await appendFile(file, text, { mode: 0o600, flush: true });
      endsInLine = true;
      return { status: 'delivered' };
    } catch (error) {
      const code =
        error instanceof Error && 'code' in error ? String(error.code) : messageOf(error);
      // Part of the line may be there.
      written = undefined;
      return { status: 'retrying', error: code.slice(0, 40) };
    }
  };
}

async function readTail(
  file: string,
): Promise<{ readonly uids: ReadonlySet<string>; readonly endsInLine: boolean }> {
  const handle = await open(file, 'a+', 0o600);
  try {
    const { size } = await handle.stat();
    const from = Math.max(0, size - TAIL_BYTES_MAX);
    const { buffer, bytesRead } = await handle.read(
      Buffer.alloc(size - from),
      0,
      size - from,
      from,
    );
    const text = buffer.subarray(0, bytesRead).toString('utf8');
    const uids = text.split('\n').flatMap((line) => uidOf(line) ?? []);
    return { uids: new Set(uids), endsInLine: text === '' || text.endsWith('\n') };
  } finally {
    await handle.close();
  }
}

function uidOf(line: string): string | undefined {
  try {
    const event = JSON.parse(line) as { readonly metadata?: { readonly uid?: unknown } };
    return typeof event.metadata?.uid === 'string' ? event.metadata.uid : undefined;
  } catch {
    return undefined;
  }
}
