import { z } from 'zod';
import type { DetectorDocs } from '../model/define_detector.ts';
import { param, sql } from '../model/sql.ts';
import type { Store } from '../store/client.ts';
import {
  coverageRange,
  readCoverage,
  type Coverage,
  type CoveredRule,
  type SourceCoverage,
} from './coverage.ts';
import { findingId, type FindingContent } from './finding_identity.ts';
import { addChanges, closeQuietFindings, writeFindings } from './findings_store.ts';
import type { FindingChanges, WriteContext } from './findings_store.ts';

const NS_PER_MS = 1_000_000n;
const HOUR_MS = 3_600_000;
/** Events that one look reads, more or less: it comes round every few minutes. */
const EVENTS_PER_LOOK_MAX = 200_000;

/** Parameters of `detector_blind`, set in grantscope.yaml like those of a rule. */
export const BlindParameters = z.strictObject({
  /** A needed field that is unknown in more than this share of the events that could hold it blinds a rule, 0-1. */
  unknown_share_max: z.number().min(0.01).max(0.99).default(0.5),
  /** Events that could hold the field, below which nothing is said. */
  events_min: z.int().min(1).max(1_000_000).default(500),
  /** How far back events are looked at, ms of event time; less where many come. */
  window_ms: z.int().min(60_000).max(604_800_000).default(86_400_000),
  /** Sources that are known to be poor in fields. */
  exclude_sources: z.array(z.string()).default([]),
  /** Rules that nobody misses. */
  exclude_rules: z.array(z.string()).default([]),
});
export type BlindParameters = z.infer<typeof BlindParameters>;

/**
 * What is said about rules that cannot see. Made by the engine and not by a rule file, since it is about the other rules;
 * it has no examples, and a backtest does not run it: it speaks of what the sources send now.
 */
export const BLIND_RULE: DetectorDocs = {
  id: 'detector_blind',
  version: 1,
  title: 'Rules that cannot see what a source sends',
  family: 'operations',
  severity: 'low',
  confidence: 90,
  description:
    'A field that a rule needs is unknown in most of the events that a source sends, so that the rule stays silent about that source whatever happens there.',
  references: ['ATT&CK T1562.006'],
  entity: 'source',
  verdicts: { blind: 'At least one rule lacks a field that it needs.' },
  evidence: {
    blind_rules: 'The rules, by id.',
    missing_fields: 'Needed fields that are unknown too often, by rule.',
  },
  needs: ['source.id'],
  kinds: [],
  episodes: 'lifetime',
  quietMs: 3 * HOUR_MS,
  falsePositives: [
    'A source that has no such field by nature: list it in exclude_sources, or the rule in exclude_rules.',
    'Not reported: sources with fewer events than events_min, and sources without a name.',
  ],
  examples: [],
};

/** Sources for which each rule is blind. */
export type BlindSources = ReadonlyMap<string, number>;

/** What a look at the coverage concluded and wrote. */
export interface BlindLook {
  readonly changes: FindingChanges;
  readonly blindSources: BlindSources;
}

export interface BlindCheckOptions {
  readonly store: Store;
  readonly tenant: string;
  readonly rules: readonly CoveredRule[];
  readonly parameters: BlindParameters;
}

/** Writes one finding for each source that leaves rules blind, and closes it when the source no longer does. */
export async function checkBlindness(
  { store, tenant, rules, parameters }: BlindCheckOptions,
  nowMs: number,
): Promise<BlindLook> {
  const to = BigInt(nowMs) * NS_PER_MS;
  const { window_ms } = parameters;
  const range = await coverageRange(store, tenant, to, window_ms, EVENTS_PER_LOOK_MAX);
  const covered = rules.filter((r) => !parameters.exclude_rules.includes(r.id));
  const coverage = await readCoverage(store, tenant, covered, range, {
    unknownShareMax: parameters.unknown_share_max,
    eventsMin: parameters.events_min,
  });
  const blind = blindBySource(coverage, parameters);
  const context: WriteContext = {
    tenant,
    ruleId: BLIND_RULE.id,
    quietMs: BLIND_RULE.quietMs,
    nowMs,
  };
  const since = await readOpenSince(store, tenant, [...blind.keys()]);
  const units = [...blind].map(([source, missing]) => {
    const finding = findingOf(tenant, source, missing, nowMs, since.get(source));
    return { unit: { entity: source, day: '' }, findings: [finding], followedTokens: [] };
  });
  const written = await writeFindings(store, context, units);
  const closed = await closeQuietFindings(store, context);
  return {
    changes: addChanges(written, closed),
    blindSources: new Map(rules.map(({ id }) => [id, countOf(blind, id)])),
  };
}

type Missing = ReadonlyMap<string, readonly string[]>;

/** Missing fields by rule, by source. */
function blindBySource(
  coverage: Coverage,
  parameters: BlindParameters,
): ReadonlyMap<string, Missing> {
  const bySource = new Map<string, Map<string, readonly string[]>>();
  const isBlind = (c: SourceCoverage): boolean =>
    c.state === 'blind' && c.source_id !== '' && !parameters.exclude_sources.includes(c.source_id);
  for (const { rule_id, sources } of coverage.rules)
    for (const { source_id, missing } of sources.filter(isBlind)) {
      const rules = bySource.get(source_id) ?? new Map<string, readonly string[]>();
      bySource.set(source_id, rules.set(rule_id, missing));
    }
  return bySource;
}

function countOf(blind: ReadonlyMap<string, Missing>, rule: string): number {
  return [...blind.values()].filter((rules) => rules.has(rule)).length;
}

/** Since when the sources' open findings hold, ISO. */
async function readOpenSince(
  store: Store,
  tenant: string,
  sources: readonly string[],
): Promise<ReadonlyMap<string, string>> {
  if (sources.length === 0) return new Map();
  const rows = await store.query<{ source: string; since: string }>(sql`
    SELECT entity_ref AS source, first_event_time AS since FROM grantscope.findings FINAL
    WHERE tenant = ${param.string(tenant)} AND rule_id = ${param.string(BLIND_RULE.id)}
      AND entity_ref IN ${param.strings(sources)} AND state = 'open'`);
  return new Map(rows.map((r) => [r.source, `${r.since.replace(' ', 'T')}Z`]));
}

/** Its times are cut to the hour, and it holds no shares: so that it is written anew only when something changes. */
function findingOf(
  tenant: string,
  source: string,
  missing: Missing,
  nowMs: number,
  since: string | undefined,
): FindingContent {
  const hour = new Date(Math.floor(nowMs / HOUR_MS) * HOUR_MS).toISOString();
  const rules = [...missing.keys()].sort();
  const fields = [...new Set([...missing.values()].flat())].sort();
  return {
    finding_id: findingId(BLIND_RULE.id, BLIND_RULE.version, tenant, source, 'lifetime'),
    tenant,
    rule_id: BLIND_RULE.id,
    rule_version: BLIND_RULE.version,
    title: BLIND_RULE.title,
    family: BLIND_RULE.family,
    severity: BLIND_RULE.severity,
    confidence: BLIND_RULE.confidence,
    // Nothing happened: what is at stake is counted when a rule that sees finds it.
    risk: 0,
    entity_type: BLIND_RULE.entity,
    entity_ref: source,
    episode: 'lifetime',
    verdict: 'blind',
    summary: `${rules.length} rule(s) are blind for source ${source}: it leaves out ${fields.slice(0, 5).join(', ')}.`,
    reasons: rules.slice(0, 20).map((r) => `${r} lacks ${(missing.get(r) ?? []).join(', ')}`),
    evidence: {
      blind_rules: rules,
      missing_fields: Object.fromEntries(rules.map((r) => [r, missing.get(r) ?? []])),
    },
    event_ids: [],
    token_refs: [],
    client_id: '',
    subject_ref: '',
    issuer: '',
    networks: [],
    sources: [source],
    first_event_time: since ?? hour,
    last_event_time: hour,
    references: [...BLIND_RULE.references],
    runbook: BLIND_RULE.id,
  };
}
