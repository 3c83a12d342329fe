import { z } from 'zod';
import { isUuid } from '../../model/ids.ts';
import type { Sql } from '../../model/sql.ts';
import { GrantscopeError } from '../../runtime/errors.ts';
import type { EventSummary } from '../../store/queries/events.ts';
import { findingsAbout } from '../../store/queries/findings.ts';
import {
  CONTEXT_KINDS,
  eventsOf,
  INVESTIGATION_TYPES,
  kindsOfReference,
  lineageOf,
  readTimeline,
  RELATIONS,
  summarise,
  withContext,
  type InvestigationType,
  type Lineage,
} from '../../store/queries/investigations.ts';
import type { Scope } from '../../store/queries/scope.ts';
import { namesOfTenant } from '../../store/reference_names.ts';
import { decodeCursor, encodeCursor, isTimeKey } from '../cursor.ts';
import { defineRoutes, jsonRoute } from '../define_route.ts';
import { RequestProblem } from '../problems.ts';
import { Timeline, type TimelineEvent } from '../schemas/event_view.ts';
import { FindingView } from '../schemas/finding_view.ts';
import { InvestigationView, ReferenceView } from '../schemas/investigation_view.ts';
import { CursorText, PageLimit, Reference, Text } from '../schemas/primitives.ts';

/** A client goes by its id; everything else by a reference. */
const Target = z.strictObject({ type: z.enum(INVESTIGATION_TYPES), ref: Text });
type Target = z.infer<typeof Target>;

function checkTarget(target: Target): Target {
  if (target.type === 'client') return target;
  if (isUuid(target.ref)) return { ...target, ref: target.ref.toLowerCase() };
  throw new RequestProblem('invalid_argument', 'path.ref: not a reference', [
    {
      path: 'path.ref',
      message: 'not a reference',
      allowed: '8-4-4-4-12 hexadecimal digits; POST /api/v1/hash turns a value into one',
    },
  ]);
}

/** All references of what is investigated, the oldest first: a rotation of keys gives it several. */
async function namesFor(scope: Scope, target: Target): Promise<readonly string[]> {
  if (target.type === 'client') return [target.ref];
  const read = await namesOfTenant(scope.store, scope.tenant);
  return (await read([target.ref])).namesOf(target.ref);
}

/** Null where the type has no tokens of its own. */
async function lineageFor(
  scope: Scope,
  target: Target,
  refs: readonly string[],
): Promise<Lineage | undefined> {
  return target.type === 'token' || target.type === 'family'
    ? lineageOf(scope, target.type, refs)
    : undefined;
}

/** The events of what is investigated; of tokens, with what was told of their session, grant and subject. */
async function eventsFor(
  scope: Scope,
  target: Target,
  refs: readonly string[],
  lineage: Lineage | undefined,
): Promise<Sql> {
  const events = await eventsOf(scope, target.type, refs, lineage);
  return lineage === undefined ? events : withContext(scope, events);
}

/** Findings name things by their oldest reference. */
function about(
  target: Target,
  refs: readonly string[],
  lineage: Lineage | undefined,
): Parameters<typeof findingsAbout>[1] {
  const [name = target.ref] = refs;
  if (lineage !== undefined) return { tokens: [...refs, ...lineage.tokens.map((t) => t.ref)] };
  if (target.type === 'subject') return { subject: name };
  if (target.type === 'client') return { client: name };
  return { entity: name };
}

/** The nearest relation that one of the event's tokens has to the token under investigation. */
function relationOf(
  event: EventSummary,
  target: Target,
  refs: readonly string[],
  byToken: ReadonlyMap<string, TimelineEvent['relation']>,
): TimelineEvent['relation'] {
  if (target.type === 'subject') return refs.includes(event.subject_ref) ? 'self' : 'actor';
  if (byToken.size === 0) return isContext(event, target) ? 'related' : 'self';
  const found = new Set(event.tokens.map((t) => byToken.get(t.ref)));
  return RELATIONS.find((r) => found.has(r)) ?? 'related';
}

/** Told of a family's session, grant or subject, and of none of its tokens. */
function isContext(event: EventSummary, target: Target): boolean {
  return (
    target.type === 'family' &&
    event.tokens.length === 0 &&
    CONTEXT_KINDS.some((k) => k === event.kind)
  );
}

const EMPTY_FACET = { total: 0, values: [] };
const NO_EVENTS = {
  events: 0,
  failures: 0,
  first_seen: null,
  last_seen: null,
  kinds: EMPTY_FACET,
  clients: EMPTY_FACET,
  networks: EMPTY_FACET,
  user_agents: EMPTY_FACET,
  scopes: EMPTY_FACET,
  resources: EMPTY_FACET,
  subjects: EMPTY_FACET,
  sessions: EMPTY_FACET,
  sources: EMPTY_FACET,
};

function notFound(type: InvestigationType): GrantscopeError {
  return new GrantscopeError('not_found', `path.ref: no event or finding names this ${type}`);
}

const summary = jsonRoute({
  method: 'get',
  path: '/api/v1/investigations/{type}/{ref}',
  operationId: 'investigate',
  summary: 'What is known about a token, family, client, subject, session or grant.',
  params: Target,
  response: InvestigationView,
  problems: [404],
  handle: async ({ scope }, { params }) => {
    const target = checkTarget(params);
    const refs = await namesFor(scope, target);
    const lineage = await lineageFor(scope, target, refs);
    const [counts, findings] = await Promise.all([
      summarise(scope, await eventsFor(scope, target, refs, lineage)),
      findingsAbout(scope, about(target, refs, lineage)),
    ]);
    if (counts === undefined && findings.length === 0) throw notFound(target.type);
    return {
      ...target,
      ...(counts ?? NO_EVENTS),
      tokens: lineage?.tokens ?? [],
      tokens_truncated: lineage?.truncated ?? false,
      findings: findings.map((f) => FindingView.parse(f)),
    };
  },
});

const timeline = jsonRoute({
  method: 'get',
  path: '/api/v1/investigations/{type}/{ref}/timeline',
  operationId: 'investigationTimeline',
  summary: 'Events of an investigation in the order of time, a page at a time.',
  description:
    'For a token: events of its family, parents and children too, and what was told of its session, grant and subject (revoked sessions, risk signals, decisions), marked by `relation`.',
  params: Target,
  query: z.strictObject({
    sort: z.enum(['time', '-time']).default('time'),
    limit: PageLimit,
    cursor: CursorText.optional(),
  }),
  response: Timeline,
  problems: [404],
  handle: async ({ scope }, { params, query }) => {
    const target = checkTarget(params);
    const after = decodeCursor(query.sort, query.cursor, isTimeKey);
    const refs = await namesFor(scope, target);
    const lineage = await lineageFor(scope, target, refs);
    const page = await readTimeline(scope, await eventsFor(scope, target, refs, lineage), {
      limit: query.limit,
      after,
      descending: query.sort === '-time',
    });
    if (page.items.length === 0 && after === undefined) throw notFound(target.type);
    // In a family's investigation every member is as near as any other.
    const byToken = new Map(
      (target.type === 'family' ? [] : (lineage?.tokens ?? [])).map((t) => [t.ref, t.relation]),
    );
    return {
      items: page.items.map((e) => ({ ...e, relation: relationOf(e, target, refs, byToken) })),
      next_cursor: encodeCursor(query.sort, page.next),
    };
  },
});

const reference = jsonRoute({
  method: 'get',
  path: '/api/v1/references/{ref}',
  operationId: 'lookUpReference',
  summary: 'As what a reference is known: for a search that does not know what was pasted.',
  params: z.strictObject({ ref: Reference }),
  response: ReferenceView,
  problems: [404],
  handle: async ({ scope }, { params }) => {
    const read = await namesOfTenant(scope.store, scope.tenant);
    const names = (await read([params.ref])).namesOf(params.ref);
    const known = await kindsOfReference(scope, names);
    if (known.length === 0)
      throw new GrantscopeError('not_found', 'path.ref: nothing stored names this reference');
    return {
      ref: params.ref,
      known_as: known as z.infer<typeof ReferenceView>['known_as'],
    };
  },
});

export default defineRoutes({
  id: 'investigations',
  description: 'Everything about one token, client, subject, session or grant.',
  routes: [summary, timeline, reference],
});
