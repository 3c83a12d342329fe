import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { useOf } from '../../cli/source_coverage.ts';
import {
  loadUsedSources,
  PAGE_HEADINGS,
  renderSourcePages,
  withGenerated,
} from '../../cli/source_pages.ts';
import { loadSources } from '../../collector/registry.ts';
import type { EVENT_KINDS } from '../../model/kinds.ts';
import { packageRoot } from '../../runtime/paths.ts';

const sources = await loadSources();

describe('the page of a source', () => {
  it.each([...sources.keys()])('%s is there, with the headings that all pages have', (id) => {
    const page = readFileSync(join(packageRoot, 'docs', 'sources', `${id}.md`), 'utf8');
    const [body = ''] = page.split('<!-- generated -->');
    const headings = body.split('\n').filter((line) => line.startsWith('## '));
    expect(headings).toEqual([...PAGE_HEADINGS]);
    expect(body.split('\n')[0]).toMatch(/^# \S/);
    expect(body).toContain(`/v1/events/${id}`);
  });

  it('gets its generated part, and keeps what people wrote', async () => {
    for (const [path, text] of Object.entries(await renderSourcePages())) {
      const body = readFileSync(join(packageRoot, path), 'utf8').split('<!-- generated -->')[0];
      expect(text.startsWith(body?.trimEnd() ?? '-')).toBe(true);
      expect(text.split('<!-- generated -->')).toHaveLength(2);
      expect(text.trimEnd().endsWith('<!-- end generated -->')).toBe(true);
    }
  });

  it('has one generated part, wherever it stands', () => {
    const once = withGenerated('# A\n\nText.\n', 'one');
    expect(once).toBe('# A\n\nText.\n\n<!-- generated -->\n\none\n\n<!-- end generated -->\n');
    expect(withGenerated(once, 'one')).toBe(once);
    expect(withGenerated(`${once}\nMore.\n`, 'two')).toBe(
      '# A\n\nText.\n\n<!-- generated -->\n\ntwo\n\n<!-- end generated -->\n\nMore.\n',
    );
  });
});

describe('what a source can be used for', () => {
  const rule = (
    id: string,
    kinds: readonly (typeof EVENT_KINDS)[number][],
    ...needs: string[]
  ) => ({ id, kinds, needs });
  const rules = [
    rule('plain', ['api_accessed'], 'outcome', 'client.id'),
    rule('derived', ['api_accessed', 'login'], 'net.network', 'net.ua_family'),
    rule('databases', ['api_accessed'], 'net.asn', 'net.country'),
    rule('both', ['api_accessed'], 'net.asn', 'grant_ref'),
    rule('needy', ['api_accessed'], 'scopes_granted', 'client.id', 'grant_ref'),
    rule('elsewhere', ['token_issued'], 'client.id'),
  ];
  const slos = [
    { id: 'calls', attempts: [{ kinds: ['api_accessed', 'token_validated'] as const }] },
    { id: 'tokens', attempts: [{ kinds: ['token_issued'] as const }] },
    { id: 'all', attempts: [{ outcomes: ['failure'] as const }] },
  ];
  const provides = ['client.id', 'net.client_ip', 'net.user_agent'];

  it('is every rule whose kinds it has and whose fields it fills; else it says what is missing', () => {
    expect(useOf({ kinds: ['api_accessed'], provides }, rules, slos)).toEqual({
      works: ['plain', 'derived'],
      works_with_databases: ['databases'],
      blind: [
        { id: 'both', missing: ['net.asn', 'grant_ref'] },
        { id: 'needy', missing: ['scopes_granted', 'grant_ref'] },
      ],
      not_concerned: ['elsewhere'],
      slis: ['calls', 'all'],
    });
  });

  it('has no network without an address', () => {
    const use = useOf({ kinds: ['api_accessed'], provides: ['client.id'] }, rules, slos);
    expect([use.works, use.works_with_databases]).toEqual([['plain'], []]);
    expect(use.blind.slice(0, 2)).toEqual([
      { id: 'derived', missing: ['net.network', 'net.ua_family'] },
      { id: 'databases', missing: ['net.asn', 'net.country'] },
    ]);
  });

  it('of the product’s own format is everything', async () => {
    const own = (await loadUsedSources()).find(({ source }) => source.id === 'grantscope');
    expect(own?.use.blind).toEqual([]);
    expect(own?.use.not_concerned).toEqual([]);
  });
});
