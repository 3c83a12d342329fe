import { EVENT_KINDS } from '../model/kinds.ts';
import type { SourceDefinition } from '../model/define_source.ts';
import { loadDefinitions } from '../runtime/registry.ts';

const FORMS = ['json', 'text'];
const CONFIRMATIONS = ['real_server', 'real_samples', 'documents'];

/**
 * All sources of `collector/sources/`, by id. Throws `definition_invalid` with the file and the reason when
 * one does not keep the contract of `SourceDefinition`, so that a broken adapter stops the start.
 */
export async function loadSources(): Promise<ReadonlyMap<string, SourceDefinition>> {
  const folder = new URL('./sources/', import.meta.url);
  const sources = await loadDefinitions(folder, checkSource);
  return new Map(sources.map((s) => [s.id, s]));
}

/** Checks one default export against the contract; throws with the field and what is allowed. */
export function checkSource(candidate: unknown): SourceDefinition {
  if (typeof candidate !== 'object' || candidate === null) {
    throw new TypeError('the default export must be made by defineSource');
  }
  const source = candidate as Record<string, unknown>;
  for (const field of ['id', 'title', 'vendor', 'product', 'description']) {
    if (typeof source[field] !== 'string' || source[field] === '') {
      throw new TypeError(`${field}: must be text`);
    }
  }
  if (!/^[a-z][a-z0-9_]*$/.test(String(source['id']))) {
    throw new TypeError('id: must be snake_case, since it is a path segment');
  }
  requireTexts(source, 'forms', FORMS);
  if (source['kinds'] !== undefined) requireTexts(source, 'kinds', EVENT_KINDS);
  requireTexts(source, 'provides');
  requireTexts(source, 'references');
  if (!CONFIRMATIONS.includes(String(source['confirmed_by']))) {
    throw new TypeError(`confirmed_by: must be one of ${CONFIRMATIONS.join(', ')}`);
  }
  if (typeof source['parse'] !== 'function') throw new TypeError('parse: must be a function');
  if (source['unwrap'] !== undefined && typeof source['unwrap'] !== 'function') {
    throw new TypeError('unwrap: must be a function');
  }
  return candidate as SourceDefinition;
}

function requireTexts(
  source: Record<string, unknown>,
  field: string,
  allowed?: readonly string[],
): void {
  const list = source[field];
  const valid =
    Array.isArray(list) &&
    list.length > 0 &&
    list.every((v) => typeof v === 'string' && (allowed === undefined || allowed.includes(v)));
  if (!valid) {
    throw new TypeError(
      `${field}: must be a list of ${allowed === undefined ? 'texts' : allowed.join(', ')}, not empty`,
    );
  }
}
