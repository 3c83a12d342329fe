import { clock } from './format.ts';

const few = new Intl.NumberFormat('en', { maximumSignificantDigits: 4 });
const whole = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });
const BYTES = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];

/** A value in Grafana's unit, as people read it. */
export function inUnit(value: number | null, unit: string): string {
  if (value === null || !Number.isFinite(value)) return '\u2013';
  if (unit === 'percentunit') return `${plain(value * 100)} %`;
  if (unit === 'ms')
    return Math.abs(value) >= 1_000 ? `${plain(value / 1_000)} s` : `${plain(value)} ms`;
  if (unit === 's') return Math.abs(value) < 1 ? `${plain(value * 1_000)} ms` : `${plain(value)} s`;
  if (unit === 'reqps') return `${plain(value)}/s`;
  if (unit === 'bytes') {
    const step = binaryStep(value);
    return `${plain(value / 2 ** (10 * step))} ${BYTES[step] ?? ''}`;
  }
  return plain(value);
}

function plain(value: number): string {
  const text = Math.abs(value) >= 1_000 ? whole.format(value) : few.format(value);
  return text.replace('-', '\u2212');
}

/** Round values from `min` to `max`, about four; of bytes, round in the binary unit that is shown. */
export function ticksOf(min: number, max: number, unit: string): readonly number[] {
  if (unit === 'bytes') {
    const scale = 2 ** (10 * binaryStep(max));
    return decimalTicks(min / scale, max / scale).map((v) => v * scale);
  }
  return decimalTicks(min, max);
}

function binaryStep(value: number): number {
  const steps = Math.floor(Math.log2(Math.max(1, Math.abs(value))) / 10);
  return Math.min(BYTES.length - 1, steps);
}

function decimalTicks(min: number, max: number): readonly number[] {
  const span = max - min || 1;
  const raw = span / 4;
  const size = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((f) => f * size).find((s) => s >= raw) ?? raw;
  const ticks: number[] = [];
  for (let v = Math.ceil(min / step - 1e-9) * step; v <= max + step * 1e-9; v += step)
    ticks.push(Math.abs(v) < step * 1e-9 ? 0 : v);
  return ticks;
}

/** A time on an axis (UTC): with the day where the range is longer than one. */
export function axisTime(ms: number, spanMs: number): string {
  const text = clock(new Date(ms).toISOString());
  if (spanMs > 3 * 86_400_000) return text.slice(5, 10);
  return spanMs > 86_400_000 ? text.slice(5, 16) : text.slice(11, 16);
}
