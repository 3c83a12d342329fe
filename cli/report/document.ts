/**
 * A document as blocks, before it is Markdown or HTML. What comes from events (client ids, scopes, addresses) is `data`: it is
 * shown as the text that it is, whatever stands in it. Plain strings are the program's own words.
 */
export interface Data {
  readonly data: string;
}
/** `null` is shown as a dash: not known, or nothing to compare with. */
export type Cell = string | number | null | Data;

/** One part of a document. */
export type Block =
  | { readonly form: 'heading'; readonly level: 1 | 2 | 3; readonly text: string }
  | { readonly form: 'paragraph'; readonly parts: readonly Cell[] }
  | { readonly form: 'list'; readonly items: readonly (readonly Cell[])[] }
  | {
      readonly form: 'table';
      readonly head: readonly string[];
      readonly rows: readonly (readonly Cell[])[];
      /** Said instead of a table without rows. */
      readonly empty: string;
    };

/** Text from outside. */
export function data(text: string): Data {
  return { data: text };
}

export function heading(level: 1 | 2 | 3, text: string): Block {
  return { form: 'heading', level, text };
}

/** One paragraph; its parts follow each other without a space. */
export function paragraph(...parts: readonly Cell[]): Block {
  return { form: 'paragraph', parts };
}

export function list(items: readonly (readonly Cell[])[]): Block {
  return { form: 'list', items };
}

export function table(
  head: readonly string[],
  rows: readonly (readonly Cell[])[],
  empty: string,
): Block {
  return { form: 'table', head, rows, empty };
}

/** Longest data in a document, characters; JSON has it whole. */
const DATA_LENGTH_MAX = 300;

/** Control, format and unassigned characters, half pairs, and spaces other than the plain one. */
const UNSEEN = /[\p{C}\p{Z}]/u;
/** Letters and marks that show nothing (Unicode: Default_Ignorable_Code_Point), and the blank of Braille. */
const IGNORABLE = /[\p{DI}\u2800]/u;

/** Characters that hide or reorder text are written out, so that what is read is what is there. */
function visible(text: string, alsoHidden?: string): string {
  const chars = Array.from(text);
  const shown = chars.slice(0, DATA_LENGTH_MAX).map((char) => {
    const isPlain = !UNSEEN.test(char) && !IGNORABLE.test(char) && char !== alsoHidden;
    return isPlain || char === ' '
      ? char
      : `\\u{${(char.codePointAt(0) ?? 0).toString(16).padStart(4, '0')}}`;
  });
  return `${shown.join('')}${chars.length > DATA_LENGTH_MAX ? '...' : ''}`;
}

/** A cell as plain text. */
function cellText(cell: Cell, alsoHidden?: string): string {
  if (cell === null) return '-';
  if (typeof cell === 'number') return String(cell);
  return typeof cell === 'string' ? cell : visible(cell.data, alsoHidden);
}

/**
 * Data stands in a code span, in which nothing is markup (CommonMark 0.31 section 6.1). A table would end its cell at a bar, and how a bar behind a
 * backslash is read differs, so that it is written out.
 */
function markdownCell(cell: Cell, inTable: boolean): string {
  if (typeof cell !== 'object' || cell === null) return cellText(cell);
  const text = cellText(cell, inTable ? '|' : undefined);
  if (text.trim() === '') return '-';
  const runs = [...text.matchAll(/`+/g)].map((m) => m[0].length);
  const fence = '`'.repeat(Math.max(0, ...runs) + 1);
  const pad = text.startsWith('`') || text.endsWith('`') ? ' ' : '';
  return `${fence}${pad}${text}${pad}${fence}`;
}

function markdownBlock(block: Block): string {
  const line = (cells: readonly Cell[], glue: string, inTable = false): string =>
    cells.map((c) => markdownCell(c, inTable)).join(glue);
  switch (block.form) {
    case 'heading':
      return `${'#'.repeat(block.level)} ${block.text}`;
    case 'paragraph':
      return line(block.parts, '');
    case 'list':
      return block.items.map((item) => `- ${line(item, '')}`).join('\n');
    case 'table': {
      if (block.rows.length === 0) return block.empty;
      const rows = block.rows.map((r) => `| ${line(r, ' | ', true)} |`);
      return [
        `| ${block.head.join(' | ')} |`,
        `|${block.head.map(() => '---').join('|')}|`,
        ...rows,
      ].join('\n');
    }
  }
}

/** CommonMark with the tables of GitHub. */
export function toMarkdown(blocks: readonly Block[]): string {
  return `${blocks.map(markdownBlock).join('\n\n')}\n`;
}

const ENTITIES: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
};

function escaped(text: string): string {
  return text.replace(/[&<>"']/g, (char) => ENTITIES[char] ?? '');
}

function htmlCell(cell: Cell): string {
  const text = escaped(cellText(cell));
  return typeof cell === 'object' && cell !== null ? `<code>${text}</code>` : text;
}

function htmlBlock(block: Block): string {
  const join = (cells: readonly Cell[]): string => cells.map(htmlCell).join('');
  switch (block.form) {
    case 'heading':
      return `<h${block.level}>${escaped(block.text)}</h${block.level}>`;
    case 'paragraph':
      return `<p>${join(block.parts)}</p>`;
    case 'list':
      return `<ul>${block.items.map((item) => `<li>${join(item)}</li>`).join('')}</ul>`;
    case 'table': {
      if (block.rows.length === 0) return `<p>${escaped(block.empty)}</p>`;
      const head = block.head.map((h) => `<th scope="col">${escaped(h)}</th>`).join('');
      const rows = block.rows.map(
        (row) => `<tr>${row.map((c) => `<td>${htmlCell(c)}</td>`).join('')}</tr>`,
      );
      return `<table><thead><tr>${head}</tr></thead><tbody>\n${rows.join('\n')}\n</tbody></table>`;
    }
  }
}

const STYLE = `body{font:14px/1.45 system-ui,sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem;color:#111;background:#fff}
table{border-collapse:collapse;width:100%;margin:.5rem 0 1rem}
th,td{border:1px solid #999;padding:.25rem .5rem;text-align:left;vertical-align:top;overflow-wrap:anywhere}
th{background:#eee}
code{font:12px/1.4 ui-monospace,monospace;white-space:pre-wrap;unicode-bidi:isolate}
@media print{body{margin:0;max-width:none}h2{break-after:avoid}tr{break-inside:avoid}thead{display:table-header-group}}`;

/** One page that loads nothing, runs nothing, and prints well. */
export function toHtml(title: string, blocks: readonly Block[]): string {
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escaped(title)}</title>
<style>
${STYLE}
</style>
</head>
<body>
${blocks.map(htmlBlock).join('\n')}
</body>
</html>
`;
}
