import { z } from 'zod';

/** Longest silence, days from its start. */
export const SILENCE_DAYS_MAX = 30;
/** Matchers of one silence. */
export const SILENCE_MATCHERS_MAX = 20;
/** Longest value of a matcher, characters. */
const VALUE_LENGTH_MAX = 512;

/** One condition on a label of an alert, as Alertmanager has it. A label that is missing has the value ''. */
export const SilenceMatcher = z.strictObject({
  name: z
    .string()
    .max(100)
    .regex(/^[a-zA-Z_][a-zA-Z0-9_]*$/, 'must be the name of a label'),
  value: z.string().max(VALUE_LENGTH_MAX),
  /** The value is a regular expression for the whole label. */
  is_regex: z.boolean().default(false),
  /** False turns the condition round. */
  is_equal: z.boolean().default(true),
});
export type SilenceMatcher = z.infer<typeof SilenceMatcher>;

const Instant = z.iso.datetime({ offset: true, error: 'must be ISO 8601 with a time zone' });
const Words = z
  .string()
  .min(1)
  .max(512)
  .regex(/^[^\u0000-\u001f\u007f]*$/, 'must not hold control characters');

/** What somebody who asks for a silence says. */
export const SilenceRequest = z.strictObject({
  matchers: z
    .array(SilenceMatcher)
    .min(1)
    .max(SILENCE_MATCHERS_MAX)
    .describe('All of them must hold.'),
  starts_at: Instant.optional().describe('Default: now.'),
  ends_at: Instant.describe(`At most ${SILENCE_DAYS_MAX} days after the start.`),
  reason: Words,
});
export type SilenceRequest = z.infer<typeof SilenceRequest>;

/**
 * `pending`: Alertmanager has not been told yet; `scheduled`: it has, and the start lies ahead; `active`: it mutes;
 * `refused`: Alertmanager did not take it; `ended`: somebody ended it in Alertmanager; `withdrawn`: somebody did here.
 */
export const SILENCE_STATES = [
  'pending',
  'scheduled',
  'active',
  'refused',
  'ended',
  'withdrawn',
  'expired',
] as const;
export type SilenceState = (typeof SILENCE_STATES)[number];

/** What Alertmanager made of a silence, as stored. */
export const SILENCE_STATUSES = [
  'accepted',
  'refused',
  'unreachable',
  'ended',
  'withdrawn',
] as const;
export type SilenceStatus = (typeof SILENCE_STATUSES)[number];

/** A silence that was asked for. Times are ISO 8601. */
export interface Silence {
  readonly silence_id: string;
  readonly matchers: readonly SilenceMatcher[];
  readonly starts_at: string;
  readonly ends_at: string;
  readonly created_by: string;
  readonly created_at: string;
  readonly reason: string;
  /** '' while nobody withdrew it. */
  readonly withdrawn_at: string;
  readonly withdrawn_by: string;
  readonly withdrawn_reason: string;
}

/** A silence with what Alertmanager made of it. */
export interface TrackedSilence extends Silence {
  /** Undefined before Alertmanager was told. */
  readonly status: SilenceStatus | undefined;
  readonly alertmanager_id: string;
  readonly error: string;
  /** Labels of the alerts that it mutes at present. */
  readonly mutes: readonly Readonly<Record<string, string>>[];
}

/** Where a silence stands at a time. */
export function silenceState(silence: TrackedSilence, nowMs: number): SilenceState {
  if (silence.withdrawn_at !== '') return 'withdrawn';
  if (Date.parse(silence.ends_at) <= nowMs) return 'expired';
  if (silence.status === 'refused' || silence.status === 'ended') return silence.status;
  if (silence.status !== 'accepted') return 'pending';
  return Date.parse(silence.starts_at) > nowMs ? 'scheduled' : 'active';
}

/**
 * Whether all matchers hold for an alert. Alertmanager anchors expressions at both ends. Throws SyntaxError for an
 * expression that is none.
 */
export function matchesAll(
  matchers: readonly SilenceMatcher[],
  labels: Readonly<Record<string, string>>,
): boolean {
  return matchers.every(({ name, value, is_regex, is_equal }) => {
    const label = labels[name] ?? '';
    const holds = is_regex ? new RegExp(`^(?:${value})$`, 's').test(label) : label === value;
    return holds === is_equal;
  });
}

/** The alert that tells a dead-man's switch that alerting lives; nothing may mute it. */
const WATCHDOG = { alertname: 'Watchdog', kind: 'meta', severity: 'none' };

/** Why a silence may not be; undefined where it may. `nowMs` is the start where none is given. */
export function silenceProblem(request: SilenceRequest, nowMs: number): string | undefined {
  const startMs = request.starts_at === undefined ? nowMs : Date.parse(request.starts_at);
  const endMs = Date.parse(request.ends_at);
  if (endMs <= nowMs) return 'ends_at: must be in the future';
  if (endMs <= startMs) return 'ends_at: must be after starts_at';
  if (endMs - Math.max(startMs, nowMs) > SILENCE_DAYS_MAX * 86_400_000)
    return `ends_at: at most ${SILENCE_DAYS_MAX} days after the start are allowed`;
  try {
    // Alertmanager refuses it as well: what holds for an alert without labels holds for too many.
    if (request.matchers.every((m) => matchesAll([m], {})))
      return 'matchers: at least one must not hold for an empty label';
    if (matchesAll(request.matchers, WATCHDOG))
      return 'matchers: they would mute Watchdog, whose absence raises the alarm that alerting is down; allowed: matchers that leave it out, for instance kind="slo"';
  } catch {
    return 'matchers: a value is not a regular expression';
  }
  return undefined;
}
