/** Longest header that is looked for, characters: RFC 5424 section 6.1 lets receivers stop at 2 KiB. */
const HEADER_LENGTH_MAX = 2_048;

/** Where a line has a priority, perhaps behind the length of RFC 6587 section 3.4.1. */
const PRIORITY = /^(?:\d{1,9} )?<\d{1,3}>/;
/** RFC 5424 section 6: version, time, host, application, process, message id. */
const RFC_5424 = /^[1-9]\d{0,2} \S{1,48} \S{1,255} \S{1,48} \S{1,128} \S{1,32} /;
/** RFC 3164 section 4.1, with the times that senders write in its place. */
const RFC_3164_TIME =
  /^(?:[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d(?:\.\d{1,9})?|\d{4}-\d\d-\d\dT\S{1,40}) /;
const RFC_3164_TAG = /^(?:[^\s:[\]{}]{1,255} )?[^\s:[\]{}]{1,64}(?:\[[^\]\s]{0,64}\])?: ?/;
const RFC_3164_HOST = /^[^\s{[]{1,255} /;

/** What a syslog line says behind its header (RFC 5424, RFC 3164); a line without a priority is given back as it is. */
export function withoutSyslogHeader(line: string): string {
  const first = line.charCodeAt(0);
  if (first !== OPEN_ANGLE && !(first >= 0x30 && first <= 0x39)) return line;
  const priority = PRIORITY.exec(line.slice(0, 16))?.[0];
  if (priority === undefined) return line;
  const rest = line.slice(priority.length);
  const message = messageOf5424(rest) ?? messageOf3164(rest);
  return message.replace(/^\ufeff/, '').trim();
}

function messageOf5424(line: string): string | undefined {
  const header = RFC_5424.exec(line.slice(0, HEADER_LENGTH_MAX))?.[0];
  if (header === undefined) return undefined;
  const data = line.slice(header.length);
  return data.startsWith('-') ? data.slice(1) : behindStructuredData(data);
}

/** Elements stand between brackets; in quotes, a backslash takes the next character's meaning away. */
function behindStructuredData(text: string): string | undefined {
  let at = 0;
  while (text[at] === '[') {
    let isQuoted = false;
    for (at += 1; at < text.length && (isQuoted || text[at] !== ']'); at += 1) {
      if (isQuoted && text[at] === '\\') at += 1;
      else if (text[at] === '"') isQuoted = !isQuoted;
    }
    at += 1;
  }
  return at === 0 || at > text.length ? undefined : text.slice(at);
}

function messageOf3164(line: string): string {
  const time = RFC_3164_TIME.exec(line.slice(0, 64))?.[0];
  if (time === undefined) return line;
  const rest = line.slice(time.length);
  const begin = rest.slice(0, 400);
  const header = RFC_3164_TAG.exec(begin)?.[0] ?? RFC_3164_HOST.exec(begin)?.[0] ?? '';
  return rest.slice(header.length);
}

const OPEN_ANGLE = 0x3c;
