import { z } from 'zod';
import { FINDING_FAMILIES, SEVERITIES } from './finding.ts';

/** What a report is about, and how often one is written. */
export const REPORT_KINDS = ['weekly', 'monthly', 'quarterly'] as const;
export type ReportKind = (typeof REPORT_KINDS)[number];

const Count = z.int().min(0);
const Time = z.string().meta({ format: 'date-time' });
/** Percent with one decimal; null where there is nothing to compare with. */
const Percent = z.number().nullable();

/** A period: from (included) to (not included), ISO 8601 in UTC. */
export const Period = z.object({ from: Time, to: Time });
export type Period = z.infer<typeof Period>;

/** A count of the period, the one of the period before, and the change between them. */
export const Change = z.object({
  current: Count,
  previous: Count,
  /** null where the period before had none. */
  change_percent: Percent,
});
export type Change = z.infer<typeof Change>;

/** Requests and how many of them failed (outcome failure or denied). */
export const ErrorCounts = z.object({
  requests: Count,
  failures: Count,
  /** failures / requests in percent; null without requests. */
  failure_percent: Percent,
});
export type ErrorCounts = z.infer<typeof ErrorCounts>;

/** An SLO over the period. Its budget is the one of its whole window; `state` is that of the last computation. */
export const SloPeriod = z.object({
  slo_id: z.string(),
  state: z.string(),
  objective_percent: z.number(),
  good: Count,
  bad: Count,
  excluded: Count,
  previous_bad: Count,
  /** Of the events that count in the period; null where there are none. */
  good_percent: Percent,
  /** Share of the whole window's error budget that the period spent, over the window that ends with the period. */
  budget_spent_percent: Percent,
  /** Of the last computation; negative where overspent, null where unmeasured. */
  budget_remaining_percent: Percent,
});
export type SloPeriod = z.infer<typeof SloPeriod>;

/** Findings whose evidence begins in the period; those that were withdrawn (superseded) do not count. */
const FindingCounts = z.object({
  by_severity: z.array(Change.extend({ severity: z.enum(SEVERITIES) })),
  by_rule: z.array(
    Change.extend({ rule_id: z.string(), severity: z.enum(SEVERITIES), open: Count }),
  ),
  /** By treatment at the end of their history so far. */
  active: Count,
  suppressed: Count,
  inhibited: Count,
});

const Weekly = z.object({
  kind: z.literal('weekly'),
  auth_errors: z.object({
    current: ErrorCounts,
    previous: ErrorCounts,
    by_day: z.array(ErrorCounts.extend({ day: z.string().meta({ format: 'date' }) })),
    by_surface: z.array(
      ErrorCounts.extend({ surface: z.string(), previous_failure_percent: Percent }),
    ),
    by_error: z.array(Change.extend({ error: z.string() })),
  }),
  failing_clients: z.array(
    ErrorCounts.extend({
      client_id: z.string(),
      previous_failures: Count,
      change_percent: Percent,
    }),
  ),
  /** Clients with failures that the list leaves out. */
  failing_clients_not_listed: Count,
  slos: z.array(SloPeriod),
  findings: FindingCounts,
  notifications: z.object({
    alerts: z.array(
      z.object({ alertname: z.string(), severity: z.string(), sent: Count, still_firing: Count }),
    ),
    deliveries: z.array(z.object({ sink: z.string(), status: z.string(), messages: Count })),
  }),
});

const Monthly = z.object({
  kind: z.literal('monthly'),
  scopes: z.array(Change.extend({ scope: z.string(), clients: Count })),
  scopes_not_listed: Count,
  /** False where no part of this process knows registrations: nothing is said about clients that rest, then. */
  registrations_known: z.boolean(),
  /** Registered clients without any use in the period. */
  stale_clients: z.array(
    z.object({
      client_id: z.string(),
      /** Last event before the end of the period; null where none is stored. */
      last_used: Time.nullable(),
      has_secret: z.boolean().nullable(),
      scopes: z.array(z.string()).nullable(),
    }),
  ),
  /** Registered scopes that no token of the client carried in the period; clients without any use are above. */
  unused_scopes: z.array(
    z.object({
      client_id: z.string(),
      registered: Count,
      used: Count,
      unused: z.array(z.string()),
      unused_privileged: z.array(z.string()),
    }),
  ),
  privileged_grants: z.array(
    z.object({
      client_id: z.string(),
      scope: z.string(),
      grants: Count,
      subjects: Count,
      first: Time,
      last: Time,
      /** Not granted to this client in the period before. */
      is_new: z.boolean(),
    }),
  ),
});

/** How an incident ran, from its first event to the last time that one of its tokens was accepted. */
export const Containment = z.object({
  finding_id: z.string(),
  rule_id: z.string(),
  severity: z.enum(SEVERITIES),
  /** A note of a judgement begins with the word "drill". */
  is_drill: z.boolean(),
  first_event: Time,
  detected_at: Time,
  revoked_at: Time.nullable(),
  last_accepted_at: Time.nullable(),
  seconds_to_detect: z.number().min(0),
  /** From the first event until nothing was accepted any more; null while nothing was revoked. */
  seconds_to_contain: z.number().min(0).nullable(),
});
export type Containment = z.infer<typeof Containment>;

const Quarterly = z.object({
  kind: z.literal('quarterly'),
  containment: z.object({
    /** Findings of severity high and above that name tokens. */
    incidents: Count,
    drills: Count,
    contained: Count,
    median_seconds_to_detect: z.number().nullable(),
    median_seconds_to_contain: z.number().nullable(),
    longest_seconds_to_contain: z.number().nullable(),
    /** Newest first. */
    list: z.array(Containment),
    not_listed: Count,
  }),
  /** Calendar months (UTC), or what of them lies in the period. */
  months: z.array(
    ErrorCounts.extend({
      month: z.string(),
      findings: Count,
      findings_high: Count,
    }),
  ),
  findings_by_family: z.array(Change.extend({ family: z.enum(FINDING_FAMILIES) })),
  /** Of judgements made in the period; the last one of each finding counts. */
  precision: z.array(
    z.object({
      rule_id: z.string(),
      judged: Count,
      true_positive: Count,
      benign_positive: Count,
      false_positive: Count,
      precision_percent: z.number(),
      previous_precision_percent: Percent,
    }),
  ),
  slos: z.array(SloPeriod),
});

/** What every report says of itself. */
const Head = z.object({
  tenant: z.string(),
  period: Period,
  previous: Period,
  generated_at: Time,
  events: Change,
});

/** A regular report, as `grantscope report` prints it with `--format json`. */
export const Report = z.object({
  ...Head.shape,
  content: z.discriminatedUnion('kind', [Weekly, Monthly, Quarterly]),
});
export type Report = z.infer<typeof Report>;
export type WeeklyContent = z.infer<typeof Weekly>;
export type MonthlyContent = z.infer<typeof Monthly>;
export type QuarterlyContent = z.infer<typeof Quarterly>;
