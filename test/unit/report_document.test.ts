// How: text that would be markup anywhere goes through both forms, and must come out as the text that it is.
import { expect, it } from 'vitest';
import {
  data,
  heading,
  list,
  paragraph,
  table,
  toHtml,
  toMarkdown,
} from '../../cli/report/document.ts';

it('shows data as text in Markdown, also where it holds backticks, bars and line ends', () => {
  const text = toMarkdown([
    heading(2, 'Clients'),
    paragraph('from ', data('<img src=x> **b** [l](javascript:x)'), '.'),
    list([['one ', data('a`b')], [data('``c')]]),
    table(['client', 'n', 'x'], [[data('a|b\\|c\nd <i>'), 3, null]], 'none'),
  ]);
  expect(text).toBe(
    [
      '## Clients',
      '',
      'from `<img src=x> **b** [l](javascript:x)`.',
      '',
      '- one ``a`b``',
      '- ``` ``c ```',
      '',
      '| client | n | x |',
      '|---|---|---|',
      '| `a\\u{007c}b\\\\u{007c}c\\u{000a}d <i>` | 3 | - |',
      '',
    ].join('\n'),
  );
});

it('writes out characters that hide or turn text, and cuts what is long', () => {
  const shown = (text: string): string => toMarkdown([paragraph(data(text))]).trimEnd();
  expect(shown('a\u202eb\u200bc\u00a0d\u001b[31m\ufe0f\u{e0041}')).toBe(
    '`a\\u{202e}b\\u{200b}c\\u{00a0}d\\u{001b}[31m\\u{fe0f}\\u{e0041}`',
  );
  expect(shown('\ud800x')).toBe('`\\u{d800}x`');
  expect(shown('Größe 例')).toBe('`Größe 例`');
  expect(shown('x'.repeat(301))).toBe(`\`${'x'.repeat(300)}...\``);
  expect(shown('x'.repeat(300))).toBe(`\`${'x'.repeat(300)}\``);
  expect(shown('  ')).toBe('-');
});

it('says in words that a table is empty', () => {
  expect(toMarkdown([table(['a'], [], 'Nothing.')])).toBe('Nothing.\n');
  expect(toHtml('t', [table(['a'], [], 'Nothing.')])).toContain('<p>Nothing.</p>');
});

it('escapes everything in HTML and forbids scripts', () => {
  const html = toHtml('A & B', [table(['x'], [[data(`<script>"'&</script>\u202e`)]], '')]);
  expect(html).toContain(
    '<td><code>&lt;script&gt;&quot;&#39;&amp;&lt;/script&gt;\\u{202e}</code></td>',
  );
  expect(html).toContain('<title>A &amp; B</title>');
  expect(html).toContain(`default-src 'none'`);
  expect(html).not.toContain('<script');
});
