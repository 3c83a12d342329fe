import type { Finding } from '../../model/finding.ts';
import { isUuid } from '../../model/ids.ts';
import type { Postmortem, PostmortemRequest, TimelineEntry } from '../../model/postmortem.ts';
import { sql, type Sql } from '../../model/sql.ts';
import { GrantscopeError } from '../../runtime/errors.ts';
import { fateOfTokens, type TokenFate } from '../../store/queries/containment.ts';
import type { EventSummary } from '../../store/queries/events.ts';
import { findingsAbout, getFinding, listFindings } from '../../store/queries/findings.ts';
import { eventsOf, lineageOf } from '../../store/queries/investigations.ts';
import {
  countRefusedRecords,
  heardMinutes,
  incidentEvents,
  keyChanges,
  lastRotations,
  NAMES_MAX,
  noticesAbout,
  reachOfTokens,
  type Notice,
} from '../../store/queries/postmortems.ts';
import type { Span } from '../../store/queries/reports.ts';
import type { Scope } from '../../store/queries/scope.ts';
import { readSlos } from '../../store/queries/slos.ts';
import { namesOfTenant } from '../../store/reference_names.ts';
import { iso, secondsBetween } from './figures.ts';
import { slosOf } from './slo_periods.ts';
import { mergeTimeline, timelineOf } from './timeline.ts';

const FINDINGS_MAX = 100;
const TOKENS_LISTED_MAX = 100;
const DAYS_MAX = 93;
const DAY_MS = 86_400_000;
const MINUTE_MS = 60_000;

type Entity = NonNullable<PostmortemRequest['entity']>;

/** Everything that happened in the time that is asked for, to what is asked for. Throws `invalid_argument` and `not_found`. */
export async function buildPostmortem(
  scope: Scope,
  request: PostmortemRequest,
  nowMs: number,
): Promise<Postmortem> {
  const span = spanOf(request);
  const entity = checkedEntity(request.entity);
  const about = await subjectMatter(scope, entity, span);
  const { findings, fate } = about;
  const { events, truncated } = await incidentEvents(scope, about.events, span);
  const ids = findings.map((f) => f.finding_id);
  const notices = await noticesAbout(scope, ids, span);
  const times = timesOf(findings, fate, notices);
  const keys = await keyChanges(scope, span);
  const reach = await reachOfTokens(scope, fate.events, fate.refs);
  const timeline = mergeTimeline(
    timelineOf(events, fate.refs, times),
    [
      ...findings.map((f) => ({ what: 'detected' as const, at: f.detected_at, name: f.rule_id })),
      ...notices.map((x) => ({ what: 'notified' as const, at: x.at, name: x.name })),
      ...keys.map((k) => ({ what: 'key' as const, at: k.at, name: k.kind })),
    ],
    times,
  );
  return {
    tenant: scope.tenant,
    period: { from: iso(span.fromMs), to: iso(span.toMs) },
    entity: entity ?? null,
    generated_at: iso(nowMs),
    findings: findings.slice(0, FINDINGS_MAX).map(shownFinding),
    findings_not_listed: Math.max(0, findings.length - FINDINGS_MAX),
    impact: await impactOf(scope, events, span),
    times,
    tokens: {
      list: fate.tokens.slice(0, TOKENS_LISTED_MAX).map((t) => ({
        ref: t.ref,
        type: t.type,
        first_seen: t.first_seen,
        last_seen: t.last_seen,
        expires_at: t.expires_at,
        revoked_at: t.revoked_at,
        uses: t.presented + t.consumed,
      })),
      total: fate.tokens.length,
      truncated: fate.truncated,
      scopes: reach.scopes,
      audiences: reach.audiences,
      resources: reach.resources,
    },
    timeline,
    timeline_truncated: truncated,
    accesses_after_detection: accessesAfter(timeline),
    keys: {
      kids: reach.kids.values,
      changes: [...keys],
      last_rotations: [...(await lastRotations(scope, span.toMs))],
    },
    gaps: await gapsOf(scope, span),
    notifications: [...notices],
  };
}

function spanOf({ from, to }: PostmortemRequest): Span {
  const span = { fromMs: Date.parse(from), toMs: Date.parse(to) };
  if (span.fromMs >= span.toMs)
    throw new GrantscopeError('invalid_argument', 'from, to: from must be before to');
  if (span.toMs - span.fromMs > DAYS_MAX * DAY_MS)
    throw new GrantscopeError('invalid_argument', `from, to: at most ${DAYS_MAX} days apart`);
  return span;
}

function checkedEntity(entity: Entity | undefined): Entity | undefined {
  if (entity === undefined || entity.type === 'client') return entity;
  if (!isUuid(entity.ref))
    throw new GrantscopeError(
      'invalid_argument',
      'entity.ref: not a reference; allowed: 8-4-4-4-12 hexadecimal digits (grantscope hash makes one of a value)',
    );
  return { ...entity, ref: entity.ref.toLowerCase() };
}

/** What a postmortem is about: findings, what became of their tokens, and the events that it tells. */
interface SubjectMatter {
  readonly findings: readonly Finding[];
  readonly fate: TokenFate;
  readonly events: Sql;
}

async function subjectMatter(
  scope: Scope,
  entity: Entity | undefined,
  span: Span,
): Promise<SubjectMatter> {
  const period = { from: iso(span.fromMs), to: iso(span.toMs) };
  const found = await findingsOf(scope, entity, period);
  const findings = [...found]
    .filter((f) => f.first_event_time < period.to && f.last_event_time >= period.from)
    .filter((f) => f.state !== 'superseded')
    .sort((a, b) => (a.first_event_time < b.first_event_time ? -1 : 1));
  const since = findings[0]?.first_event_time ?? period.from;
  const own = await ownEvents(scope, entity);
  const refs = [...new Set([...own.refs, ...findings.flatMap((f) => f.token_refs)])];
  const fate = await fateOfTokens(scope, refs, since, period.to);
  const events = own.events === undefined ? fate.events : sql`(${own.events}) OR (${fate.events})`;
  const matter = { findings, fate, events };
  if (
    entity !== undefined &&
    findings.length === 0 &&
    fate.refs.length === 0 &&
    own.events === undefined
  )
    throw new GrantscopeError('not_found', `entity.ref: nothing stored names this ${entity.type}`);
  return matter;
}

async function findingsOf(
  scope: Scope,
  entity: Entity | undefined,
  period: { readonly from: string; readonly to: string },
): Promise<readonly Finding[]> {
  if (entity === undefined) {
    const page = await listFindings(
      scope,
      { severity_min: 'medium', treatment: ['active'], ...period },
      { by: 'risk', descending: true },
      { limit: FINDINGS_MAX },
    );
    return page.items;
  }
  const { type, ref } = entity;
  if (type === 'client') return findingsAbout(scope, { client: ref });
  if (type === 'finding') {
    const finding = await getFinding(scope, ref);
    if (finding === undefined)
      throw new GrantscopeError('not_found', 'entity.ref: no finding has this id');
    return [finding];
  }
  const names = (await (await namesOfTenant(scope.store, scope.tenant))([ref])).namesOf(ref);
  const [oldest = ref] = names;
  if (type === 'subject') return findingsAbout(scope, { subject: oldest });
  if (type === 'token' || type === 'family') {
    const lineage = await lineageOf(scope, type, names);
    return findingsAbout(scope, { tokens: [...names, ...lineage.tokens.map((t) => t.ref)] });
  }
  return findingsAbout(scope, { entity: oldest });
}

/** The tokens that the entity itself names, or the events that are its own. */
async function ownEvents(
  scope: Scope,
  entity: Entity | undefined,
): Promise<{ readonly refs: readonly string[]; readonly events?: Sql }> {
  if (entity === undefined || entity.type === 'finding') return { refs: [] };
  const { type, ref } = entity;
  if (type === 'client') return { refs: [], events: await eventsOf(scope, type, [ref], undefined) };
  const names = (await (await namesOfTenant(scope.store, scope.tenant))([ref])).namesOf(ref);
  if (type === 'token') return { refs: names };
  if (type === 'family') {
    const { tokens } = await lineageOf(scope, type, names);
    return { refs: tokens.map((t) => t.ref) };
  }
  return { refs: [], events: await eventsOf(scope, type, names, undefined) };
}

function shownFinding(f: Finding): Postmortem['findings'][number] {
  return {
    finding_id: f.finding_id,
    rule_id: f.rule_id,
    severity: f.severity,
    verdict: f.verdict,
    state: f.state,
    entity_type: f.entity_type,
    entity_ref: f.entity_ref,
    summary: f.summary,
    first_event_time: f.first_event_time,
    detected_at: f.detected_at,
  };
}

function least(times: readonly string[]): string | null {
  return times.reduce<string | null>((min, t) => (min === null || t < min ? t : min), null);
}

function between(from: string | null, to: string | null): number | null {
  return from === null || to === null ? null : secondsBetween(from, to);
}

function timesOf(
  findings: readonly Finding[],
  fate: TokenFate,
  notices: readonly Notice[],
): Postmortem['times'] {
  const { revokedAt, acceptedAfter } = fate;
  const first = least(findings.map((f) => f.first_event_time));
  const detected = least(findings.map((f) => f.detected_at));
  const notified = least(
    notices
      .filter((x) => x.about === 'finding' && x.status !== 'retrying' && x.status !== 'refused')
      .map((x) => x.at),
  );
  const end = acceptedAfter ?? revokedAt;
  return {
    first_event: first,
    detected_at: detected,
    notified_at: notified,
    revoked_at: revokedAt,
    last_accepted_after_revocation: acceptedAfter,
    seconds_to_detect: between(first, detected),
    seconds_to_notify: between(detected, notified),
    seconds_from_detection_to_revocation: between(detected, revokedAt),
    seconds_from_revocation_to_last_acceptance:
      revokedAt === null ? null : (between(revokedAt, acceptedAfter) ?? 0),
    seconds_to_contain: between(first, end),
  };
}

async function impactOf(
  scope: Scope,
  events: readonly EventSummary[],
  span: Span,
): Promise<Postmortem['impact']> {
  // Minutes that the incident touches count whole, since SLOs are counted by the minute.
  const minutes = {
    fromMs: Math.floor(span.fromMs / MINUTE_MS) * MINUTE_MS,
    toMs: Math.ceil(span.toMs / MINUTE_MS) * MINUTE_MS,
  };
  const slos = await slosOf(scope, minutes, { fromMs: minutes.fromMs, toMs: minutes.fromMs });
  return {
    requests: events.length,
    failed_requests: events.filter((e) => isRefused(e.outcome)).length,
    subjects: named(events.map((e) => e.subject_ref)),
    clients: named(events.map((e) => e.client_id)),
    networks: named(events.map((e) => e.network)),
    slos: slos.map((s) => ({
      slo_id: s.slo_id,
      good: s.good,
      bad: s.bad,
      budget_spent_percent: s.budget_spent_percent,
    })),
  };
}

function isRefused(outcome: string): boolean {
  return outcome === 'failure' || outcome === 'denied';
}

function named(names: readonly string[]): { total: number; values: string[] } {
  const counts = new Map<string, number>();
  for (const name of names) if (name !== '') counts.set(name, (counts.get(name) ?? 0) + 1);
  const sorted = [...counts].sort(([a, x], [b, y]) => y - x || (a < b ? -1 : 1));
  return { total: sorted.length, values: sorted.slice(0, NAMES_MAX).map(([name]) => name) };
}

const USES: readonly string[] = ['presented', 'consumed', 'subject'];

function accessesAfter(timeline: readonly TimelineEntry[]): Postmortem['accesses_after_detection'] {
  const places = new Map<string, Postmortem['accesses_after_detection']['by_place'][number]>();
  for (const e of timeline) {
    if (e.what !== 'event' || e.phase === 'before_detection') continue;
    if (!e.token_roles.some((role) => USES.includes(role))) continue;
    const resource = e.resource.join(' ');
    const key = JSON.stringify([resource, e.network, e.ua_family]);
    const { network, ua_family } = e;
    const place = places.get(key) ?? {
      resource,
      network,
      ua_family,
      accepted: 0,
      refused: 0,
      last: '',
    };
    if (e.outcome === 'success') place.accepted += e.count;
    else if (isRefused(e.outcome)) place.refused += e.count;
    if (e.until > place.last) place.last = e.until;
    places.set(key, place);
  }
  const all = [...places.values()].sort((a, b) => b.accepted - a.accepted || b.refused - a.refused);
  return {
    accepted: all.reduce((sum, p) => sum + p.accepted, 0),
    refused: all.reduce((sum, p) => sum + p.refused, 0),
    by_place: all.slice(0, NAMES_MAX),
  };
}

async function gapsOf(scope: Scope, span: Span): Promise<Postmortem['gaps']> {
  const blind = await listFindings(
    scope,
    { rule_id: 'detector_blind', state: ['open'], to: iso(span.toMs) },
    { by: 'last_event_time', descending: true },
    { limit: NAMES_MAX },
  );
  const slos = await readSlos(scope);
  const minutes = Math.ceil((span.toMs - span.fromMs) / MINUTE_MS);
  return {
    blind: blind.items.map((f) => ({
      source_id: f.entity_ref,
      rules: Array.isArray(f.evidence['blind_rules']) ? f.evidence['blind_rules'].map(String) : [],
    })),
    sources: (await heardMinutes(scope, span)).map((s) => ({
      source_id: s.source_id,
      minutes_heard: s.heard,
      minutes,
      last_event: s.last,
    })),
    unmeasured_slos: slos.filter((s) => s.state === 'unmeasured').map((s) => s.slo_id),
    refused_records: await countRefusedRecords(scope, span),
  };
}
