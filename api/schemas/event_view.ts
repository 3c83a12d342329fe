import { z } from 'zod';
import { NextCursor, Time } from './primitives.ts';

const text = z.string();

/** A token as one event mentions it; '' where the source does not say. */
export const EventToken = z
  .object({
    role: text,
    type: text,
    ref: text,
    ref_kind: text,
    family_ref: text,
    parent_ref: text,
    issued_at: Time.nullable(),
    expires_at: Time.nullable(),
  })
  .meta({ id: 'EventToken' });

const eventFields = {
  event_id: text,
  /** Nine digits after the point. */
  time: Time,
  kind: text,
  phase: text,
  outcome: text,
  error_code: text,
  oauth_error: text,
  error_detail: text,
  source_id: text,
  source_instance: text,
  issuer: text,
  client_id: text,
  grant_type: text,
  subject_ref: text,
  session_ref: text,
  grant_ref: text,
  network: text,
  client_ip: text,
  ip_role: text,
  country: text,
  user_agent: text,
  ua_family: text,
  scopes_requested: z.array(text),
  scopes_granted: z.array(text),
  resource: z.array(text),
  redirect_uri: text,
  http_route: text,
  /** 0 = unknown. */
  http_status: z.number().int(),
  tokens: z.array(EventToken),
};

/** What lists and timelines show of an event. */
export const EventSummary = z.object(eventFields).meta({ id: 'EventSummary' });
export type EventSummary = z.infer<typeof EventSummary>;

export const EventList = z
  .object({ items: z.array(EventSummary), next_cursor: NextCursor })
  .meta({ id: 'EventList' });
export type EventList = z.infer<typeof EventList>;

/** An event of a timeline, with its relation to what is investigated. */
export const TimelineEvent = z
  .object({
    ...eventFields,
    /** For tokens: self, parent, child, family or related; for a subject: self or actor; else self. */
    relation: z.enum(['self', 'parent', 'child', 'family', 'related', 'actor']),
  })
  .meta({ id: 'TimelineEvent' });
export type TimelineEvent = z.infer<typeof TimelineEvent>;

export const Timeline = z
  .object({ items: z.array(TimelineEvent), next_cursor: NextCursor })
  .meta({ id: 'Timeline' });
export type Timeline = z.infer<typeof Timeline>;

/** All columns of one stored event (docs/ARCHITECTURE.md section 4). */
export const StoredEvent = z.record(z.string(), z.unknown()).meta({ id: 'StoredEvent' });
