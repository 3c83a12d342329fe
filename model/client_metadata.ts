/**
 * What registration events (client_registered, client_updated) say of a client: metadata of RFC 7591 section 2, as entries
 * of `ext`. Sources write them, detectors read them. A list is one text with spaces between; one that is longer than an
 * entry may be goes on in further entries (`redirect_uris_2`, `redirect_uris_3`, ...).
 */
export const CLIENT_LISTS = [
  'scope',
  'redirect_uris',
  'grant_types',
  'response_types',
  'jwks_kids',
] as const;
export type ClientListName = (typeof CLIENT_LISTS)[number];

/**
 * `client_type`: public or confidential (RFC 6749 section 2.1); `secret_held`: true or false, whether a client secret is
 * set; `client_id_issued_at`: epoch seconds (RFC 7591 section 3.2.1).
 */
export const CLIENT_TEXTS = [
  'token_endpoint_auth_method',
  'client_type',
  'secret_held',
  'client_id_issued_at',
] as const;
export type ClientTextName = (typeof CLIENT_TEXTS)[number];

export const CLIENT_TYPES = ['public', 'confidential'] as const;
export type ClientType = (typeof CLIENT_TYPES)[number];

/** Longest text that is surely stored whole in one entry, UTF-16 units. */
export const ENTRY_LENGTH_MAX = 2_000;
/** Entries that a list may take; what does not fit is left out, and the list then counts as unknown. */
export const ENTRIES_PER_LIST_MAX = 10;

/** Stands behind a list of which a part is missing. */
const CUT_MARK = '...';

/** What stands for a value that looked like a secret. */
const REDACTED = '[redacted]';

type Ext = Readonly<Record<string, string>>;

function entryName(name: string, index: number): string {
  return index === 0 ? name : `${name}_${index + 1}`;
}

/** The entries of a list. */
export function writeClientList(name: ClientListName, values: readonly string[]): Ext {
  const texts = [''];
  for (const value of values) {
    const last = texts.at(-1) ?? '';
    const joined = last === '' ? value : `${last} ${value}`;
    if (joined.length <= ENTRY_LENGTH_MAX) texts[texts.length - 1] = joined;
    else texts.push(value);
  }
  const isWhole =
    texts.length <= ENTRIES_PER_LIST_MAX && texts.every((t) => t.length <= ENTRY_LENGTH_MAX);
  if (!isWhole) return { [name]: CUT_MARK };
  return Object.fromEntries(texts.map((text, i) => [entryName(name, i), text]));
}

/** A list of a registration event; undefined where the event does not state it, or not all of it. */
export function readClientList(ext: Ext, name: ClientListName): readonly string[] | undefined {
  const values: string[] = [];
  for (let i = 0; i < ENTRIES_PER_LIST_MAX; i += 1) {
    const text = Object.hasOwn(ext, entryName(name, i)) ? ext[entryName(name, i)] : undefined;
    if (text === undefined) return i === 0 || values.includes(REDACTED) ? undefined : values;
    // A longer text may have been cut on the way, and its last value with it.
    if (text === CUT_MARK || text.length > ENTRY_LENGTH_MAX) return undefined;
    values.push(...text.split(/\s+/).filter((v) => v !== ''));
  }
  return values.includes(REDACTED) ? undefined : values;
}

/** Whether a client with this authentication method (RFC 7591 section 2, RFC 8705, OIDC Core 9) is public. */
export function clientTypeOf(authMethod: string | undefined): ClientType | undefined {
  if (authMethod === undefined || authMethod === '') return undefined;
  return authMethod === 'none' ? 'public' : 'confidential';
}

/** Whether the method means that the client holds a secret; undefined where it may or may not. */
export function secretHeldBy(authMethod: string | undefined): boolean | undefined {
  if (authMethod === undefined || authMethod === '') return undefined;
  if (authMethod.startsWith('client_secret_')) return true;
  return authMethod === 'none' ? false : undefined;
}
