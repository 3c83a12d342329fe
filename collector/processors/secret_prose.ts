import type { DecodedView } from './decoded_view.ts';
import { mixing } from './random_text.ts';
import {
  BENIGN_VALUES,
  isQuote,
  isSpace,
  withoutTrailingPunctuation,
  type Report,
} from './secret_parameters.ts';

/**
 * Secrets in sentences and command lines: "password is hunter2", "the code was 839201", `--client-secret x`,
 * `curl -u bob:hunter2`. Error messages and shell histories write them so.
 */

/** Names whose value is a secret whatever it looks like. */
const STRONG = 'password|passwd|passphrase|passcode|pwd';
/** Names that are common words: only what looks made by a machine is taken for a value. */
const WEAK =
  'pin|otp|totp|secret|token|credential|code|nonce|verifier|assertion|cookie|' +
  '(?:api|access|secret|private|signing|encryption)[ _-]?key';
const NAME = new RegExp(`(?<![A-Za-z0-9])(?:(${STRONG})|(?:${WEAK}))(?![A-Za-z0-9])`, 'gi');
/** `status code 4040`: words before a name that make it another one. */
const OTHER_NAME =
  /\b(?:error|status|exit|response|reason|result|return|country|zip|postal|area|source|http|language|byte|machine|op|qr|bar|color|class)[ _-]$/i;
const LEAD_LENGTH_MAX = 96;

/** What may stand between the name and its value. */
const LINK =
  /["'`)]?\s{1,4}((?:for|of|from|by|on|at|in|with) [^\s"'`]{1,64}\s{1,4})?(?:(?:is|was|are|were|equals|reads|becomes|has been)\s{1,4}(?:now\s{1,4})?)?(?:(?:set|changed|reset|updated|equal)\s{1,4}to\s{1,4})?/y;
const LINK_VERB = /\b(?:is|was|are|equals|reads|becomes|being|now|to)\s{1,4}$/;

/** Words that follow `password is` in honest messages, beside those of `BENIGN_VALUES`. */
const HONEST = new Set(
  (
    'incorrect wrong weak strong stale old new bad good blank short long too very so only also still already ' +
    'never always now then than that this these those there here it its their your my our his her be been ' +
    'being by with without from on as if when while because but which who what why how all any some each every ' +
    'more less most least same different correct valid compromised breached leaked rotated temporary permanent ' +
    'hashed encrypted plaintext protected stored sent received rejected accepted verified checked changed ' +
    'reset updated set unset removed deleted created generated issued requested needed optional mandatory ' +
    'allowed forbidden locked unlocked based case-sensitive one two three between before after until since ' +
    'available unavailable present absent null-safe similar common known identical provided supplied given ' +
    'consumed redeemed exchanged introspected replayed refreshed bound unbound signed unsigned parsed'
  ).split(' '),
);

/** Letters that change case this often are no word, not even `OAuth` or `JavaScript`. */
const MIXED_LETTERS_RATIO = 0.4;

/** `hunter2 as the password`: what stands before a name. */
const VALUE_BEFORE =
  /(?:^|[\s"'`])([^\s"'`]{4,64})["'`]?\s{1,4}as\s{1,4}(?:(?:the|your|my|his|her|their|its|a|an|new|old|client|user|admin)\s{1,4}){0,3}$/i;

/** Longest value that is looked at; a longer one is known by its shape. */
const VALUE_LENGTH_MAX = 256;

/** Secrets in sentences. Only for free text: an id holds no sentence. */
export function scanProse(view: DecodedView, report: Report): void {
  const { text } = view;
  NAME.lastIndex = 0;
  for (let name = NAME.exec(text); name !== null; name = NAME.exec(text)) {
    const after = name.index + name[0].length;
    LINK.lastIndex = after;
    const link = LINK.exec(text);
    const lead = text.slice(Math.max(0, name.index - LEAD_LENGTH_MAX), name.index);
    reportBefore(lead, name.index, report);
    if (link === null || OTHER_NAME.test(lead)) continue;
    const isFlag = FLAG_HEAD.test(lead);
    const linked = LINK_VERB.test(link[0]);
    // "token for client abc1" names the client.
    if (link[1] !== undefined && !linked) continue;
    const strong = name[1] !== undefined;
    const end = reportProseValue(
      text,
      { start: after + link[0].length, strong, linked, isFlag },
      report,
    );
    // What was reported is not read again; what was no value may be a name.
    if (end > after) NAME.lastIndex = end;
  }
}

/** `--password`, `--db-password`: ends where the name begins. */
const FLAG_HEAD = /(?<![A-Za-z0-9-])--(?:[A-Za-z0-9]{1,16}-){0,3}$/;

function reportBefore(lead: string, end: number, report: Report): void {
  // Most names follow no "as", and the pattern need not be tried.
  if (!/\bas\s/i.test(lead)) return;
  const m = VALUE_BEFORE.exec(lead);
  const value = m?.[1] ?? '';
  if (m === null || !looksMade(value)) return;
  const start = end - lead.length + m.index + m[0].indexOf(value);
  report(start, start + value.length);
}

interface Place {
  readonly start: number;
  readonly strong: boolean;
  /** A verb says that the value follows. */
  readonly linked: boolean;
  /** On a command line, the next word is the value. */
  readonly isFlag: boolean;
}

/** Returns the end of what was reported, or 0. */
function reportProseValue(text: string, place: Place, report: Report): number {
  let { start } = place;
  let end = start;
  const quoted = isQuote(text.charCodeAt(start));
  if (quoted) {
    const quote = text.charAt(start);
    start += 1;
    const close = text.slice(start, start + VALUE_LENGTH_MAX).indexOf(quote);
    end = close < 0 ? start : start + close;
  }
  if (end === start) {
    const limit = Math.min(text.length, start + VALUE_LENGTH_MAX);
    while (end < limit && !isSpace(text.charCodeAt(end)) && !isQuote(text.charCodeAt(end)))
      end += 1;
    end = withoutTrailingPunctuation(text, start, end);
    while (end > start && '.!?:'.includes(text.charAt(end - 1))) end -= 1;
  }
  if (end <= start || !isProseSecret(text.slice(start, end), place, quoted)) return 0;
  report(start, end);
  return end;
}

function isProseSecret(value: string, place: Place, quoted: boolean): boolean {
  if (value.startsWith('[redacted]') || value.startsWith('--')) return false;
  const word = value.toLowerCase();
  if (BENIGN_VALUES.has(word) || HONEST.has(word)) return false;
  if (place.isFlag) return true;
  if (looksMade(value)) return true;
  // A plain word after "password is" may be the password; after "token is" it is the sentence's.
  return place.strong && (place.linked || quoted) && !/(?:ed|ing|ly|able|ible)$/.test(word);
}

/** Letters and digits together, digits alone but for short numbers, or signs that no word has. */
function looksMade(value: string): boolean {
  if (value.length < 4) return false;
  if (/^[A-Za-z]{8,}$/.test(value)) return mixing(value).ratio >= MIXED_LETTERS_RATIO;
  if (/^[a-z]+(?:[_-][a-z]+)*$/i.test(value)) return false;
  if (/^\d+$/.test(value)) return value.length >= 4 && value.length <= 12;
  // Versions, algorithm names, HTTP statuses and times are made, but no secrets.
  if (
    /^(?:v?\d+(?:\.\d+)+|[A-Z]{2,5}\d{2,3}|\d+(?:ms|s|m|h|d|%)|\d{4}-\d{2}-\d{2}.*|\d+:\d+.*)$/.test(
      value,
    )
  )
    return false;
  if (/[/(){}<>|\\]/.test(value)) return false;
  return /[A-Za-z]/.test(value) && /[0-9!@#$%^&*~]/.test(value);
}

/** `curl -u user:password`, `--user user:password`: the whole argument. */
export function scanUserArguments(view: DecodedView, report: Report): void {
  const flags =
    /(?<![A-Za-z0-9-])(?:-u|--user|--proxy-user)[ =]["']?([^\s:"']{1,64}:[^\s"']{1,200})/g;
  for (let m = flags.exec(view.text); m !== null; m = flags.exec(view.text)) {
    const end = m.index + m[0].length;
    report(end - (m[1] ?? '').length, end);
  }
}

/** `IDENTIFIED BY 'x'`, `WITH PASSWORD 'x'` of database shells. */
export function scanSqlPasswords(view: DecodedView, report: Report): void {
  const clauses = /\bidentified\s{1,4}(?:with\s{1,4}\w{1,40}\s{1,4})?by\s{1,4}["']([^"']{1,256})/gi;
  for (let m = clauses.exec(view.text); m !== null; m = clauses.exec(view.text)) {
    const end = m.index + m[0].length;
    report(end - (m[1] ?? '').length, end);
  }
}
