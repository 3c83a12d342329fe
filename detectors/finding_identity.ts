import { createHash } from 'node:crypto';
import type { AuthEvent } from '../model/auth_event.ts';
import type { BoundDetector, Signal } from '../model/define_detector.ts';
import type { Finding, Severity } from '../model/finding.ts';
import { uuidFromHex } from '../model/ids.ts';

/** Event ids kept with a finding; `evidence` counts all. */
export const EVENT_IDS_MAX = 200;
export const TOKEN_REFS_MAX = 100;
export const NETWORKS_MAX = 50;
export const SOURCES_MAX = 20;

/** What a verdict of this severity costs where it is right, 0-100; risk = confidence x impact / 100. */
const IMPACT: Readonly<Record<Severity, number>> = {
  info: 5,
  low: 25,
  medium: 50,
  high: 75,
  critical: 100,
};

/** A finding as the events give it: without what depends on the engine's clock. */
export type FindingContent = Omit<Finding, 'state' | 'detected_at' | 'updated_at'>;

/** The first 128 bits of SHA-256 over rule, version, tenant, entity and episode, as UUID text. */
export function findingId(
  ruleId: string,
  version: number,
  tenant: string,
  entity: string,
  episode: string,
): string {
  const name = JSON.stringify([ruleId, version, tenant, entity, episode]);
  return uuidFromHex(createHash('sha256').update(`grantscope finding\0${name}`).digest('hex'));
}

const sortedKnown = (values: readonly string[], max: number): string[] =>
  [...new Set(values)]
    .filter((v) => v !== '')
    .sort()
    .slice(0, max);

function iso(event: AuthEvent | undefined): string {
  return new Date(event === undefined ? 0 : Number(event.time / 1_000_000n)).toISOString();
}

/** Makes the finding of a signal; everything in it follows from the signal's events. */
export function toFinding(
  detector: BoundDetector,
  tenant: string,
  entity: string,
  signal: Signal,
): FindingContent {
  const { docs } = detector;
  const events = [...signal.events].sort((a, b) =>
    a.time !== b.time ? (a.time < b.time ? -1 : 1) : a.event_id < b.event_id ? -1 : 1,
  );
  const firstKnown = (get: (e: AuthEvent) => string): string =>
    events.map(get).find((v) => v !== '') ?? '';
  const entityType = signal.entityType ?? docs.entity;
  const isOfMany = entityType === 'source' || entityType === 'network';
  const concerned = (get: (e: AuthEvent) => string): string => {
    const [first = '', ...others] = isOfMany ? sortedKnown(events.map(get), 2) : [firstKnown(get)];
    return others.length === 0 ? first : '';
  };
  return {
    finding_id: findingId(docs.id, docs.version, tenant, entity, signal.episode),
    tenant,
    rule_id: docs.id,
    rule_version: docs.version,
    title: docs.title,
    family: docs.family,
    severity: signal.severity,
    confidence: signal.confidence,
    risk: Math.round((signal.confidence * IMPACT[signal.severity]) / 100),
    entity_type: entityType,
    entity_ref: entity,
    episode: signal.episode,
    verdict: signal.verdict,
    summary: signal.summary,
    reasons: [...signal.reasons],
    evidence: { ...signal.evidence },
    event_ids: sortedKnown(
      events.slice(0, EVENT_IDS_MAX).map((e) => e.event_id),
      EVENT_IDS_MAX,
    ),
    token_refs: sortedKnown(signal.tokenRefs, TOKEN_REFS_MAX),
    client_id: signal.ofClient ?? concerned((e) => e.client.id),
    subject_ref: signal.ofClient === undefined ? concerned((e) => e.subject.ref) : '',
    issuer: firstKnown((e) => e.issuer),
    networks: sortedKnown(
      events.map((e) => e.net.network),
      NETWORKS_MAX,
    ),
    sources: sortedKnown(
      events.map((e) => e.source.id),
      SOURCES_MAX,
    ),
    first_event_time: iso(events[0]),
    last_event_time: iso(events.at(-1)),
    references: [...docs.references],
    runbook: docs.id,
  };
}
