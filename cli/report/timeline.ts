import type { Postmortem, TimelineEntry } from '../../model/postmortem.ts';
import type { EventSummary } from '../../store/queries/events.ts';

type Times = Pick<Postmortem['times'], 'detected_at' | 'revoked_at'>;

/** When somebody could have known, and when the tokens should have been worthless. */
function phaseOf(at: string, { detected_at, revoked_at }: Times): TimelineEntry['phase'] {
  if (revoked_at !== null && Date.parse(at) > Date.parse(revoked_at)) return 'after_revocation';
  return detected_at !== null && Date.parse(at) >= Date.parse(detected_at)
    ? 'after_detection'
    : 'before_detection';
}

/**
 * The events of an incident as lines; `refs` are the tokens it is about. Uses at a resource server that follow each other and
 * differ in nothing but their time become one line, since a client may use a token many times a second.
 */
export function timelineOf(
  events: readonly EventSummary[],
  refs: readonly string[],
  times: Times,
): readonly TimelineEntry[] {
  const known = new Set(refs);
  const lines: TimelineEntry[] = [];
  for (const event of events) {
    const line = lineOf(event, known, times);
    const last = lines.at(-1);
    if (last !== undefined && sameBut(last, line)) {
      last.until = line.until;
      last.count += 1;
    } else lines.push(line);
  }
  return lines;
}

function lineOf(event: EventSummary, known: ReadonlySet<string>, times: Times): TimelineEntry {
  const own = event.tokens.filter((t) => known.has(t.ref));
  return {
    at: event.time,
    until: event.time,
    count: 1,
    what: 'event',
    name: event.kind,
    outcome: event.outcome,
    token_roles: [...new Set(own.map((t) => t.role))].sort(),
    token_refs: [...new Set(own.map((t) => t.ref))].sort(),
    client_id: event.client_id,
    network: event.network,
    ua_family: event.ua_family,
    resource: [...event.resource],
    phase: phaseOf(event.time, times),
  };
}

function sameBut(a: TimelineEntry, b: TimelineEntry): boolean {
  const rest = (line: TimelineEntry): string =>
    JSON.stringify({ ...line, at: '', until: '', count: 0 });
  return rest(a) === rest(b);
}

/** Puts what people were told, and what happened to keys, between the events. Ties keep the order in which things were given. */
export function mergeTimeline(
  events: readonly TimelineEntry[],
  others: readonly { what: 'detected' | 'notified' | 'key'; at: string; name: string }[],
  times: Times,
): TimelineEntry[] {
  const lines = others.map(({ what, at, name }): TimelineEntry => ({
    ...{ at, until: at, count: 1, what, name, outcome: '', token_roles: [], token_refs: [] },
    ...{ client_id: '', network: '', ua_family: '', resource: [] },
    phase: phaseOf(at, times),
  }));
  return [...events, ...lines].sort((a, b) => Date.parse(a.at) - Date.parse(b.at));
}
