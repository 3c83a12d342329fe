import type { Finding } from '../../model/finding.ts';
import { isGraver, isInScope, scopeInWords, type Suppression } from '../../model/suppression.ts';
import type { FindingChange, FindingStatus } from '../../model/triage.ts';
import { INHIBITIONS, type Inhibition } from './inhibitions.ts';

/** What a decision needs of a finding. Times are event times, ms. */
export interface TriagedFinding extends Pick<
  Finding,
  | 'finding_id'
  | 'rule_id'
  | 'severity'
  | 'verdict'
  | 'state'
  | 'entity_type'
  | 'entity_ref'
  | 'client_id'
  | 'issuer'
  | 'networks'
  | 'sources'
> {
  readonly firstMs: number;
  readonly lastMs: number;
  /** Instances that told of its events, '' for one without a name; absent where no cause asks for them. */
  readonly hosts?: readonly string[];
}

/** Something that happened and mutes consequences. */
export interface Cause {
  readonly inhibition: string;
  readonly kind: 'event' | 'finding' | 'slo';
  readonly id: string;
  /** Event time, ms. */
  readonly fromMs: number;
  readonly toMs: number;
  readonly issuer: string;
  readonly client_id: string;
  readonly sources: readonly string[];
  /** The instance that it is about; '' where it is about none. */
  readonly host: string;
}

type TreatmentFields = Pick<
  FindingStatus,
  | 'treatment'
  | 'treated_kind'
  | 'treated_by'
  | 'inhibition'
  | 'treated_owner'
  | 'treated_reason'
  | 'treated_until'
>;

const ACTIVE: TreatmentFields = {
  treatment: 'active',
  treated_kind: '',
  treated_by: '',
  inhibition: '',
  treated_owner: '',
  treated_reason: '',
  treated_until: '',
};

/**
 * The status that a finding should have, as a new step in its history; undefined where nothing changed. A pure function: the
 * same finding, history, suppressions and causes give the same step.
 */
export function decide(
  finding: TriagedFinding,
  before: FindingStatus | undefined,
  input: {
    /** Those that hold now, in order of their creation. */
    readonly suppressions: readonly Suppression[];
    readonly causes: readonly Cause[];
    readonly nowMs: number;
  },
): FindingStatus | undefined {
  // What is over keeps the treatment it had: nothing is notified of it any more.
  const treatment =
    finding.state === 'open' || before === undefined
      ? treatmentOf(finding, before, input.suppressions, input.causes)
      : before;
  const change = changeOf(finding, before, treatment);
  if (change === undefined) return undefined;
  return {
    finding_id: finding.finding_id,
    change_no: (before?.change_no ?? 0) + 1,
    change,
    changed_at: new Date(input.nowMs).toISOString(),
    rule_id: finding.rule_id,
    state: finding.state,
    severity: finding.severity,
    verdict: finding.verdict,
    treatment: treatment.treatment,
    treated_kind: treatment.treated_kind,
    treated_by: treatment.treated_by,
    inhibition: treatment.inhibition,
    treated_owner: treatment.treated_owner,
    treated_reason: treatment.treated_reason,
    treated_until: treatment.treated_until,
    reopened: (before?.reopened ?? 0) + (change === 'reopened' ? 1 : 0),
  };
}

function changeOf(
  finding: TriagedFinding,
  before: FindingStatus | undefined,
  treatment: TreatmentFields,
): FindingChange | undefined {
  const { state, severity, verdict } = finding;
  if (before === undefined) return state === 'open' ? 'opened' : state;
  if (before.state !== state) return state === 'open' ? 'reopened' : state;
  if (before.treatment !== treatment.treatment) {
    return treatment.treatment === 'active' ? 'released' : treatment.treatment;
  }
  if (isGraver(severity, before.severity)) return 'escalated';
  const isUpdated =
    severity !== before.severity ||
    verdict !== before.verdict ||
    treatment.treated_by !== before.treated_by;
  return isUpdated ? 'updated' : undefined;
}

/** A suppression is a person's decision and goes before an inhibition. */
function treatmentOf(
  finding: TriagedFinding,
  before: FindingStatus | undefined,
  suppressions: readonly Suppression[],
  causes: readonly Cause[],
): TreatmentFields {
  const covering = suppressions.filter((s) => isInScope(s.scope, finding));
  const hiding = covering.find((s) => !isGraver(finding.severity, s.severity_max));
  if (hiding !== undefined) {
    return {
      treatment: 'suppressed',
      treated_kind: 'suppression',
      treated_by: hiding.suppression_id,
      inhibition: '',
      treated_owner: hiding.owner,
      treated_reason: hiding.reason,
      treated_until: hiding.expires_at,
    };
  }
  const broken = covering[0];
  if (broken !== undefined) {
    const reason = `${finding.severity} breaks through suppression ${broken.suppression_id} (${scopeInWords(broken.scope)}), which hides up to ${broken.severity_max}`;
    return { ...ACTIVE, treated_reason: reason };
  }
  return inhibitedBy(finding, before, causes) ?? ACTIVE;
}

function inhibitedBy(
  finding: TriagedFinding,
  before: FindingStatus | undefined,
  causes: readonly Cause[],
): TreatmentFields | undefined {
  if (finding.severity === 'critical') return undefined;
  const found = causes
    .flatMap((cause) => {
      const inhibition = INHIBITIONS.find((i) => i.id === cause.inhibition);
      return inhibition !== undefined && mutes(inhibition, cause, finding)
        ? [{ cause, inhibition }]
        : [];
    })
    // The one that lasts longest, whatever the order in which they were found.
    .sort((a, b) => endOf(b) - endOf(a) || (a.cause.id < b.cause.id ? -1 : 1));
  if (isStillInhibited(finding, before, found)) return before;
  const [best] = found;
  return best === undefined
    ? undefined
    : {
        treatment: 'inhibited',
        treated_kind: best.cause.kind,
        treated_by: best.cause.id,
        inhibition: best.inhibition.id,
        treated_owner: '',
        treated_reason: best.inhibition.reason,
        treated_until: new Date(endOf(best)).toISOString(),
      };
}

/**
 * A finding that is muted stays muted by the same cause until it outgrows what was promised. An SLO tells only of now, so
 * that its silence later releases nothing; another cause that was withdrawn does.
 */
function isStillInhibited(
  finding: TriagedFinding,
  before: FindingStatus | undefined,
  found: readonly { readonly cause: Cause }[],
): before is FindingStatus {
  return (
    before?.treatment === 'inhibited' &&
    finding.lastMs <= Date.parse(before.treated_until) &&
    (before.treated_kind === 'slo' || found.some((f) => f.cause.id === before.treated_by))
  );
}

function endOf(found: { readonly cause: Cause; readonly inhibition: Inhibition }): number {
  return found.cause.toMs + found.inhibition.forMs;
}

function mutes(inhibition: Inhibition, cause: Cause, finding: TriagedFinding): boolean {
  if (cause.kind === 'finding' && cause.id === finding.finding_id) return false;
  const isListed = inhibition.mutes.some(
    (m) =>
      m.rule === finding.rule_id &&
      (m.verdicts === undefined || m.verdicts.includes(finding.verdict)),
  );
  return (
    isListed &&
    finding.firstMs >= cause.fromMs - inhibition.beforeMs &&
    finding.lastMs <= cause.toMs + inhibition.forMs &&
    inhibition.scope.every((field) => agrees(field, cause, finding))
  );
}

/** What is unknown agrees with nothing: a cause without an issuer mutes no finding of any. */
function agrees(
  field: Inhibition['scope'][number],
  cause: Cause,
  finding: TriagedFinding,
): boolean {
  switch (field) {
    case 'issuer':
      return cause.issuer !== '' && cause.issuer === finding.issuer;
    case 'client':
      return cause.client_id !== '' && cause.client_id === finding.client_id;
    case 'source':
      return finding.sources.length > 0 && finding.sources.every((s) => cause.sources.includes(s));
    case 'host': {
      const hosts = finding.hosts ?? [];
      const areKnown = cause.host !== '' && hosts.length > 0 && !hosts.includes('');
      return areKnown
        ? hosts.every((host) => host === cause.host)
        : agrees('source', cause, finding);
    }
  }
}
