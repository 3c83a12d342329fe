import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { useOf, withReasons } from '../../cli/source_coverage.ts';
import {
  loadUsedSources,
  PAGE_HEADINGS,
  renderSourcePages,
  withGenerated,
} from '../../cli/source_pages.ts';
import { loadSources } from '../../collector/registry.ts';
import { loadDetectors } from '../../detectors/registry.ts';
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

  it('is not what the adapter says it cannot be, and says why', () => {
    const source = {
      ...{ kinds: ['api_accessed'] as const, provides },
      blind_for: { plain: 'names are masked', elsewhere: 'x', both: 'no grants' },
    };
    const use = useOf(source, rules, slos);
    expect([use.works, use.not_concerned]).toEqual([['derived'], ['elsewhere']]);
    expect(use.blind.slice(0, 2)).toEqual([
      { id: 'plain', missing: [], reason: 'names are masked' },
      { id: 'both', missing: ['net.asn', 'grant_ref'], reason: 'no grants' },
    ]);
  });

  it('is the same for stored events', () => {
    const covered = { events: 500, missing: [], fields: [] };
    const rule = {
      ...{ rule_id: 'plain', state: 'sees' as const },
      sources: [
        { ...covered, source_id: 'masked', state: 'sees' as const },
        { ...covered, source_id: 'silent', state: 'no_events' as const },
      ],
    };
    const masked = { blind_for: { plain: 'names are masked' } };
    const named = new Map(Object.entries({ masked, silent: masked }));
    expect(withReasons(rule, named)).toEqual({
      ...{ rule_id: 'plain', state: 'blind' },
      sources: [
        { ...rule.sources[0], state: 'blind', reason: 'names are masked' },
        rule.sources[1],
      ],
    });
    const more = { ...covered, source_id: 'open', state: 'sees' as const };
    const both = withReasons({ ...rule, sources: [...rule.sources, more] }, named);
    expect([both.state, both.sources[2]]).toEqual(['sees', more]);
    expect(withReasons(rule, new Map())).toEqual(rule);
  });

  it('is denied for rules that there are, and that the source has events for', async () => {
    const detectors = await loadDetectors();
    for (const { blind_for: denied, ...source } of sources.values()) {
      const { works, blind } = useOf(source, detectors, []);
      const concerned = [...works, ...blind.map(({ id }) => id)];
      for (const id of Object.keys(denied ?? {}))
        expect([source.id, id, concerned.includes(id)]).toEqual([source.id, id, true]);
    }
  });

  it('agrees with what people wrote on the page', async () => {
    const rules: [string, string][] = [];
    for (const { source, use } of await loadUsedSources()) {
      const page = readFileSync(join(packageRoot, 'docs', 'sources', `${source.id}.md`), 'utf8');
      const sentences = (page.split('<!-- generated -->')[0] ?? '').split(/[.:](?=\s)|\n- /);
      // What hangs on a setting of the vendor's is no matter of the adapter.
      const said = sentences.filter(
        (s) => /\b(?:is|are) blind$/.test(s) && !/unless|without/i.test(s),
      );
      for (const id of said.flatMap((s) => s.match(/[a-z]+(?:_[a-z]+)+/g) ?? [])) {
        rules.push([source.id, id]);
        expect([source.id, id, use.works.includes(id)]).toEqual([source.id, id, false]);
      }
    }
    expect(rules).toContainEqual(['okta', 'refresh_family_fork']);
    expect(rules).toContainEqual(['entra', 'refresh_token_reuse']);
    expect(rules).toContainEqual(['auth0', 'code_redeemed_twice']);
  });

  it('of the product’s own format is everything', async () => {
    const own = (await loadUsedSources()).find(({ source }) => source.id === 'grantscope');
    expect(own?.use.blind).toEqual([]);
    expect(own?.use.not_concerned).toEqual([]);
  });
});
