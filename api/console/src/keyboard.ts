import { signal } from '@preact/signals';
import { go, href, place } from './router.ts';

export const isHelpOpen = signal(false);

/** The shortcuts, as the help shows them. */
export const SHORTCUTS: readonly (readonly [string, string])[] = [
  ['j / k', 'next / previous row'],
  ['Enter', 'open the row'],
  ['Esc', 'leave a field, close, or go up'],
  ['/', 'search'],
  [
    'g o, g f, g s, g b, g c, g m',
    'overview, findings, service levels, boards, clients, silences (mutes)',
  ],
  ['?', 'this help'],
];

const GO: Readonly<Record<string, readonly string[]>> = {
  o: [],
  f: ['findings'],
  s: ['slos'],
  b: ['boards'],
  c: ['clients'],
  m: ['silences'],
};

/** How long `g` waits for its second key, ms. */
const CHORD_MS = 1_500;
let chordUntil = 0;

function moveRow(step: 1 | -1): void {
  const rows = [...document.querySelectorAll<HTMLElement>('[data-row]')];
  const at = rows.findIndex((row) => row === document.activeElement);
  const next = at === -1 ? (step === 1 ? 0 : rows.length - 1) : at + step;
  const row = rows[Math.max(0, Math.min(rows.length - 1, next))];
  row?.focus();
  row?.scrollIntoView({ block: 'nearest' });
}

function isField(target: EventTarget | null): target is HTMLElement {
  return (
    target instanceof HTMLInputElement ||
    target instanceof HTMLSelectElement ||
    target instanceof HTMLTextAreaElement
  );
}

function escape(): void {
  if (isHelpOpen.value) {
    isHelpOpen.value = false;
    return;
  }
  const [first, ...rest] = place.value.path;
  if (rest.length > 0)
    go(href(first === 'findings' || first === 'slos' || first === 'boards' ? [first] : []));
  else if (first !== undefined) go(href([]));
}

function onKey(event: KeyboardEvent): void {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (isField(event.target)) {
    if (event.key === 'Escape') event.target.blur();
    return;
  }
  const chord = performance.now() < chordUntil ? GO[event.key] : undefined;
  chordUntil = event.key === 'g' ? performance.now() + CHORD_MS : 0;
  if (chord !== undefined) go(href(chord));
  else if (event.key === 'Escape') escape();
  else if (event.key === '?') isHelpOpen.value = !isHelpOpen.value;
  else if (isHelpOpen.value) return;
  else if (event.key === 'j') moveRow(1);
  else if (event.key === 'k') moveRow(-1);
  else if (event.key === '/') document.getElementById('search')?.focus();
  else return;
  event.preventDefault();
}

export function startKeyboard(): void {
  addEventListener('keydown', onKey);
}
