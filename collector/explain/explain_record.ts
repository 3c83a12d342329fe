import type { AuthEvent } from '../../model/auth_event.ts';
import type { SourceDefinition, SourceRecord } from '../../model/define_source.ts';
import type { AuthEventDraft } from '../../model/draft.ts';
import type { KeyRing } from '../../runtime/keyring.ts';
import type { RedactionSettings } from '../../runtime/redaction_settings.ts';
import { processDraft } from '../processors/process_draft.ts';
import { createKeyClassifier } from '../processors/secret_keys.ts';
import { createScrubber, scrubberOptions } from '../processors/scrub.ts';
import type { Scrubber } from '../processors/scrubber.ts';
import { findSecrets, type ScanContext } from '../processors/secret_scanners.ts';
import { leavesOf, scalarOf, textsOf, variantsOf, withLeaf } from './leaves.ts';
import { shapeOf, shownName } from './shape.ts';

/** What becomes of a field. `read`: it decides something (a kind, an outcome, a time) without being stored as it is. */
export const FATES = ['kept', 'read', 'hashed', 'scrubbed', 'dropped'] as const;
export type Fate = (typeof FATES)[number];

export interface ExplainedField {
  /** Path in the record as it came, scrubbed. */
  readonly field: string;
  readonly fate: Fate;
  /** Kind and length of the value; never a part of it. */
  readonly shape: string;
  /** Where it goes in the stored event. */
  readonly to: readonly string[];
  /** What is stored, after redaction; absent for references and what is dropped. */
  readonly stored?: string;
  readonly why: string;
}

export interface ExplainedRecord {
  /** Position in the file, from 0. */
  readonly index: number;
  readonly source: string;
  /** Kinds of the events that the record becomes; none where it is refused, or noise. */
  readonly events: readonly string[];
  /** Why the record is refused as a whole. */
  readonly refused?: { readonly code: string; readonly message: string };
  readonly fields: readonly ExplainedField[];
  /** Fields beyond `LEAVES_MAX`, which are not listed. */
  readonly unlisted: number;
}

export interface Explainer {
  readonly scrubber: Scrubber;
  readonly scan: ScanContext;
  readonly keyRing: KeyRing;
  readonly clientIp: RedactionSettings['client_ip'];
  /** The clock, ns. */
  readonly receivedAt: bigint;
}

/** The redaction of this configuration, with a ring whose references are made but never shown. */
export function createExplainer(
  settings: RedactionSettings,
  keyRing: KeyRing,
  receivedAt: bigint,
): Explainer {
  const options = scrubberOptions(settings);
  const classify = createKeyClassifier(settings.extra_keys, settings.allowed_keys);
  return {
    scrubber: createScrubber(options),
    scan: { classify, free: true, patterns: options.patterns ?? [] },
    keyRing,
    clientIp: settings.client_ip,
    receivedAt,
  };
}

/** The rules that find something in a text: "parameter, jwt". */
export function rulesIn(explainer: Explainer, text: string): string {
  const rules = findSecrets(text, explainer.scan).map((f) =>
    f.name === undefined ? f.rule : `pattern ${f.name}`,
  );
  return [...new Set(rules)].join(', ');
}

interface Outcome {
  readonly drafts: readonly AuthEventDraft[];
  readonly events: readonly AuthEvent[];
}
type Run =
  (Outcome & { readonly ok: true }) | { readonly ok: false; code: string; message: string };

function run(source: SourceDefinition, record: SourceRecord, explainer: Explainer): Run {
  const { receivedAt, keyRing, scrubber, clientIp } = explainer;
  const parsed = source.parse(record, { received_at: receivedAt });
  if (!parsed.ok) return parsed;
  const events: AuthEvent[] = [];
  for (const draft of parsed.events) {
    const facts = { source, tenant: 'default', receivedAt, contentSeed: 'explained' };
    const context = { ...facts, subIndex: events.length, keyRing, scrubber, clientIp };
    const processed = processDraft(draft, context);
    if (!processed.ok) return processed;
    events.push(processed.event);
  }
  return { ok: true, drafts: parsed.events, events };
}

/**
 * What becomes of every field of a record, found by trying: the real adapter reads the record again with one field changed, and
 * where its result is the same, nobody reads that field. Redaction is the real one as well.
 */
export function explainRecord(
  source: SourceDefinition,
  record: SourceRecord,
  index: number,
  explainer: Explainer,
): ExplainedRecord {
  const result = run(source, record, explainer);
  const head = { index, source: source.id };
  if (!result.ok) {
    const refused = { code: result.code, message: result.message };
    return { ...head, events: [], refused, fields: [], unlisted: 0 };
  }
  const events = result.events.map((e) => e.kind);
  const drafted = textsOf(result.drafts);
  const stored = textsOf(result.events);
  const facts: Facts = { explainer, drafted, stored };
  if (record.form === 'text') {
    return { ...head, events, fields: fieldsOfLine(record.line, facts), unlisted: 0 };
  }
  const { leaves, more } = leavesOf(record.value);
  const fields = leaves.map((leaf): ExplainedField => {
    const changed = changedBy(source, record.value, leaf.path, leaf.value, facts);
    return fieldOf(shownName(leaf.path), leaf.value, changed, facts);
  });
  return { ...head, events, fields, unlisted: more };
}

interface Facts {
  readonly explainer: Explainer;
  /** The draft's texts by path; raw. */
  readonly drafted: ReadonlyMap<string, string>;
  /** The event's texts by path; redacted. */
  readonly stored: ReadonlyMap<string, string>;
}

/** Paths of the draft that change with the leaf; `undefined` where the record is refused without it. */
function changedBy(
  source: SourceDefinition,
  value: unknown,
  path: readonly string[],
  leaf: unknown,
  { explainer, drafted }: Facts,
): ReadonlySet<string> | undefined {
  const changed = new Set<string>();
  let refused = false;
  for (const variant of variantsOf(leaf)) {
    // An empty text may change what kind of record it is; it is tried only where nothing else tells.
    if (variant === '' && changed.size > 0) break;
    const record = { form: 'json', value: withLeaf(value, path, variant) } as const;
    const parsed = source.parse(record, { received_at: explainer.receivedAt });
    if (!parsed.ok) {
      refused = true;
      continue;
    }
    const texts = textsOf(parsed.events);
    for (const key of new Set([...drafted.keys(), ...texts.keys()]))
      if (drafted.get(key) !== texts.get(key)) changed.add(key);
  }
  return changed.size === 0 && refused ? undefined : changed;
}

/** A line of text has no fields of its own: what its adapter found in it is listed. */
function fieldsOfLine(line: string, facts: Facts): ExplainedField[] {
  const fields = [...facts.drafted].map(([path, text]) =>
    fieldOf(`line: ${fieldName(path)}`, text, new Set([path]), facts),
  );
  const rest: ExplainedField = {
    field: 'line',
    fate: 'dropped',
    shape: shapeOf(line),
    to: [],
    why: 'of the line itself nothing is stored but what the adapter found in it',
  };
  return [...fields, rest];
}

function fieldOf(
  field: string,
  value: unknown,
  changed: ReadonlySet<string> | undefined,
  facts: Facts,
): ExplainedField {
  const shape = shapeOf(value);
  if (changed === undefined)
    return { field, fate: 'read', shape, to: [], why: 'without it the record is refused' };
  if (changed.size === 0)
    return { field, fate: 'dropped', shape, to: [], why: 'no adapter reads it' };
  const text = scalarOf(value);
  const to = [...new Set([...changed].map(fieldName))].sort();
  // Of what changes with the field, that which holds it tells what becomes of it; the most that is shown counts.
  const holding = [...changed].filter((path) => holdsText(facts.drafted.get(path), text));
  const exact = holding.filter((path) => facts.drafted.get(path) === text);
  const [verdict] = (exact.length > 0 ? exact : holding)
    .map((path) => verdictOf(path, facts))
    .sort((x, y) => SHOWN.indexOf(x.fate) - SHOWN.indexOf(y.fate));
  if (verdict === undefined)
    return { field, fate: 'read', shape, to, why: 'decides what is stored there' };
  return { field, shape, to, ...verdict };
}

/** From what shows most of a value to what shows least. */
const SHOWN: readonly Fate[] = ['kept', 'scrubbed', 'hashed', 'dropped', 'read'];

function holdsText(drafted: string | undefined, text: string): boolean {
  if (drafted === undefined || drafted === '' || text === '') return false;
  return drafted === text || (text.length > 2 && drafted.includes(text)) || text.includes(drafted);
}

interface Verdict {
  readonly fate: Fate;
  readonly why: string;
  readonly stored?: string;
}

const REFERENCES = /(?:^|\.)(?:ref|family_ref|parent_ref|session_ref|grant_ref)$/;

function verdictOf(path: string, { explainer, drafted, stored }: Facts): Verdict {
  const before = drafted.get(path) ?? '';
  const target = storedPath(path);
  const after = stored.get(target) ?? '';
  if (REFERENCES.test(target)) return referenceVerdict(path, before, after);
  if (target.endsWith('net.client_ip') && explainer.clientIp !== 'keep' && after !== '') {
    const why = `redaction.client_ip is ${explainer.clientIp}`;
    return explainer.clientIp === 'hash'
      ? { fate: 'hashed', why }
      : { fate: 'scrubbed', why, stored: after };
  }
  if (target.endsWith('event_id')) return { fate: 'read', why: 'names the event' };
  if (after === before) return { fate: 'kept', why: 'nothing secret in it', stored: after };
  if (after === '') return { fate: 'dropped', why: 'says "no value", or cannot be stored there' };
  const rules = rulesIn(explainer, before);
  const isUrl = before.includes('://') && !after.includes('?') && /[?#@]/.test(before);
  const reasons = [
    ...(isUrl ? ['a URL loses userinfo, query and fragment'] : []),
    ...(rules === '' ? [] : [`found by: ${rules}`]),
  ];
  const isSecretName = explainer.scrubber.isSecretKey(path.split('.').at(-1) ?? '');
  if (reasons.length === 0 && after === '[redacted]' && isSecretName)
    reasons.push('its name is that of a secret');
  if (reasons.length > 0) return { fate: 'scrubbed', why: reasons.join('; '), stored: after };
  const isCut = before.startsWith(after) && after.length < before.length;
  return {
    fate: isCut ? 'scrubbed' : 'kept',
    why: isCut ? `cut at ${after.length} characters` : 'brought into one form',
    stored: after,
  };
}

function referenceVerdict(path: string, before: string, after: string): Verdict {
  if (after === '')
    return {
      fate: 'dropped',
      why: 'says "no value" or is masked: a reference would join strangers',
    };
  if (before.toLowerCase().endsWith(after)) {
    const why = path.endsWith('ref') ? 'is a reference already' : 'a UUID is its own reference';
    return { fate: 'kept', why, stored: after };
  }
  return { fate: 'hashed', why: 'becomes a reference by the hash key' };
}

const IDENTITIES = '(?:secret|jti|vendor_id|vendor_hash|ref|next_ref)';
/** Where a draft's field goes in the event, for those that go elsewhere. */
const MOVED: readonly (readonly [RegExp, string])[] = [
  [/^vendor_event_id$|^sub_id$/, 'event_id'],
  [/^raw_type$/, 'source.raw_type'],
  [/^instance$/, 'source.instance'],
  [/^source_tenant$/, 'source.tenant'],
  [/^(subject|actor)\.(?:id|ref|next_ref)$/, '$1.ref'],
  [/^(session|grant)\.(?:id|ref|next_ref)$/, '$1_ref'],
  [new RegExp(`^(tokens\\.\\d+)\\.(family|parent)\\.${IDENTITIES}$`), '$1.$2_ref'],
  [new RegExp(`^(tokens\\.\\d+)\\.${IDENTITIES}$`), '$1.ref'],
  [/^(?:next_)?reference_key_id$/, 'redaction.key_id'],
  [/^upstream_redaction$/, 'redaction.upstream'],
];

/** `0.tokens.1.secret` of the drafts is `0.tokens.1.ref` of the events. */
function storedPath(path: string): string {
  const dot = path.indexOf('.');
  const field = path.slice(dot + 1);
  const moved = MOVED.find(([from]) => from.test(field));
  const target = moved === undefined ? field : field.replace(moved[0], moved[1]);
  return `${path.slice(0, dot)}.${target}`;
}

/** The same without the event's position and without positions in lists: `tokens.ref`. */
function fieldName(path: string): string {
  const target = storedPath(path);
  return shownName([target.slice(target.indexOf('.') + 1).replace(/\.\d+(?=\.|$)/g, '')]);
}
