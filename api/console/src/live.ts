import { signal } from '@preact/signals';

/** Grow whenever the server says that something changed; lists read themselves again. */
export const findingsTick = signal(0);
export const slosTick = signal(0);

/** `lost` = the stream is down and the browser tries again. */
export const liveState = signal<'connecting' | 'live' | 'lost'>('connecting');

/** The present, for "3 min ago". */
export const now = signal(Date.now());

/** Changes in a burst are one change: at most one reload in this time, ms. */
const BURST_MS = 400;

function inBursts(tick: { value: number }): () => void {
  let waiting: number | undefined;
  return () => {
    waiting ??= window.setTimeout(() => {
      waiting = undefined;
      tick.value += 1;
    }, BURST_MS);
  };
}

/** Opens the event stream; the browser reconnects by itself. */
export function startLive(): void {
  const findingsChanged = inBursts(findingsTick);
  const slosChanged = inBursts(slosTick);
  const source = new EventSource('api/v1/stream');
  let isFirst = true;
  source.addEventListener('hello', () => {
    liveState.value = 'live';
    // After a gap anything may have changed.
    if (!isFirst) {
      findingsChanged();
      slosChanged();
    }
    isFirst = false;
  });
  source.addEventListener('findings_changed', findingsChanged);
  source.addEventListener('slos_changed', slosChanged);
  source.addEventListener('error', () => {
    liveState.value = 'lost';
  });
  window.setInterval(() => {
    now.value = Date.now();
  }, 10_000);
}
