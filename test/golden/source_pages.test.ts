import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { cutRecords } from '../../collector/receivers/cut_records.ts';
import { loadSources } from '../../collector/registry.ts';
import { packageRoot } from '../../runtime/paths.ts';
import { eventsOf } from './run_source.ts';

/** What the pages of sources show to be typed is accepted as it stands there. */
const sources = await loadSources();
const pageOf = (id: string): string =>
  readFileSync(join(packageRoot, 'docs', 'sources', `${id}.md`), 'utf8');
const PAGES = [
  ...['apisix', 'aws_api_gateway', 'client_inventory', 'envoy', 'grantscope', 'keycloak', 'kong'],
  ...['nginx', 'oauth2_proxy', 'oidc_provider', 'otlp', 'traefik'],
];

describe.each(PAGES)('the page of %s', (id) => {
  it('has its parts in their order, and names the address and the command', () => {
    const page = pageOf(id);
    const headings = [...page.matchAll(/^#{1,2} .*$/gm)].map((m) => m[0]);
    expect(headings.slice(1, 6)).toEqual([
      ...['## Connect', "## Settings on the vendor's side", '## What is seen'],
      ...['## What cannot be seen', '## Notes'],
    ]);
    expect(page).toMatch(new RegExp(`grantscope (?:import --source ${id}|clients import) `));
    expect(page).toContain(id === 'otlp' ? '/v1/events/otlp' : `127.0.0.1:4318/v1/events/${id}`);
  });
});

describe('examples', () => {
  it.each([
    ['client_inventory', [['client_updated', 'success', 'web', 0]]],
    ['grantscope', [['token_refreshed', 'success', 'web', 2]]],
    ['oidc_provider', [['token_issued', 'success', 'web', 1]]],
  ])('of %s is what it says', (id, told) => {
    const source = sources.get(id)!;
    const body = /--data '([\s\S]*?)'\n/.exec(pageOf(id))?.[1] ?? '';
    const events = [...cutRecords(Buffer.from(body), source)].flatMap((cut) => {
      if (!cut.ok) throw new Error(cut.message);
      return eventsOf(source, cut.record);
    });
    expect(events.map((e) => [e.kind, e.outcome, e.client.id, e.tokens.length])).toEqual(told);
  });

  it.each([
    ['apisix', 'api_accessed'],
    ['aws_api_gateway', 'api_accessed'],
  ])('of %s: a record by its log format is read', (id, kind) => {
    const source = sources.get(id)!;
    const format = JSON.parse(/```json\n([\s\S]*?)```/.exec(pageOf(id))?.[1] ?? '') as object;
    const values: Record<string, string> = {
      $status: '200',
      $time_iso8601: '2026-01-01T00:00:00+00:00',
      '$context.status': '200',
      '$context.requestTimeEpoch': '1767225600123',
    };
    const record = Object.fromEntries(
      Object.entries(format).map(([k, v]) => [k, values[String(v)] ?? '-']),
    );
    const asked = id === 'apisix' ? { request_uri: '/a' } : { httpMethod: 'GET' };
    const events = eventsOf(source, { form: 'json', value: { ...record, ...asked } });
    expect(events.map((e) => [e.kind, e.outcome, e.http.status])).toEqual([[kind, 'success', 200]]);
  });

  it('of envoy: every member of the log format is known to the adapter', () => {
    const names = [...pageOf('envoy').matchAll(/^ {10}(\w+): '%/gm)].map((m) => m[1] ?? '');
    const code = readFileSync(join(packageRoot, 'collector', 'sources', 'envoy.ts'), 'utf8');
    expect(names).toHaveLength(18);
    expect(names.filter((name) => !new RegExp(`'${name}'`).test(code))).toEqual([]);
  });

  it('of otlp: the attributes of the log record make an event', () => {
    const body = /--data '([\s\S]*?)'\n/.exec(pageOf('otlp'))?.[1] ?? '';
    const { resourceLogs } = JSON.parse(body) as { resourceLogs: Logs[] };
    const [record] = resourceLogs[0]?.scopeLogs[0]?.logRecords ?? [];
    const attributes = Object.fromEntries(
      (record?.attributes ?? []).map(({ key, value }) => [key, value.stringValue]),
    );
    const value = { attributes, time_unix_nano: record?.timeUnixNano };
    const events = eventsOf(sources.get('otlp')!, { form: 'json', value });
    expect(events.map((e) => [e.kind, e.outcome, e.client.id, e.time])).toEqual([
      ['token_issued', 'success', 'web', 1_767_225_600_000_000_000n],
    ]);
  });
});

interface Logs {
  readonly scopeLogs: readonly {
    readonly logRecords: readonly {
      readonly timeUnixNano: string;
      readonly attributes: readonly { key: string; value: { stringValue: string } }[];
    }[];
  }[];
}
