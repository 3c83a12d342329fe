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
type Source = Pick<SourceDefinition, 'kinds' | 'provides'>;

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
    const isLookedUp = hasAddress && missing.every((field) => FROM_DATABASES.includes(field));
    if (!hasOneOf(source, kinds)) use.not_concerned.push(id);
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
