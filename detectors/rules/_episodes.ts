import type { AuthEvent } from '../../model/auth_event.ts';
import type { DayWindow } from '../../model/define_detector.ts';
import { timeMs } from './_origin.ts';

/** Events of the day that the window is about, without those read for the look-back. */
export function ofDay(events: readonly AuthEvent[], window: DayWindow | undefined): AuthEvent[] {
  if (window === undefined) return [...events];
  return events.filter((e) => e.time >= window.from && e.time < window.to);
}

/** Cuts sorted events where two neighbours lie more than `gapMs` apart. */
export function splitByGap(events: readonly AuthEvent[], gapMs: number): AuthEvent[][] {
  const episodes: AuthEvent[][] = [];
  let last: AuthEvent | undefined;
  for (const event of events) {
    const current = episodes.at(-1);
    if (current === undefined || last === undefined || timeMs(event) - timeMs(last) > gapMs)
      episodes.push([event]);
    else current.push(event);
    last = event;
  }
  return episodes;
}
