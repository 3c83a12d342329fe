import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { loadSlos } from '../alerts/registry.ts';
import { loadSources } from '../collector/registry.ts';
import { loadDetectors } from '../detectors/registry.ts';
import type { SourceDefinition } from '../model/define_source.ts';
import { packageRoot } from '../runtime/paths.ts';
import { useOf, type SourceUse } from './source_coverage.ts';

/** Headings that the hand-written part of each page has, in this order. */
export const PAGE_HEADINGS = [
  '## Connect',
  "## Settings on the vendor's side",
  '## What is seen',
  '## What cannot be seen',
  '## Notes',
] as const;

const BEGIN = '<!-- generated -->';
const END = '<!-- end generated -->';

/** A source and what it can be used for. */
export interface UsedSource {
  readonly source: SourceDefinition;
  readonly use: SourceUse;
  /** Titles of detectors by id. */
  readonly titles: ReadonlyMap<string, string>;
}

/** All sources with their use, by id. */
export async function loadUsedSources(): Promise<readonly UsedSource[]> {
  const [sources, rules, slos] = [await loadSources(), await loadDetectors(), await loadSlos()];
  const titles = new Map(rules.map((r) => [r.id, r.title]));
  return [...sources.values()].map((source) => ({
    source,
    use: useOf(source, rules, slos),
    titles,
  }));
}

/**
 * The pages `docs/sources/{id}.md` with their generated part brought up to date: it stands between two marks, or at the end
 * of a page that has none yet. A source without a page is left out: what a generated part alone says is no page.
 */
export async function renderSourcePages(): Promise<Record<string, string>> {
  const pages: Record<string, string> = {};
  for (const used of await loadUsedSources()) {
    const path = `docs/sources/${used.source.id}.md`;
    const body = readPage(path);
    if (body !== undefined) pages[path] = withGenerated(body, generatedPart(used));
  }
  return pages;
}

function readPage(path: string): string | undefined {
  try {
    return readFileSync(join(packageRoot, path), 'utf8');
  } catch {
    return undefined;
  }
}

/** `body` with `part` between the marks, whatever stood there. */
export function withGenerated(body: string, part: string): string {
  const begin = body.indexOf(BEGIN);
  const end = body.indexOf(END);
  const before = begin < 0 ? body : body.slice(0, begin);
  const after = end < 0 ? '' : body.slice(end + END.length).trim();
  const text = `${before.trimEnd()}\n\n${BEGIN}\n\n${part}\n\n${END}\n`;
  return after === '' ? text : `${text}\n${after}\n`;
}

const CONFIRMED: Readonly<Record<SourceDefinition['confirmed_by'], string>> = {
  real_server: 'records of a real server, which the tests start',
  real_samples: "records that real systems wrote, from the vendor's and public collections",
  documents: "the vendor's documents alone",
};

/** The place of a heading in a page, as GitHub names it. */
function anchorOf(heading: string): string {
  return heading
    .toLowerCase()
    .replace(/[^\p{L}\p{N}\s_-]/gu, '')
    .replace(/\s/g, '-');
}

function generatedPart({ source, use, titles }: UsedSource): string {
  const rule = (id: string): string =>
    `[\`${id}\`](../reference/detectors.md#${anchorOf(titles.get(id) ?? id)})`;
  const codes = (names: readonly string[]): string => names.map((n) => `\`${n}\``).join(', ');
  const lines = [
    '## At a glance',
    '',
    'From the definitions, by `npm run generate`: by fields and kinds of events alone. Where the text above says more of a rule, it knows better.',
    '',
    `- **Send to** \`POST /v1/events/${source.id}\`: ${formsOf(source)}; or import files with \`grantscope import --source ${source.id} FILE...\`; or put a record into the body of an OTLP log record with the attribute \`grantscope.source\` = \`${source.id}\`.`,
    `- **Confirmed by** ${CONFIRMED[source.confirmed_by]}.`,
    `- **Kinds of events** (${source.kinds?.length ?? 'all'}): ${source.kinds === undefined ? 'all of them' : codes(source.kinds)}.`,
    `- **Fields** (${source.provides.length}): ${codes(source.provides)}.`,
    `- **SLIs**: ${use.slis.length === 0 ? 'none' : codes(use.slis)}.`,
    `- **Detectors that work** (${use.works.length}): ${use.works.map(rule).join(', ') || 'none'}.`,
  ];
  if (use.works_with_databases.length > 0)
    lines.push(
      `- **Detectors that work with databases of networks** ([enrichment](../enrichment.md)): ${use.works_with_databases.map(rule).join(', ')}.`,
    );
  if (use.blind.length > 0)
    lines.push(
      `- **Detectors that are blind** (${use.blind.length}), and for want of which field, or why else:`,
      ...use.blind.map(({ id, missing, reason }) => `  - ${rule(id)}: ${reason ?? codes(missing)}`),
    );
  return lines.join('\n');
}

/** How bodies of a source may be cut into records. */
export function formsOf({ forms }: SourceDefinition): string {
  return forms
    .map((f) => (f === 'json' ? 'JSON (lines, an array, one object)' : 'lines of text'))
    .join(' or ');
}
