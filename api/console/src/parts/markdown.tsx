import type { ComponentChildren, JSX } from 'preact';

/**
 * A small, safe Markdown: headings, lists, fenced code, paragraphs, tables as text, `code`, **bold** and
 * links. Everything becomes text nodes; markup in the source stays text.
 */
export function Markdown({ text }: { readonly text: string }): JSX.Element {
  return <div class="prose">{blocks(text)}</div>;
}

function blocks(text: string): JSX.Element[] {
  const lines = text.split('\n');
  const made: JSX.Element[] = [];
  let at = 0;
  const take = (matches: (line: string) => boolean): string[] => {
    const from = at;
    while (at < lines.length && matches(lines[at] ?? '')) at += 1;
    return lines.slice(from, at);
  };
  while (at < lines.length) {
    const line = lines[at] ?? '';
    if (line.trim() === '') at += 1;
    else if (line.startsWith('```')) {
      at += 1;
      const code = take((l) => !l.startsWith('```'));
      at += 1;
      made.push(
        <pre tabIndex={0}>
          <code>{code.join('\n')}</code>
        </pre>,
      );
    } else if (/^#{1,6} /.test(line)) {
      at += 1;
      made.push(heading(line));
    } else if (isItem(line)) made.push(list(take((l) => isItem(l) || /^\s+\S/.test(l))));
    else if (line.startsWith('|'))
      made.push(<pre tabIndex={0}>{take((l) => l.startsWith('|')).join('\n')}</pre>);
    else {
      const own = take((l) => l.trim() !== '' && !/^(#{1,6} |```|\|)/.test(l) && !isItem(l));
      made.push(<p>{inline(own.join(' '))}</p>);
    }
  }
  return made;
}

function isItem(line: string): boolean {
  return /^\s*([-*]|\d+\.) /.test(line);
}

function heading(line: string): JSX.Element {
  const level = /^#+/.exec(line)?.[0].length ?? 1;
  const content = inline(line.replace(/^#+ /, ''));
  if (level === 1) return <h1>{content}</h1>;
  return level === 2 ? <h2>{content}</h2> : <h3>{content}</h3>;
}

function list(lines: readonly string[]): JSX.Element {
  const items: string[] = [];
  for (const line of lines) {
    if (isItem(line)) items.push(line.replace(/^\s*([-*]|\d+\.) /, ''));
    else items.push(`${items.pop() ?? ''} ${line.trim()}`);
  }
  const made = items.map((item, i) => <li key={i}>{inline(item)}</li>);
  return /^\s*\d/.test(lines[0] ?? '') ? <ol>{made}</ol> : <ul>{made}</ul>;
}

const INLINE = /(`[^`]+`|\*\*[^*]+\*\*|\[[^\]]+\]\([^)\s]+\))/;

function inline(text: string): ComponentChildren[] {
  return text.split(INLINE).map((part) => {
    if (/^`.+`$/.test(part)) return <code>{part.slice(1, -1)}</code>;
    if (/^\*\*.+\*\*$/.test(part)) return <strong>{part.slice(2, -2)}</strong>;
    const link = /^\[([^\]]+)\]\(([^)\s]+)\)$/.exec(part);
    if (link === null) return part;
    const [, label = '', to = ''] = link;
    // Other schemes (javascript:, data:) and relative paths lead nowhere from here.
    if (to.startsWith('#/')) return <a href={to}>{label}</a>;
    if (!/^https?:\/\//.test(to)) return `${label} (${to})`;
    return (
      <a href={to} target="_blank" rel="noreferrer noopener">
        {label}
      </a>
    );
  });
}
