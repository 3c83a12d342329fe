/**
 * Risk over findings. A finding's own risk is confidence x impact of its severity / 100 (0-100). What belongs to one subject,
 * client or token family adds up and fades:
 *
 *   load  = sum over findings of  risk x 2 ^ (-age / RISK_HALF_LIFE_DAYS)
 *   score = 100 x (1 - e ^ (-load / 100))
 *
 * with age = the time since the finding's last event, never below 0. The score rises with every finding, never reaches 100,
 * and halves its load in a week. Findings that were withdrawn, suppressed, inhibited, or judged false or benign count
 * nothing. Loads are summed as whole millionths, so that the order of findings cannot show in the last digit.
 */
export const RISK_HALF_LIFE_DAYS = 7;
/** Findings older than this many half-lives are left out: less than a thousandth of them is left. */
export const RISK_HALF_LIVES_MAX = 10;

/** What risk is accumulated for. A family counts the findings about itself, the others all that name them. */
export const RISK_ENTITY_TYPES = ['subject', 'client', 'family'] as const;
export type RiskEntityType = (typeof RISK_ENTITY_TYPES)[number];

/** Levels as CAEP 1.0 has them, in lower case. */
export const RISK_LEVELS = ['low', 'medium', 'high'] as const;
export type RiskLevel = (typeof RISK_LEVELS)[number];

/** Scores from which on the level is medium, and high: one certain critical finding is high, one of high severity medium. */
export const RISK_LEVEL_FROM = { medium: 30, high: 60 } as const;

/** The score of a load, with one decimal. */
export function riskScore(load: number): number {
  return Math.round(1_000 * (1 - Math.exp(-load / 100))) / 10;
}

export function riskLevel(score: number): RiskLevel {
  if (score >= RISK_LEVEL_FROM.high) return 'high';
  return score >= RISK_LEVEL_FROM.medium ? 'medium' : 'low';
}
