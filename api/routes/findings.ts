import { z } from 'zod';
import {
  ENTITY_TYPES,
  FINDING_FAMILIES,
  FINDING_STATES,
  SEVERITIES,
  type Finding,
} from '../../model/finding.ts';
import { TREATMENTS } from '../../model/triage.ts';
import { GrantscopeError } from '../../runtime/errors.ts';
import { lastDispositions } from '../../store/queries/dispositions.ts';
import {
  countFindings,
  FINDING_SORTS,
  getFinding,
  listFindings,
  type FindingOrder,
  type FindingSort,
} from '../../store/queries/findings.ts';
import type { Scope } from '../../store/queries/scope.ts';
import { readStatuses } from '../../store/queries/triage.ts';
import { decodeCursor, encodeCursor } from '../cursor.ts';
import { defineRoutes, jsonRoute } from '../define_route.ts';
import { FindingView } from '../schemas/finding_view.ts';
import {
  CursorText,
  Identifier,
  Instant,
  PageLimit,
  Reference,
  Text,
} from '../schemas/primitives.ts';
import { StepView, TriagedFindingList, TriagedFindingView } from '../schemas/triage_view.ts';

/** `-` in front = descending. */
const SORTS = FINDING_SORTS.flatMap((s) => [s, `-${s}`] as const);

const Filters = z.strictObject({
  state: z.array(z.enum(FINDING_STATES)).optional(),
  severity: z.enum(SEVERITIES).optional().describe('This severity and above.'),
  treatment: z
    .array(z.enum(TREATMENTS))
    .optional()
    .describe('What became of them: active ones are notified.'),
  family: z.array(z.enum(FINDING_FAMILIES)).optional(),
  rule_id: Identifier.optional(),
  client_id: Text.optional(),
  entity_type: z.enum(ENTITY_TYPES).optional(),
  entity_ref: Text.optional(),
  q: Text.optional().describe('Text that title, summary, rule, client or entity contains.'),
  from: Instant.optional().describe('Evidence at or after this time.'),
  to: Instant.optional().describe('Evidence before this time.'),
  sort: z.enum(SORTS).default('-last_event_time'),
  limit: PageLimit,
  cursor: CursorText.optional(),
});

function orderOf(sort: (typeof SORTS)[number]): FindingOrder {
  return { by: sort.replace('-', '') as FindingSort, descending: sort.startsWith('-') };
}

/** Findings with what became of them. */
async function triaged(scope: Scope, findings: readonly Finding[]) {
  const ids = findings.map((f) => f.finding_id);
  const [statuses, dispositions] = await Promise.all([
    readStatuses(scope, ids),
    lastDispositions(scope, ids),
  ]);
  return findings.map((f) => {
    const status = statuses.get(f.finding_id);
    return {
      ...FindingView.parse(f),
      triage: status === undefined ? null : StepView.parse(status),
      disposition: dispositions.get(f.finding_id) ?? null,
    };
  });
}

export default defineRoutes({
  id: 'findings',
  description: 'What the detectors concluded.',
  routes: [
    jsonRoute({
      method: 'get',
      path: '/api/v1/findings',
      operationId: 'listFindings',
      summary: 'Findings that match all filters, a page at a time.',
      query: Filters,
      response: TriagedFindingList,
      handle: async ({ scope }, { query }) => {
        const { sort, limit, cursor, severity, ...rest } = query;
        const filter = { ...rest, severity_min: severity };
        const after = decodeCursor(sort, cursor);
        const [page, total] = await Promise.all([
          listFindings(scope, filter, orderOf(sort), { limit, after }),
          countFindings(scope, filter),
        ]);
        return {
          items: await triaged(scope, page.items),
          total,
          next_cursor: encodeCursor(sort, page.next),
        };
      },
    }),
    jsonRoute({
      method: 'get',
      path: '/api/v1/findings/{id}',
      operationId: 'getFinding',
      summary: 'One finding with its evidence.',
      params: z.strictObject({ id: Reference }),
      response: TriagedFindingView,
      problems: [404],
      handle: async ({ scope }, { params }) => {
        const finding = await getFinding(scope, params.id);
        const [view] = finding === undefined ? [] : await triaged(scope, [finding]);
        if (view === undefined)
          throw new GrantscopeError('not_found', 'path.id: no finding has this id');
        return view;
      },
    }),
  ],
});
