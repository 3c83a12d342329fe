const FIRST_LETTER = 'A'.charCodeAt(0);
const LETTERS = 26;
const NAME_LENGTH_MAX = 64;

/** Withdrawn codes (`DD`, `UK`) are another code's alias and name no country of their own. */
function isCurrent(code: string): boolean {
  return new Intl.Locale(`und-${code}`).region === code;
}

function byName(): ReadonlyMap<string, string> {
  const names = new Intl.DisplayNames('en', { type: 'region', fallback: 'none' });
  const found = new Map<string, string>();
  for (let i = 0; i < LETTERS * LETTERS; i += 1) {
    const letters = [Math.trunc(i / LETTERS), i % LETTERS].map((n) => n + FIRST_LETTER);
    const code = String.fromCharCode(...letters);
    const name = names.of(code);
    if (name !== undefined && isCurrent(code)) found.set(name.toLowerCase(), code);
  }
  return found;
}

let codes: ReadonlyMap<string, string> | undefined;

/** ISO 3166-1 alpha-2 of a country by its English name, as vendors write it; undefined for any other text. */
export function countryCode(name: string | undefined): string | undefined {
  if (name === undefined || name.length > NAME_LENGTH_MAX) return undefined;
  codes ??= byName();
  return codes.get(name.toLowerCase());
}
