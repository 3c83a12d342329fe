import { signal } from '@preact/signals';

export const THEMES = ['auto', 'light', 'dark'] as const;
export type Theme = (typeof THEMES)[number];

const KEY = 'grantscope.theme';

function stored(): Theme {
  try {
    return THEMES.find((t) => t === localStorage.getItem(KEY)) ?? 'auto';
  } catch {
    // Storage can be switched off; the theme then follows the system.
    return 'auto';
  }
}

export const theme = signal<Theme>(stored());

export function applyTheme(next: Theme): void {
  theme.value = next;
  document.documentElement.dataset['theme'] = next;
  try {
    localStorage.setItem(KEY, next);
  } catch {
    // As above.
  }
}
