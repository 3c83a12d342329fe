import { decodedView, type DecodedView } from './decoded_view.ts';
import {
  ENCODED_RUN_MIN,
  LONG_RUN_LENGTH_MIN,
  ONE_CASE_LENGTH_MIN,
  RANDOM_RUN_LENGTH_MIN,
  scanEncodedText,
  scanRandomRuns,
} from './random_text.ts';
import { scanElements, scanMultipart, scanParameters, type Classify } from './secret_parameters.ts';
import { scanProse, scanSqlPasswords, scanUserArguments } from './secret_prose.ts';
import {
  holdsKnownShape,
  KNOWN_SHAPE_RUN_MIN,
  scanCredentials,
  scanEmails,
  scanJwts,
  scanKnownShapes,
  scanPrivateKeys,
  scanUserinfo,
} from './secret_shapes.ts';

/** Why a part of a text was taken for a secret. `pattern` is one of the user's own. */
export const SCAN_RULES = [
  'parameter',
  'element',
  'multipart',
  'credential',
  'userinfo',
  'jwt',
  'known_shape',
  'private_key',
  'prose',
  'encoded',
  'email',
  'random',
  'pattern',
] as const;
export type ScanRule = (typeof SCAN_RULES)[number];

/** A pattern of the user (`redaction.patterns`): reports all that any of its matches covers, in linear time. */
export interface TextPattern {
  readonly name: string;
  readonly find: (text: string, report: (start: number, end: number) => void) => void;
}

export interface ScanContext {
  readonly classify: Classify;
  /** False for a field made for ids: no e-mail rule, no sentences, no fence against random text. */
  readonly free: boolean;
  /** True for an issuer: free text, but what looks random in it is its name. */
  readonly isRandomKept?: boolean;
  readonly patterns: readonly TextPattern[];
}

/** A range of the view, and the rule that found it; `name` is that of a user's pattern. */
export type ReportSecret = (start: number, end: number, rule: ScanRule, name?: string) => void;

// What a text is made of decides which scanners can find anything in it: one pass over the characters is far cheaper
// than the scanners, and ordinary names need none of them.
const HAS_SEPARATOR = 1;
const HAS_TAG = 2;
const HAS_AT = 4;
/** `%`, `&` or a backslash: something may be encoded. */
const HAS_ESCAPE = 8;
const HAS_SPACE = 16;
const HAS_QUOTE = 32;
const HAS_DOT = 64;
const HAS_DASH = 128;
const HAS_SCHEME = 256;
/** `+`, `,`, `/` and `~`. */
const HAS_JOINT = 512;
const HAS_BEYOND_ASCII = 1_024;
const HAS_ENCODED_RUN = 2_048;
const HAS_SHAPE_RUN = 4_096;
const HAS_RANDOM_RUN = 8_192;
const HAS_LOWER = 16_384;
const HAS_UPPER = 32_768;
const HAS_DIGIT = 65_536;
const HAS_ALL_CLASSES = HAS_LOWER | HAS_UPPER | HAS_DIGIT;
/** A character of letters, digits, `-` and `_`. */
const IN_SHAPE = 1 << 20;
/** The same and `+/=`. */
const IN_RUN = 1 << 21;

const COLON = 0x3a;
const SLASH = 0x2f;
const NO_BREAK_SPACE = 0xa0;

const BITS = new Int32Array(128);
for (const [characters, bits] of [
  ['abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_', IN_SHAPE | IN_RUN],
  ['+/=', IN_RUN],
  ['abcdefghijklmnopqrstuvwxyz', HAS_LOWER],
  ['ABCDEFGHIJKLMNOPQRSTUVWXYZ', HAS_UPPER],
  ['0123456789', HAS_DIGIT],
  ['=', HAS_SEPARATOR],
  ['<', HAS_TAG],
  ['@', HAS_AT],
  ['%\\&', HAS_ESCAPE],
  [' \t\n\v\f\r', HAS_SPACE],
  ['"\'`', HAS_QUOTE],
  ['.', HAS_DOT],
  ['-', HAS_DASH],
  ['+,/~', HAS_JOINT],
] as const) {
  for (const c of characters) BITS[c.charCodeAt(0)] = (BITS[c.charCodeAt(0)] ?? 0) | bits;
}

function featuresOf(text: string): number {
  let features = 0;
  let shapeRun = 0;
  let shapeRunMax = 0;
  let run = 0;
  let runMax = 0;
  for (let i = 0; i < text.length; i += 1) {
    const c = text.charCodeAt(i);
    const bits = c < 128 ? (BITS[c] ?? 0) : c === NO_BREAK_SPACE ? NO_BREAK : HAS_BEYOND_ASCII;
    features |= bits;
    if ((bits & IN_SHAPE) !== 0) {
      shapeRun += 1;
      run += 1;
      continue;
    }
    if (shapeRun > shapeRunMax) shapeRunMax = shapeRun;
    shapeRun = 0;
    if ((bits & IN_RUN) !== 0) {
      run += 1;
      continue;
    }
    if (run > runMax) runMax = run;
    run = 0;
    if (c === COLON) features |= isScheme(text, i) ? HAS_SCHEME : HAS_SEPARATOR;
  }
  shapeRunMax = Math.max(shapeRunMax, shapeRun);
  runMax = Math.max(runMax, run);
  const mixedCase = (features & HAS_LOWER) !== 0 && (features & HAS_UPPER) !== 0;
  if (runMax >= ENCODED_RUN_MIN && mixedCase) features |= HAS_ENCODED_RUN;
  if (shapeRunMax >= KNOWN_SHAPE_RUN_MIN) features |= HAS_SHAPE_RUN;
  const allClasses = (features & HAS_ALL_CLASSES) === HAS_ALL_CLASSES;
  const randomMin = allClasses
    ? RANDOM_RUN_LENGTH_MIN
    : mixedCase
      ? LONG_RUN_LENGTH_MIN
      : ONE_CASE_LENGTH_MIN;
  if (runMax >= randomMin) features |= HAS_RANDOM_RUN;
  return features;
}

const NO_BREAK = HAS_BEYOND_ASCII | HAS_SPACE;

/** `://` parts no name from its value. */
function isScheme(text: string, colon: number): boolean {
  return text.charCodeAt(colon + 1) === SLASH && text.charCodeAt(colon + 2) === SLASH;
}

const has = (features: number, bits: number): boolean => (features & bits) !== 0;

const SCHEME_NAME = /bearer|basic|dpop|negotiate/i;
const PROSE_NAME =
  /password|passwd|passphrase|passcode|pwd|pin|otp|secret|token|credential|code|nonce|verifier|assertion|cookie|key/i;
const SHAPES_OF_OTHER_RUNS = /whsec_|hooks\.slack|1\/\/0|4\/0A|Q~|\d:AA/;

const mayHoldCredential = (text: string, f: number): boolean =>
  has(f, HAS_SPACE | HAS_SEPARATOR | HAS_QUOTE | HAS_JOINT) && SCHEME_NAME.test(text);
const mayHoldJwt = (text: string, f: number): boolean =>
  text.includes('eyJ') || (has(f, HAS_DOT) && (text.includes('ew') || text.includes('eyA')));
const mayHoldShape = (text: string, f: number): boolean =>
  has(f, HAS_SHAPE_RUN) || (has(f, HAS_JOINT | HAS_SEPARATOR) && SHAPES_OF_OTHER_RUNS.test(text));
const mayHoldPrivateKey = (text: string, f: number): boolean =>
  has(f, HAS_DASH) && has(f, HAS_SPACE) && text.includes('PRIVATE KEY');
const mayHoldProse = (text: string, f: number): boolean =>
  has(f, HAS_SPACE) && PROSE_NAME.test(text);
const mayHoldSqlPassword = (text: string, f: number): boolean =>
  has(f, HAS_QUOTE) && /identified/i.test(text);
const mayHoldUserArgument = (text: string, f: number): boolean =>
  has(f, HAS_DASH) && has(f, HAS_SEPARATOR | HAS_SCHEME) && /-u|user/.test(text);

/**
 * False where no scanner can find anything in the text, which one look at its characters tells for most names, methods,
 * dates, addresses and user agents. True says nothing. The user's patterns are not asked: run them beside.
 *
 * @param free false for a field made for ids, where the rules for sentences, people and random text do not hold
 */
export function couldHoldSecret(text: string, free: boolean): boolean {
  const f = featuresOf(text);
  if (has(f, HAS_SEPARATOR | HAS_TAG | HAS_ESCAPE | HAS_BEYOND_ASCII)) return true;
  if (has(f, HAS_AT) && (free || has(f, HAS_SCHEME))) return true;
  if (free && has(f, HAS_RANDOM_RUN | HAS_ENCODED_RUN)) return true;
  if (mayHoldJwt(text, f) || mayHoldCredential(text, f)) return true;
  if (mayHoldUserArgument(text, f)) return true;
  if (mayHoldShape(text, f) && holdsKnownShape(text)) return true;
  if (free && (mayHoldProse(text, f) || mayHoldSqlPassword(text, f))) return true;
  return mayHoldPrivateKey(text, f);
}

/** Runs every scanner that could find anything over a decoded view. Linear in its length. */
export function scanSecrets(view: DecodedView, context: ScanContext, report: ReportSecret): void {
  const { text } = view;
  const { classify, free } = context;
  const f = featuresOf(text);
  const as =
    (rule: ScanRule) =>
    (start: number, end: number): void =>
      report(start, end, rule);
  if (has(f, HAS_SEPARATOR)) scanParameters(view, classify, as('parameter'));
  if (has(f, HAS_TAG)) scanElements(view, classify, as('element'));
  if (has(f, HAS_SEPARATOR) && /form-data;/i.test(text))
    scanMultipart(view, classify, as('multipart'));
  if (mayHoldCredential(text, f)) scanCredentials(view, as('credential'));
  if (has(f, HAS_AT) && has(f, HAS_SCHEME)) scanUserinfo(view, as('userinfo'));
  if (mayHoldJwt(text, f)) scanJwts(view, as('jwt'));
  if (mayHoldShape(text, f)) scanKnownShapes(view, as('known_shape'));
  if (mayHoldPrivateKey(text, f)) scanPrivateKeys(view, as('private_key'));
  if (mayHoldUserArgument(text, f)) scanUserArguments(view, as('credential'));
  if (free) scanFreeText(view, f, context, report);
  for (const pattern of context.patterns)
    pattern.find(text, (start, end) => report(start, end, 'pattern', pattern.name));
}

/** What holds for sentences, but not for names and ids. */
function scanFreeText(
  view: DecodedView,
  features: number,
  context: ScanContext,
  report: ReportSecret,
): void {
  const { text } = view;
  const as =
    (rule: ScanRule) =>
    (start: number, end: number): void =>
      report(start, end, rule);
  if (mayHoldProse(text, features)) scanProse(view, as('prose'));
  if (mayHoldSqlPassword(text, features)) scanSqlPasswords(view, as('prose'));
  if (has(features, HAS_AT)) scanEmails(view, as('email'));
  if (context.isRandomKept !== true && has(features, HAS_RANDOM_RUN))
    scanRandomRuns(view, as('random'));
  if (has(features, HAS_ENCODED_RUN))
    scanEncodedText(view, (decoded) => holdsSecret(decoded, context), as('encoded'));
}

/** True where a decoded text holds a secret by name or shape; what is encoded in it once more is not looked into. */
function holdsSecret(text: string, context: ScanContext): boolean {
  if (!couldHoldSecret(text, false)) return false;
  let found = false;
  scanSecrets(decodedView(text), { ...context, free: false, patterns: [] }, () => {
    found = true;
  });
  return found;
}

/** A secret of a text: where it stands, and the rule that found it. */
export interface FoundSecret {
  readonly start: number;
  readonly end: number;
  readonly rule: ScanRule;
  readonly name?: string;
}

/** Everything that is found in a text, in its own positions, for explanations. Ranges may overlap. */
export function findSecrets(text: string, context: ScanContext): FoundSecret[] {
  const view = decodedView(text);
  const found: FoundSecret[] = [];
  scanSecrets(view, context, (start, end, rule, name) => {
    if (end > start)
      found.push({
        start: view.at(start),
        end: view.at(end),
        rule,
        ...(name === undefined ? {} : { name }),
      });
  });
  return found.sort((a, b) => a.start - b.start || b.end - a.end);
}
