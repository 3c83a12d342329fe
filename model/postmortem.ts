import { z } from 'zod';
import { ENTITY_TYPES, FINDING_STATES, SEVERITIES } from './finding.ts';
import { Period } from './report.ts';

/** What a postmortem can be about; without one it is about all that was found in its time. */
export const POSTMORTEM_ENTITIES = [
  'finding',
  'token',
  'family',
  'client',
  'subject',
  'session',
  'grant',
] as const;
export type PostmortemEntity = (typeof POSTMORTEM_ENTITIES)[number];

const Count = z.int().min(0);
const Time = z.string().meta({ format: 'date-time' });
const Seconds = z.number().min(0).nullable();
const Names = z.object({ total: Count, values: z.array(z.string()) });

/** What is asked for. Times are ISO 8601 with an offset; `to` is not included. */
export const PostmortemRequest = z.strictObject({
  from: z.iso.datetime({ offset: true }),
  to: z.iso.datetime({ offset: true }),
  entity: z
    .strictObject({
      type: z.enum(POSTMORTEM_ENTITIES),
      ref: z
        .string()
        .min(1)
        .max(512)
        .describe('The client id; a reference (POST /api/v1/hash makes one) for anything else.'),
    })
    .optional(),
});
export type PostmortemRequest = z.infer<typeof PostmortemRequest>;

/** One line of the timeline: uses that follow each other and differ in nothing but their time are one line. */
export const TimelineEntry = z.object({
  at: Time,
  /** Of the last use of the line; equal to `at` where it is one. */
  until: Time,
  count: Count,
  what: z.enum(['event', 'detected', 'notified', 'key']),
  /** Kind of the event, rule of the finding, or name of the alert. */
  name: z.string(),
  outcome: z.string(),
  /** What happened to tokens: issued, presented, consumed, revoked. */
  token_roles: z.array(z.string()),
  token_refs: z.array(z.string()),
  client_id: z.string(),
  network: z.string(),
  ua_family: z.string(),
  resource: z.array(z.string()),
  /** The use of a token after somebody was told, or after its revocation. */
  phase: z.enum(['before_detection', 'after_detection', 'after_revocation']),
});
export type TimelineEntry = z.infer<typeof TimelineEntry>;

/** An incident, told from what is stored. Nothing in it names a person; subjects are references. */
export const Postmortem = z.object({
  tenant: z.string(),
  period: Period,
  entity: PostmortemRequest.shape.entity.unwrap().nullable(),
  generated_at: Time,
  findings: z.array(
    z.object({
      finding_id: z.string(),
      rule_id: z.string(),
      severity: z.enum(SEVERITIES),
      verdict: z.string(),
      state: z.enum(FINDING_STATES),
      entity_type: z.enum(ENTITY_TYPES),
      entity_ref: z.string(),
      summary: z.string(),
      first_event_time: Time,
      detected_at: Time,
    }),
  ),
  findings_not_listed: Count,
  impact: z.object({
    requests: Count,
    failed_requests: Count,
    /** References of people and services. */
    subjects: Names,
    clients: Names,
    networks: Names,
    slos: z.array(
      z.object({
        slo_id: z.string(),
        good: Count,
        bad: Count,
        /** Share of the whole window's error budget that these bad events spent; null where nothing was counted. */
        budget_spent_percent: z.number().nullable(),
      }),
    ),
  }),
  times: z.object({
    first_event: Time.nullable(),
    detected_at: Time.nullable(),
    notified_at: Time.nullable(),
    revoked_at: Time.nullable(),
    last_accepted_after_revocation: Time.nullable(),
    seconds_to_detect: Seconds,
    seconds_to_notify: Seconds,
    /** From detection to the first revocation; 0 where that came first. */
    seconds_from_detection_to_revocation: Seconds,
    /** From the first revocation to the last time that a token of the incident was accepted. */
    seconds_from_revocation_to_last_acceptance: Seconds,
    /** From the first event until nothing was accepted any more; null while nothing was revoked. */
    seconds_to_contain: Seconds,
  }),
  tokens: z.object({
    list: z.array(
      z.object({
        ref: z.string(),
        type: z.string(),
        first_seen: Time,
        last_seen: Time,
        expires_at: Time.nullable(),
        revoked_at: Time.nullable(),
        uses: Count,
      }),
    ),
    total: Count,
    truncated: z.boolean(),
    scopes: Names,
    audiences: Names,
    resources: Names,
  }),
  timeline: z.array(TimelineEntry),
  /** True where there are more events than a timeline is made of: the first ones are there. */
  timeline_truncated: z.boolean(),
  accesses_after_detection: z.object({
    accepted: Count,
    refused: Count,
    by_place: z.array(
      z.object({
        resource: z.string(),
        network: z.string(),
        ua_family: z.string(),
        accepted: Count,
        refused: Count,
        last: Time,
      }),
    ),
  }),
  keys: z.object({
    /** Keys that signed the tokens of the incident. */
    kids: z.array(z.string()),
    /** What happened to keys in the period, oldest first. */
    changes: z.array(
      z.object({
        at: Time,
        kind: z.string(),
        issuer: z.string(),
        kid: z.string(),
        outcome: z.string(),
      }),
    ),
    /** Last successful rotation before the end of the period, by issuer. */
    last_rotations: z.array(z.object({ issuer: z.string(), at: Time })),
  }),
  gaps: z.object({
    /** Rules that could not see what a source sent. */
    blind: z.array(z.object({ source_id: z.string(), rules: z.array(z.string()) })),
    /** Sources with live events in the seven days before, by the share of the period's minutes in which they were heard. */
    sources: z.array(
      z.object({
        source_id: z.string(),
        minutes_heard: Count,
        minutes: Count,
        last_event: Time.nullable(),
      }),
    ),
    /** SLOs that are not measured now. */
    unmeasured_slos: z.array(z.string()),
    /** Records that were refused on arrival in the period. */
    refused_records: Count,
  }),
  notifications: z.array(
    z.object({
      /** alertmanager: alerts that were handed to it; otherwise the receiver. */
      receiver: z.string(),
      about: z.enum(['finding', 'slo']),
      name: z.string(),
      severity: z.string(),
      status: z.string(),
      at: Time,
    }),
  ),
});
export type Postmortem = z.infer<typeof Postmortem>;
