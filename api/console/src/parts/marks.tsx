import type { ComponentChildren, JSX } from 'preact';

type Tone = 'critical' | 'high' | 'medium' | 'low' | 'info' | 'good' | 'bad' | 'quiet';

/** Every tone has a shape of its own, so that none is told by colour alone. */
const SHAPES: Readonly<Record<Tone, JSX.Element>> = {
  critical: <path d="M6 0 12 6 6 12 0 6Z" />,
  high: <path d="M6 .8 12 11.5H0Z" />,
  medium: <rect x="1" y="1" width="10" height="10" rx="1" />,
  low: <circle cx="6" cy="6" r="5" />,
  info: <circle cx="6" cy="6" r="4" fill="none" stroke="currentColor" stroke-width="2" />,
  good: <path d="M1 6.5 4.5 10 11 2.5" fill="none" stroke="currentColor" stroke-width="2.2" />,
  bad: <path d="m2 2 8 8M10 2l-8 8" fill="none" stroke="currentColor" stroke-width="2.2" />,
  quiet: <path d="M1.5 6h9" fill="none" stroke="currentColor" stroke-width="2.2" />,
};

export function Shape({ tone }: { readonly tone: Tone }): JSX.Element {
  return (
    <svg class="shape" viewBox="0 0 12 12" aria-hidden="true" fill="currentColor">
      {SHAPES[tone]}
    </svg>
  );
}

/** A coloured shape with its word. */
export function Mark(props: {
  readonly tone: Tone;
  readonly children: ComponentChildren;
}): JSX.Element {
  return (
    <span class={`mark tone-${props.tone}`}>
      <Shape tone={props.tone} />
      <span>{props.children}</span>
    </span>
  );
}

function isSeverity(text: string): text is 'critical' | 'high' | 'medium' | 'low' | 'info' {
  return ['critical', 'high', 'medium', 'low', 'info'].includes(text);
}

export function Severity({ value }: { readonly value: string }): JSX.Element {
  return <Mark tone={isSeverity(value) ? value : 'info'}>{value}</Mark>;
}

const OUTCOME_TONES: Readonly<Record<string, Tone>> = {
  success: 'good',
  failure: 'bad',
  denied: 'bad',
};

export function Outcome({ value }: { readonly value: string }): JSX.Element {
  return <Mark tone={OUTCOME_TONES[value] ?? 'quiet'}>{value}</Mark>;
}

const SLO_TONES: Readonly<Record<string, Tone>> = { met: 'good', breached: 'bad' };
const SLO_WORDS: Readonly<Record<string, string>> = {
  met: 'met',
  breached: 'breached',
  unmeasured: 'unmeasured',
  no_traffic: 'no traffic',
};

export function SloMark({ state }: { readonly state: string }): JSX.Element {
  return <Mark tone={SLO_TONES[state] ?? 'quiet'}>{SLO_WORDS[state] ?? state}</Mark>;
}

/** A small label without a tone. */
export function Tag({ children }: { readonly children: ComponentChildren }): JSX.Element {
  return <span class="tag">{children}</span>;
}
