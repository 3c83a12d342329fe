/** Numbers and times as people read them. Times are UTC, because events of several systems are compared. */
const integer = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });
const MINUS = '\u2212';

export function count(n: number): string {
  return integer.format(n);
}

/** `1 event`, `2 events`. */
export function plural(n: number, one: string, many = `${one}s`): string {
  return `${count(n)} ${n === 1 ? one : many}`;
}

/** 0.999 -> `99.9 %`. */
export function percent(share: number, digits = 2): string {
  const value = Number((share * 100).toFixed(digits));
  return `${value} %`;
}

/** 1 -> `+100 %`, -0.25 -> `−25 %`: what is left of an error budget. */
export function signedPercent(share: number): string {
  const value = Math.round(share * 1_000) / 10;
  if (value === 0) return '0 %';
  return `${value < 0 ? MINUS : '+'}${Math.abs(value).toLocaleString('en', { maximumFractionDigits: 1 })} %`;
}

/** `2026-03-01 10:00:05`, with milliseconds where `fine`. */
export function clock(iso: string, fine = false): string {
  return iso
    .replace('T', ' ')
    .replace(/Z$/, '')
    .replace(/\.(\d{3})\d*$/, fine ? '.$1' : '');
}

const STEPS: readonly (readonly [number, string])[] = [
  [86_400, 'd'],
  [3_600, 'h'],
  [60, 'min'],
  [1, 's'],
];

/** `3 min`, the largest unit that fits. */
export function duration(ms: number): string {
  const seconds = Math.abs(ms) / 1_000;
  for (const [size, unit] of STEPS)
    if (seconds >= size) return `${Math.floor(seconds / size)} ${unit}`;
  return `${Math.round(Math.abs(ms))} ms`;
}

export function ago(iso: string, nowMs: number): string {
  const ms = nowMs - Date.parse(iso);
  if (ms < -5_000) return `in ${duration(ms)}`;
  return ms < 10_000 ? 'just now' : `${duration(ms)} ago`;
}

/** snake_case words as a phrase: `token_request_failed` -> `token request failed`. */
export function words(name: string): string {
  return name.replaceAll('_', ' ');
}

/** Any JSON value as text: text as it is, the rest as JSON. */
export function asText(value: unknown): string {
  return typeof value === 'string' ? value : JSON.stringify(value);
}

/** The first group of a reference, enough to tell a few apart at a glance. */
export function shortRef(ref: string): string {
  return ref.length === 36 ? `${ref.slice(0, 8)}\u2026${ref.slice(-4)}` : ref;
}
