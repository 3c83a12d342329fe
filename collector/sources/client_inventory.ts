import {
  CLIENT_TYPES,
  writeClientList,
  type ClientListName,
  type ClientTextName,
} from '../../model/client_metadata.ts';
import { defineSource, type ParseResult, type SourceRecord } from '../../model/define_source.ts';
import {
  given,
  isJson,
  objectIn,
  own,
  refuse,
  textIn,
  timeNs,
  TIME_ALLOWED,
  type Json,
} from './_reading.ts';

/**
 * Members of a record that are read. A client secret and keys are read for whether they are there, and for the ids of
 * the keys; nothing else of them goes on.
 */
export const INVENTORY_MEMBERS = [
  ...['client_id', 'client_name', 'client_id_issued_at', 'client_type', 'statement_time'],
  ...['scope', 'redirect_uris', 'grant_types', 'response_types', 'token_endpoint_auth_method'],
  ...['has_secret', 'client_secret', 'jwks', 'jwks_kids'],
] as const;

const VALUES_MAX = 1_000;
const KIDS_TEXT_MAX = 250;

interface Refusal {
  readonly refused: string;
}
type Read<T> = T | undefined | Refusal;

function isRefusal(value: unknown): value is Refusal {
  return typeof value === 'object' && value !== null && 'refused' in value;
}

function isAbsent(value: unknown): value is undefined | null {
  return value === undefined || value === null;
}

/** A list of texts without white space, or one text with spaces between, as RFC 7591 writes scopes. */
function listOf(record: Json, name: string): Read<string[]> {
  const value = own(record, name);
  if (isAbsent(value)) return undefined;
  const items: unknown =
    typeof value === 'string' ? value.split(/\s+/).filter((v) => v !== '') : value;
  const isList =
    Array.isArray(items) &&
    items.length <= VALUES_MAX &&
    items.every((item) => typeof item === 'string' && item !== '' && !/\s/.test(item));
  return isList
    ? (items as string[])
    : { refused: `${name}: must be a list of at most ${VALUES_MAX} texts without white space` };
}

function textOf(record: Json, name: string): Read<string> {
  const value = own(record, name);
  if (isAbsent(value)) return undefined;
  return typeof value === 'string' && value !== '' && !/\s/.test(value)
    ? value
    : { refused: `${name}: must be text without white space` };
}

function clientTypeOf(record: Json): Read<string> {
  const value = own(record, 'client_type');
  if (isAbsent(value)) return undefined;
  return (
    CLIENT_TYPES.find((t) => t === value) ?? {
      refused: `client_type: allowed: ${CLIENT_TYPES.join(', ')}`,
    }
  );
}

/** `has_secret` as it is said; else a secret that is there says it. A secret that is not there may only have been left out. */
function secretHeldIn(record: Json): Read<string> {
  const value = own(record, 'has_secret');
  if (typeof value === 'boolean') return String(value);
  if (!isAbsent(value)) return { refused: 'has_secret: must be true or false' };
  const secret = own(record, 'client_secret');
  return typeof secret === 'string' && secret !== '' ? 'true' : undefined;
}

function issuedAt(record: Json): Read<string> {
  const value = own(record, 'client_id_issued_at');
  if (isAbsent(value)) return undefined;
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0
    ? String(value)
    : { refused: 'client_id_issued_at: must be whole seconds since the epoch' };
}

function kidsOf(record: Json): Read<string[]> {
  const stated = listOf(record, 'jwks_kids');
  if (stated !== undefined) return stated;
  const keys = own(objectIn(record, 'jwks'), 'keys');
  if (!Array.isArray(keys)) return undefined;
  return (keys as readonly unknown[])
    .slice(0, VALUES_MAX)
    .map((key) => (isJson(key) ? textIn(key, 'kid') : undefined))
    .filter((kid) => kid !== undefined && !/\s/.test(kid)) as string[];
}

interface Metadata {
  readonly ext: Readonly<Record<string, string>>;
  readonly kids: readonly string[] | undefined;
}

const LISTS = ['scope', 'redirect_uris', 'grant_types', 'response_types'] as const;

function metadataOf(record: Json): Metadata | Refusal {
  const lists = LISTS.map((name): [ClientListName, Read<string[]>] => [name, listOf(record, name)]);
  const texts: [ClientTextName, Read<string>][] = [
    ['token_endpoint_auth_method', textOf(record, 'token_endpoint_auth_method')],
    ['client_type', clientTypeOf(record)],
    ['secret_held', secretHeldIn(record)],
    ['client_id_issued_at', issuedAt(record)],
  ];
  const kids = kidsOf(record);
  const refusal = [...lists, ...texts].map(([, value]) => value).find(isRefusal);
  if (refusal !== undefined) return refusal;
  if (isRefusal(kids)) return kids;
  const ext: Record<string, string> = {};
  for (const [name, values] of lists) {
    if (!Array.isArray(values)) continue;
    // Queries may hold secrets, and no rule compares them.
    const plain = name === 'redirect_uris' ? values.map((v) => v.replace(/\?[^#]*/, '')) : values;
    Object.assign(ext, writeClientList(name, plain));
  }
  for (const [name, value] of texts) if (typeof value === 'string') ext[name] = value;
  return { ext, kids };
}

function parse(record: SourceRecord, context: { readonly received_at: bigint }): ParseResult {
  if (record.form === 'text') return refuse('unsupported_form', 'text: allowed is a JSON object');
  const { value } = record;
  if (!isJson(value)) return refuse('not_an_object', 'client: must be a JSON object');
  const id = own(value, 'client_id');
  if (typeof id !== 'string' || id === '')
    return refuse('missing_field', 'client_id: must be text that is not empty');
  const stated = own(value, 'statement_time');
  const time = isAbsent(stated) ? context.received_at : timeNs(stated);
  if (time === undefined)
    return refuse('invalid_time', `statement_time: not a time; ${TIME_ALLOWED}`);
  const metadata = metadataOf(value);
  if (isRefusal(metadata)) return refuse('invalid_field', metadata.refused);
  // Ids of keys are random text, which only a field made for ids may hold.
  const kids = metadata.kids?.join(' ') ?? '';
  const key = kids === '' || kids.length > KIDS_TEXT_MAX ? undefined : { kid: kids };
  return {
    ok: true,
    events: [
      given({
        kind: 'client_updated' as const,
        time,
        outcome: 'success' as const,
        raw_type: 'client_inventory',
        endpoint: 'registration',
        client: given({ id, name: textIn(value, 'client_name') }),
        key,
        ext: metadata.ext,
      }),
    ],
  };
}

/**
 * A list of clients as it stands: what each is registered with from `statement_time` (default: the time of receipt) on.
 * Members are those of RFC 7591 section 2 and 3.2.1, and `client_type`, `has_secret`, `jwks_kids` for what it has no word
 * for. A member that is left out is not stated, and stays as it was. Each gives a client_updated event: a list says how a
 * client is, not that it has just been made.
 */
export default defineSource({
  id: 'client_inventory',
  title: 'Client inventory (RFC 7591 metadata)',
  vendor: 'grantscope',
  product: 'client_inventory',
  description:
    'Lists of registered clients, exported from an authorization server, for what registration events do not tell.',
  forms: ['json'],
  kinds: ['client_updated'],
  provides: [
    'time',
    'kind',
    'outcome',
    'source.raw_type',
    'endpoint',
    'client.id',
    'client.name',
    'key.kid',
    'ext',
  ],
  confirmed_by: 'documents',
  references: ['RFC 7591 section 2', 'RFC 7591 section 3.2.1', 'RFC 6749 section 2.1'],
  parse,
});
