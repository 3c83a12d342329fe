/** How far a sender's clock may be ahead of the collector's, ns: a day. */
export const TIME_AHEAD_NS_MAX = 86_400_000_000_000n;

/**
 * Why an event of this time is refused now; undefined where it is not. A time far ahead would open a partition
 * that no retention reaches for years, and would be the newest wherever the newest counts. The record becomes a
 * dead letter, which a replay takes once its time is near.
 */
export function refusalOfTime(
  timeNs: bigint,
  nowNs: bigint,
): { readonly code: 'invalid_time'; readonly message: string } | undefined {
  if (timeNs <= nowNs + TIME_AHEAD_NS_MAX) return undefined;
  return {
    code: 'invalid_time',
    message:
      "time: more than a day ahead of the collector's clock; check its unit, and the sender's clock",
  };
}
