import { readdirSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { checkSource, loadSources } from '../../collector/registry.ts';
import { REJECT_CODES } from '../../model/define_source.ts';
import { AUTH_EVENT_FIELDS } from '../../model/event_fields.ts';

const sources = await loadSources();
const context = { received_at: 1_760_000_000_000_000_000n };

describe('the registry of sources', () => {
  it('holds every file of the folder that is not a reading aid, sorted', () => {
    const files = readdirSync(new URL('../../collector/sources/', import.meta.url))
      .filter((f) => f.endsWith('.ts') && !f.startsWith('_'))
      .map((f) => f.replace(/\.ts$/, ''))
      .sort();
    expect([...sources.keys()]).toEqual(files);
    expect(files).toEqual(
      expect.arrayContaining(['envoy', 'grantscope', 'keycloak', 'oidc_provider', 'otlp']),
    );
  });

  const valid = {
    id: 'x',
    title: 'X',
    vendor: 'x',
    product: 'x',
    description: 'x',
    forms: ['json'],
    provides: ['time'],
    confirmed_by: 'documents',
    references: ['RFC 6749'],
    parse: () => ({ ok: true, events: [] }),
  };

  it('takes a definition that keeps the contract', () => {
    expect(checkSource(valid)).toBe(valid);
  });

  it.each([
    ['nothing', undefined, 'the default export must be made by defineSource'],
    ['no title', { ...valid, title: '' }, 'title: must be text'],
    [
      'an id that is no path segment',
      { ...valid, id: 'X-Y' },
      'id: must be snake_case, since it is a path segment',
    ],
    [
      'an unknown form',
      { ...valid, forms: ['xml'] },
      'forms: must be a list of json, text, not empty',
    ],
    ['no fields', { ...valid, provides: [] }, 'provides: must be a list of texts, not empty'],
    [
      'no proof',
      { ...valid, confirmed_by: 'hope' },
      'confirmed_by: must be one of real_server, real_samples, documents',
    ],
    ['no parser', { ...valid, parse: 1 }, 'parse: must be a function'],
    ['a container that is no function', { ...valid, unwrap: 1 }, 'unwrap: must be a function'],
  ])('refuses %s', (_, candidate, message) => {
    expect(() => checkSource(candidate)).toThrow(message);
  });
});

describe.each([...sources.values()])('source $id', (source) => {
  it('provides fields of AuthEvent only, each once, and at least time and kind', () => {
    const unknown = source.provides.filter((f) => !AUTH_EVENT_FIELDS.has(f));
    expect(unknown).toEqual([]);
    expect(new Set(source.provides).size).toBe(source.provides.length);
    expect(source.provides).toEqual(expect.arrayContaining(['time', 'kind', 'outcome']));
  });

  it('refuses a form it does not read, what is no object, and an empty object, with a known code', () => {
    if (!source.forms.includes('text')) {
      const refused = source.parse({ form: 'text', line: 'x' }, context);
      expect(refused).toMatchObject({ ok: false, code: 'unsupported_form' });
    }
    for (const value of [null, 1, 'x', [], true, undefined]) {
      expect(source.parse({ form: 'json', value }, context)).toMatchObject({
        ok: false,
        code: 'not_an_object',
      });
    }
    const empty = source.parse({ form: 'json', value: {} }, context);
    expect(empty.ok).toBe(false);
    if (!empty.ok) expect(REJECT_CODES).toContain(empty.code);
  });
});
