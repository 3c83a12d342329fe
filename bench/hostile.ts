import { cutRecords } from '../collector/receivers/cut_records.ts';
import {
  decodeLogsRequestJson,
  decodeTraceRequestJson,
} from '../collector/receivers/otlp/decode_json.ts';
import { mapLogs } from '../collector/receivers/otlp/map_logs.ts';
import { mapTraces } from '../collector/receivers/otlp/map_traces.ts';
import { processDraft } from '../collector/processors/process_draft.ts';
import { createScrubber, type Scrubber } from '../collector/processors/scrub.ts';
import { loadSources } from '../collector/registry.ts';
import { KeyRing } from '../runtime/keyring.ts';
import { readFlags, report } from './harness/program.ts';

/**
 * What one hostile text of a megabyte costs redaction, wherever it stands: in a text, an id, a URL, an attribute, and in
 * a record of a request from its bytes to its redacted events. A scanner that looks back or ahead without a bound would
 * show as seconds here.
 *
 *   npx tsx bench/hostile.ts [--bytes 1000000]
 *
 * Prints the dearest of each place and writes bench/results/hostile.json. Times are the best of three, ms of CPU
 * time of the process, so that what else runs on the machine does not count.
 */
const { bytes: BYTES } = readFlags(process.argv.slice(2), { bytes: 1_000_000 }, ['bytes']);
const RUNS = 3;
/** What one text may cost, ms. */
const GOAL_MS = 50;

const ACCENT = String.fromCharCode(0x301);
const INVISIBLE = String.fromCharCode(0x200b);
const ALPHABET = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';

function mixedText(length: number): string {
  // A fixed generator, so that every run sees the same text.
  let state = 12_345;
  let text = '';
  for (let i = 0; i < length; i += 1) {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
    text += ALPHABET.charAt((state >>> 16) & 63);
  }
  return text;
}

/** Each is repeated up to the size. */
const UNITS: Readonly<Record<string, string>> = {
  letters: 'a',
  digits: '1',
  'base64url, random': mixedText(4_096),
  'base64url, with slashes': `${mixedText(23)}/`,
  hex: '0123456789abcdef',
  'words and spaces': 'the quick brown fox ',
  spaces: ' ',
  'line ends': '\n',
  'equal signs': '=',
  colons: ':',
  quotes: '"',
  'single quotes': "'",
  braces: '{',
  brackets: '[',
  'braces and quotes': '{"a":',
  'closing braces': '}',
  commas: ',',
  ampersands: '&',
  'entity heads': '&#',
  entities: '&quot;',
  'numeric entities': '&#x41;',
  percent: '%',
  'percent escapes': '%25',
  'percent of letters': '%61',
  'broken UTF-8 escapes': '%E2%25',
  backslashes: '\\',
  'unicode escapes': '\\u0061',
  'nested escapes': '\\\\\\"',
  'escaped line ends': '\\n',
  slashes: '/',
  'double slashes': '//',
  schemes: '://',
  'schemes and at signs': 'a://b@',
  'encoded schemes': '://%3A%2F%2F',
  'at signs': '@',
  mails: 'a@b.cc',
  'open mails': 'a@',
  'long mails': `${'x'.repeat(63)}@${'y.'.repeat(120)}`,
  'domain dots': '@a.',
  'jwt heads': 'eyJ',
  'jwt pieces': 'eyJaaaa.',
  'jwt pieces, broken': 'eyJaaaa.bbb \n',
  'jwt other heads': 'eyAaaaaaa.',
  dots: '.',
  'dots and letters': 'a.',
  dashes: '-',
  'key heads': '-----BEGIN PRIVATE KEY-----',
  'half key heads': '-----BEGIN ',
  'tag heads': '<a',
  'secret tags': '<assertion',
  'secret tags, closed': '<assertion></b>',
  'open tags': '<',
  bearer: 'Bearer ',
  'bearer, short': 'bearer a',
  basic: 'Basic YTpi ',
  'code parameters': 'code=x&',
  'code with open quotes': 'code="',
  'code with escaped quotes': '"code":"\\"',
  'code with brackets': '"code":[',
  'code with braces': '"tokens":{',
  'named values': 'name="code"',
  'named objects': '{"name":"code","value":',
  'authorization lines': 'authorization: x\n',
  'authorization on one line': 'authorization: ',
  'wide keys': `${'x'.repeat(127)}=`,
  'dotted keys': 'a.b.c.d=',
  'percent keys': 'c%6fde=',
  'prose of passwords': 'password is ',
  'prose of tokens': 'token was token was ',
  'multipart heads': '--b\r\nContent-Disposition: form-data; name="code"\r\n\r\nx\r\n',
  'half multipart heads': 'Content-Disposition: form-data; name="',
  'accents on a letter': `a${ACCENT}`,
  'accents alone': ACCENT,
  invisible: INVISIBLE,
  'invisible in keys': `co${INVISIBLE}de=`,
  'full width': '\uff43',
  surrogates: '\u{1f600}',
  'half surrogates': '\ud83d',
  'aws heads': 'AKIA',
  'slack heads': 'xoxb-',
  'sendgrid heads': `SG.${'a'.repeat(20)}`,
  'uuid pieces': '3a76b735-e324-42b1-aa15-',
  uuids: '3a76b735-e324-42b1-aa15-7c1f69f22eb8',
  'uuids, joined': '3a76b735-e324-42b1-aa15-7c1f69f22eb8_',
  'base64 of parameters': Buffer.from('code=abc&state=def').toString('base64'),
  underscores: '_',
  'marks of redaction': '[redacted]',
  asterisks: '*',
  nulls: '\0',
};

interface Place {
  readonly name: string;
  /** Makes the work for a text, outside of the measured time. */
  readonly prepare: (text: string) => () => void;
}

const scrubbing = (name: string, run: (scrubber: Scrubber, text: string) => unknown): Place => ({
  name,
  prepare: (text) => () => void run(createScrubber(), text),
});

const sources = await loadSources();
const keyRing = KeyRing.fromKey('0123456789abcdef'.repeat(4));
const receivedAt = BigInt(Date.now()) * 1_000_000n;

const TEMPLATES: Readonly<Record<string, (text: string) => unknown>> = {
  grantscope: (text) => ({
    time: new Date().toISOString(),
    kind: 'token_issued',
    error: { detail: text, code: text },
    client: { id: text, name: text },
    subject: { id: text },
    redirect_uri: text,
    scopes_granted: [text],
    tokens: [{ role: 'issued', type: 'access', value: text }],
    net: { client_ip: text, user_agent: text },
    http: { route: text },
    ext: { a: text, [text]: 'b' },
  }),
  keycloak: (text) => ({
    time: Date.now(),
    type: 'LOGIN',
    clientId: text,
    userId: text,
    ipAddress: text,
    error: text,
    details: { redirect_uri: text, username: text, reason: text },
  }),
};

/** A request with the text in every field at once: ten texts and more, so it is measured apart. */
function wholeRequest(sourceId: string, text: string): () => void {
  const source = sources.get(sourceId);
  const template = TEMPLATES[sourceId];
  if (source === undefined || template === undefined) throw new Error(`no source ${sourceId}`);
  const body = Buffer.from(JSON.stringify(template(text)));
  return () => {
    const scrubber = createScrubber();
    for (const cut of cutRecords(body, source)) {
      if (!cut.ok) throw new Error(cut.message);
      const parsed = source.parse(cut.record, { received_at: receivedAt });
      if (!parsed.ok) continue;
      for (const draft of parsed.events)
        processDraft(draft, {
          ...{ source, tenant: 'default', receivedAt, contentSeed: 'x', subIndex: 0 },
          ...{ keyRing, scrubber, clientIp: 'keep' },
        });
    }
  };
}

const attribute = (key: string, text: string): unknown => ({ key, value: { stringValue: text } });

function otlpLog(text: string): () => void {
  const logRecords = [{ timeUnixNano: '1', body: { stringValue: text } }];
  const body = Buffer.from(JSON.stringify({ resourceLogs: [{ scopeLogs: [{ logRecords }] }] }));
  return () => {
    const scrubber = createScrubber();
    mapLogs(decodeLogsRequestJson(body), { sources, scrubber, receivedAt });
  };
}

function otlpSpan(text: string): () => void {
  const span = {
    ...{ traceId: '0af7651916cd43dd8448eb211c80319c', spanId: 'b7ad6b7169203331' },
    ...{ startTimeUnixNano: '1', endTimeUnixNano: '2', name: 'x' },
    attributes: [attribute('note', text), attribute('url.full', text)],
  };
  const body = Buffer.from(
    JSON.stringify({ resourceSpans: [{ scopeSpans: [{ spans: [span] }] }] }),
  );
  return () => {
    const scrubber = createScrubber();
    mapTraces(decodeTraceRequestJson(body), { sources, scrubber, receivedAt });
  };
}

function piecesOf(text: string): string[] {
  const pieces: string[] = [];
  for (let i = 0; i < text.length; i += 1_000) pieces.push(text.slice(i, i + 1_000));
  return pieces;
}

const PLACES: readonly Place[] = [
  scrubbing('scrubText', (s, text) => s.scrubText(text)),
  scrubbing('scrubText, cut at 1,024', (s, text) => s.scrubText(text, 1_024)),
  scrubbing('scrubIdentifier', (s, text) => s.scrubIdentifier(text)),
  scrubbing('scrubUrl', (s, text) => s.scrubUrl(text)),
  scrubbing('scrubUrl, after a host', (s, text) => s.scrubUrl(`https://h/${text}`)),
  scrubbing('isSecretKey', (s, text) => s.isSecretKey(text)),
  scrubbing('attribute', (s, text) => s.scrubAttributes({ note: text })),
  scrubbing('attribute key', (s, text) => s.scrubAttributes({ [text]: 'x' })),
  scrubbing('attribute, URL', (s, text) => s.scrubAttributes({ 'url.full': text })),
  scrubbing('attribute, list', (s, text) => s.scrubAttributes({ note: [text] })),
  scrubbing('attribute, list of pieces', (s, t) => s.scrubAttributes({ note: piecesOf(t) })),
  scrubbing('attribute, map', (s, text) => s.scrubAttributes({ note: { [text]: text } })),
  scrubbing('attribute, bytes', (s, text) => s.scrubAttributes({ note: Buffer.from(text) })),
  { name: 'OTLP log, whole request', prepare: otlpLog },
  { name: 'OTLP span with two, whole request', prepare: otlpSpan },
];
const REQUESTS: readonly Place[] = Object.keys(TEMPLATES).map((id) => ({
  name: `${id}, text in every field`,
  prepare: (text) => wholeRequest(id, text),
}));

function cpuMs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1_000;
}

interface Measured {
  readonly place: string;
  readonly shape: string;
  readonly ms: number;
}

function measure(place: Place, shape: string, unit: string): Measured {
  const text = unit.repeat(Math.ceil(BYTES / unit.length)).slice(0, BYTES);
  let best = Infinity;
  for (let run = 0; run < RUNS; run += 1) {
    const work = place.prepare(text);
    const began = cpuMs();
    work();
    best = Math.min(best, cpuMs() - began);
  }
  return { place: place.name, shape, ms: Math.round(best * 10) / 10 };
}

function measureAll(places: readonly Place[]): Measured[] {
  return places.flatMap((place) => {
    // Compiled before it is measured.
    for (let i = 0; i < 3; i += 1)
      place.prepare('code=a&b%3Dc "d":"e" <f> eyJ a@b.cc '.repeat(300))();
    const results = Object.entries(UNITS).map(([shape, unit]) => measure(place, shape, unit));
    const [worst, second, third] = [...results].sort((a, b) => b.ms - a.ms);
    const shown = [worst, second, third]
      .map((m) => `${m?.ms ?? 0} ms ${m?.shape ?? ''}`)
      .join(', ');
    process.stdout.write(`${place.name.padEnd(34)} ${shown}\n`);
    return results;
  });
}

const results = [...measureAll(PLACES), ...measureAll(REQUESTS)];
const one = results.filter((m) => PLACES.some((p) => p.name === m.place));
const over = one.filter((m) => m.ms > GOAL_MS);
const worst = results.reduce((a, b) => (b.ms > a.ms ? b : a));
process.stdout.write(
  `${results.length} measured over ${Object.keys(UNITS).length} shapes of ${BYTES} characters; worst ${worst.ms} ms (${worst.place}, ${worst.shape}); over ${GOAL_MS} ms with one text: ${over.length}\n`,
);
const worstOf = (name: string): Measured =>
  results.filter((m) => m.place === name).reduce((a, b) => (b.ms > a.ms ? b : a));
report(
  'hostile',
  { bytes: BYTES },
  {
    ...{ runs: RUNS, goal_ms: GOAL_MS, shapes: Object.keys(UNITS).length },
    over_goal: over,
    worst: [...PLACES, ...REQUESTS].map((p) => worstOf(p.name)),
  },
);
