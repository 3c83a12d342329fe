import { z } from 'zod';
import { FINDING_FAMILIES, SEVERITIES } from '../../model/finding.ts';
import { FindingView } from './finding_view.ts';
import { NextCursor, Time } from './primitives.ts';

const count = z.number().int();

export const SloView = z
  .object({
    slo_id: z.string(),
    title: z.string(),
    description: z.string(),
    owner: z.string(),
    runbook: z.string(),
    /** ratio, propagation, counted or indicator. */
    measure: z.string(),
    /** Share of good events that is promised, 0-1; for `counted` the occurrences that are allowed; 0 for an indicator. */
    objective: z.number(),
    window: z.string(),
    /** met, breached, unmeasured, no_traffic; measured for an indicator. */
    state: z.string(),
    good: z.number(),
    bad: z.number(),
    excluded: z.number(),
    unclassified: z.number(),
    /** What corrections took out of the window: good and bad events, and minutes. */
    corrected_events: z.number(),
    corrected_minutes: z.number(),
    /** Named figures of an indicator. */
    figures: z.record(z.string(), z.number()),
    /** 1 = untouched, 0 = spent, negative = overspent; null where unmeasured. */
    budget_remaining: z.number().nullable(),
    /** Share of the window that has data, 0-1. */
    coverage: z.number(),
    watermark: Time,
    /** Look-back windows that had traffic, shortest first; rate 1 = spends the budget exactly. */
    burn: z.array(
      z.object({ window: z.string(), rate: z.number(), good: z.number(), bad: z.number() }),
    ),
    shadow: z.boolean(),
    computed_at: Time,
  })
  .meta({ id: 'Slo' });
export type SloView = z.infer<typeof SloView>;

const classes = {
  good: z.number(),
  bad: z.number(),
  excluded: z.number(),
  unclassified: z.number(),
};

export const SloDetail = SloView.extend({
  /** Counts of the day before the watermark by dimension, those with most bad events first. */
  split: z.array(
    z.object({
      dimension: z.string(),
      values: z.array(z.object({ value: z.string(), ...classes })),
    }),
  ),
  /** Counts by hour over the window, for a burn-down; hours without events are absent. */
  series: z.array(z.object({ hour: Time, ...classes })),
}).meta({ id: 'SloDetail' });
export type SloDetail = z.infer<typeof SloDetail>;

export const SloList = z.object({ items: z.array(SloView) }).meta({ id: 'SloList' });
export type SloList = z.infer<typeof SloList>;

export const SourceView = z
  .object({
    source_id: z.string(),
    vendor: z.string(),
    product: z.string(),
    instances: count,
    /** In the last seven days. */
    events: count,
    events_last_hour: count,
    last_event_time: Time,
    last_stored_at: Time,
  })
  .meta({ id: 'Source' });
export type SourceView = z.infer<typeof SourceView>;

export const Overview = z
  .object({
    /** The server's clock. */
    now: Time,
    tenant: z.string(),
    /** Events stored in all. */
    events: count,
    /** Null where none came in the last seven days. */
    last_event_time: Time.nullable(),
    open_findings: z.object({
      total: count,
      by_severity: z.object(
        Object.fromEntries(SEVERITIES.map((s) => [s, count])) as Record<
          (typeof SEVERITIES)[number],
          typeof count
        >,
      ),
      by_family: z.object(
        Object.fromEntries(FINDING_FAMILIES.map((f) => [f, count])) as Record<
          (typeof FINDING_FAMILIES)[number],
          typeof count
        >,
      ),
      /** The most severe, newest first, at most 8. */
      top: z.array(FindingView),
    }),
    slos: z.array(SloView),
    /** Sources with events in the last seven days. */
    sources: z.array(SourceView),
    /** Where the collector listens, for the first event. */
    collector: z.string(),
  })
  .meta({ id: 'Overview' });
export type Overview = z.infer<typeof Overview>;

export const ClientView = z
  .object({
    client_id: z.string(),
    client_name: z.string(),
    events: count,
    failures: count,
    first_seen: Time,
    last_seen: Time,
    scopes: z.array(z.string()),
    grant_types: z.array(z.string()),
    networks: count,
    open_findings: count,
  })
  .meta({ id: 'Client' });
export type ClientView = z.infer<typeof ClientView>;

export const ClientList = z
  .object({ items: z.array(ClientView), next_cursor: NextCursor })
  .meta({ id: 'ClientList' });
export type ClientList = z.infer<typeof ClientList>;
