import type { RuleCoverage, SourceCoverage } from '../detectors/coverage.ts';
import type { DetectorDocs } from '../model/define_detector.ts';
import type { EventFilter, SloDefinition, SloMeasure } from '../model/define_slo.ts';
import type { SourceDefinition } from '../model/define_source.ts';

/** Fields that every event has, whatever its source says. */
const OF_EVERY_EVENT = ['event_id', 'time', 'kind', 'outcome', 'phase', 'source.id', 'tenant'];
/** Fields that follow from another one (collector/processors/enrich.ts). */
const FOLLOWS: Readonly<Record<string, string>> = {
  'net.network': 'net.client_ip',
  'net.ua_family': 'net.user_agent',
};
/** Fields that the databases of `enrichment` tell of an address. */
const FROM_DATABASES = ['net.asn', 'net.country', 'net.latitude', 'net.longitude'];

/** A rule that has events of a source to read, and lacks a field in all of them. */
export interface BlindRule {
  readonly id: string;
  /** Needed fields that the source never fills. */
  readonly missing: readonly string[];
  /** Why it sees nothing although no field is missing. */
  readonly reason?: string;
}

/** What one source can be used for, by what its definition declares. */
export interface SourceUse {
  readonly works: readonly string[];
  /** Rules that work where databases of networks are configured. */
  readonly works_with_databases: readonly string[];
  readonly blind: readonly BlindRule[];
  /** Rules about kinds of events that the source has none of. */
  readonly not_concerned: readonly string[];
  readonly slis: readonly string[];
}

type Rule = Pick<DetectorDocs, 'id' | 'needs' | 'kinds'>;
/** What is asked of an SLI: which kinds of events it looks at. */
type Slo = Pick<SloDefinition, 'id'> & {
  readonly measure?: SloMeasure;
  readonly attempts?: readonly EventFilter[];
};
type Source = Pick<SourceDefinition, 'kinds' | 'provides' | 'blind_for'>;

/**
 * Which rules and SLIs a source can feed: a rule works where the source has events of a kind that the rule reads, and can
 * fill every field that it needs. What is filled in a running installation is another question: `grantscope rules coverage`.
 */
export function useOf(source: Source, rules: readonly Rule[], slos: readonly Slo[]): SourceUse {
  const provided = new Set([...source.provides, ...OF_EVERY_EVENT]);
  for (const [field, from] of Object.entries(FOLLOWS)) if (provided.has(from)) provided.add(field);
  const hasAddress = provided.has('net.client_ip');
  const use = {
    ...{ works: [] as string[], works_with_databases: [] as string[] },
    ...{ blind: [] as BlindRule[], not_concerned: [] as string[] },
  };
  for (const { id, needs, kinds } of rules) {
    const missing = needs.filter((field) => !provided.has(field));
    const reason = blindReason(source, id);
    const isLookedUp = hasAddress && missing.every((field) => FROM_DATABASES.includes(field));
    if (!hasOneOf(source, kinds)) use.not_concerned.push(id);
    else if (reason !== undefined) use.blind.push({ id, missing, reason });
    else if (missing.length === 0) use.works.push(id);
    else if (isLookedUp) use.works_with_databases.push(id);
    else use.blind.push({ id, missing });
  }
  const slis = slos
    .filter((slo) => kindsOf(slo).some((kinds) => kinds === undefined || hasOneOf(source, kinds)))
    .map((slo) => slo.id);
  return { ...use, slis };
}

/** The kinds of events that each way into an SLI asks for; undefined asks for none. */
function kindsOf(slo: Slo): readonly (readonly string[] | undefined)[] {
  if (slo.attempts !== undefined) return slo.attempts.map((a) => a.kinds);
  // A revocation is told by the authorization server; findings have sources of their own rules.
  return slo.measure === 'propagation' ? [['token_revoked']] : [];
}

function hasOneOf(source: Source, kinds: readonly string[]): boolean {
  return source.kinds?.some((kind) => kinds.includes(kind)) ?? true;
}

/** Why a rule sees nothing in a source, where its adapter says so; else undefined. */
export function blindReason(
  { blind_for }: Pick<SourceDefinition, 'blind_for'>,
  rule: string,
): string | undefined {
  return blind_for !== undefined && Object.hasOwn(blind_for, rule) ? blind_for[rule] : undefined;
}

/** Coverage of stored events, with what adapters say beside it. */
export interface ExplainedCoverage extends RuleCoverage {
  readonly sources: readonly (SourceCoverage & { readonly reason?: string })[];
}

/**
 * A rule is blind for a source whose adapter says so, however well its events fill the fields; without events there is
 * nothing to be blind for. What the other sources give the rule stays.
 */
export function withReasons(
  rule: RuleCoverage,
  sources: ReadonlyMap<string, Pick<SourceDefinition, 'blind_for'>>,
): ExplainedCoverage {
  const bySource = rule.sources.map((covered) => {
    const reason = blindReason(sources.get(covered.source_id) ?? {}, rule.rule_id);
    return reason === undefined || covered.state === 'no_events'
      ? covered
      : { ...covered, state: 'blind' as const, reason };
  });
  const state = STATES_FROM_BEST.find((s) => bySource.some((c) => c.state === s)) ?? 'no_events';
  return { ...rule, state, sources: bySource };
}

const STATES_FROM_BEST = ['sees', 'few_events', 'blind', 'no_events'] as const;
