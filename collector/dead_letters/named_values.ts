import { TOP, treatmentOf } from './field_treatment.ts';

export interface Range {
  readonly start: number;
  readonly end: number;
}

/** `name=`, `name="`, `"name":"`, also with escaped quotes. The value starts where the match ends. */
const NAME = /(?<![\w.-])([A-Za-z][\w.-]{0,63})(?:=|\\?"\s{0,4}:\s{0,4})(\\?["'])?/g;
/** Where a value without quotes ends: at the next pair, or at what parts parameters, lines and elements. */
const BARE_END = /[&;\n\r"'<>{}]|(?:,\s{0,4}|\s{1,4})(?=[A-Za-z][\w.-]{0,63}=)|$/g;
/** Who is acted on in the path of an admin API: `users/<id>`. */
const PERSON_IN_PATH =
  /(?<![\w-])(?:users?|accounts?|members|grants|sessions)\/([^/\s"'?&,;#]{1,256})/g;

/**
 * The values in a text whose name says that they must become references: pairs of log lines, parameters, members
 * of JSON, and people in paths. In order, without overlap; one pass, linear.
 */
export function namedValues(text: string, isSecretKey: (key: string) => boolean): Range[] {
  const ranges = [...pairs(text, isSecretKey), ...people(text)].sort((a, b) => a.start - b.start);
  let end = 0;
  return ranges.filter((range) => {
    if (range.start < end || range.end === range.start) return false;
    end = range.end;
    return true;
  });
}

function* pairs(text: string, isSecretKey: (key: string) => boolean): Generator<Range> {
  const name = new RegExp(NAME);
  for (let found = name.exec(text); found !== null; found = name.exec(text)) {
    const [, key = '', quote] = found;
    const how = treatmentOf(key, TOP, isSecretKey);
    if (how !== 'reference' && how !== 'own_reference') continue;
    const start = name.lastIndex;
    const end = quote === undefined ? bareEnd(text, start) : quotedEnd(text, start, quote);
    yield { start, end };
    name.lastIndex = end;
  }
}

function bareEnd(text: string, start: number): number {
  const ending = new RegExp(BARE_END);
  ending.lastIndex = start;
  return ending.exec(text)?.index ?? text.length;
}

/** The quote that ends a value stands before a comma, a bracket, white space or the end; else the text's end. */
function quotedEnd(text: string, start: number, quote: string): number {
  for (let end = text.indexOf(quote, start); end >= 0; end = text.indexOf(quote, end + 1)) {
    const isEscaped = quote.length === 1 && text[end - 1] === '\\';
    const next = text[end + quote.length];
    if (!isEscaped && (next === undefined || /[\s,;&}\])]/.test(next))) return end;
  }
  return text.length;
}

function* people(text: string): Generator<Range> {
  const person = new RegExp(PERSON_IN_PATH);
  for (let found = person.exec(text); found !== null; found = person.exec(text)) {
    const [whole, id = ''] = found;
    const start = found.index + whole.length - id.length;
    yield { start, end: start + id.length };
  }
}
