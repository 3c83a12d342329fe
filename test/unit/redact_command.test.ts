import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import command from '../../cli/commands/redact.ts';
import type { CliContext } from '../../cli/define_command.ts';
import { createExplainer, explainRecord } from '../../collector/explain/explain_record.ts';
import { loadSources } from '../../collector/registry.ts';
import type { SourceDefinition } from '../../model/define_source.ts';
import { loadConfig } from '../../runtime/config.ts';
import { KeyRing } from '../../runtime/keyring.ts';
import { RedactionSettings } from '../../runtime/redaction_settings.ts';
import { temporaryFolder, TEST_KEY } from '../harness.ts';

const folder = temporaryFolder();
let sources: ReadonlyMap<string, SourceDefinition>;
beforeAll(async () => {
  sources = await loadSources();
});
afterAll(() => folder.remove());

/** Assembled, so that no scanner takes this file for a leak. */
const PASSWORD = ['hunt', 'er2', '77'].join('');
const OPAQUE = ['aB3xY9kLm2', 'Qw7Zr5Tn8Vc', '4Ds6Fg1Hj0'].join('');

async function run(
  content: string,
  ...options: string[]
): Promise<{ text: string; json: unknown }> {
  const file = join(folder.path, 'records');
  writeFileSync(file, content);
  let printed: { text: string; json: unknown } | undefined;
  const cli = {
    config: () => loadConfig({}),
    print: (result: { text: string; json: unknown }) => {
      printed = result;
    },
  } as unknown as CliContext;
  await command
    .build(cli)
    .exitOverride()
    .parseAsync([file, ...options], { from: 'user' });
  return printed!;
}

const keycloak = {
  time: 1_763_900_000_000,
  type: 'LOGIN_ERROR',
  realmId: 'r1',
  clientId: 'web',
  userId: '4f1c1a3e-96a5-4a0b-8a51-0c4c0d6b7e01',
  ipAddress: '203.0.113.7',
  error: `the password is ${PASSWORD}`,
  details: { redirect_uri: `https://app.example/cb?code=${OPAQUE}`, other: OPAQUE },
};

describe('redact --explain', () => {
  it('says of every field what becomes of it, and why', async () => {
    const { text, json } = await run(JSON.stringify(keycloak), '--explain', '--source', 'keycloak');
    const [record] = (json as { records: { events: string[]; fields: unknown[] }[] }).records;
    expect(record!.events).toEqual(['login_failed']);
    expect(record!.fields).toEqual(
      expect.arrayContaining([
        expect.objectContaining({ field: 'clientId', fate: 'kept', stored: 'web' }),
        expect.objectContaining({
          field: 'userId',
          fate: 'hashed',
          shape: 'UUID',
          to: ['subject.ref'],
        }),
        expect.objectContaining({ field: 'ipAddress', fate: 'kept', stored: '203.0.113.7' }),
        expect.objectContaining({
          field: 'error',
          fate: 'scrubbed',
          stored: 'the password is [redacted]',
          why: 'found by: prose',
        }),
        expect.objectContaining({
          field: 'details.redirect_uri',
          fate: 'scrubbed',
          stored: 'https://app.example/cb',
        }),
        {
          field: 'details.other',
          fate: 'dropped',
          shape: `letters and digits, ${OPAQUE.length} characters`,
          to: [],
          why: 'no adapter reads it',
        },
      ]),
    );
    for (const secret of [PASSWORD, OPAQUE, keycloak.userId]) {
      expect(text).not.toContain(secret);
      expect(JSON.stringify(json)).not.toContain(secret);
    }
  });

  it('finds the source by trying, and explains telemetry', async () => {
    const found = await run(JSON.stringify(keycloak));
    expect((found.json as { source: string }).source).toBe('keycloak');
    const attributes = [
      { key: 'enduser.id', value: { stringValue: 'bob' } },
      { key: 'code', value: { stringValue: OPAQUE } },
      { key: 'http.request.header.x-own', value: { stringValue: 'v' } },
    ];
    const logRecords = [
      { timeUnixNano: '1', body: { stringValue: `token ${OPAQUE}` }, attributes },
    ];
    const request = JSON.stringify({ resourceLogs: [{ scopeLogs: [{ logRecords }] }] });
    const { text } = await run(request);
    expect(text.split('\n').map((l) => l.replace(/ +/g, ' ').trim())).toEqual([
      '1 rows of otel_logs',
      'hashed enduser.id (letters and digits, 3 characters); names a person, a session or an address; becomes a reference by the hash key',
      'scrubbed (name, message or body) (text, 37 characters): "token [redacted]"; found by: prose, random',
      `dropped code (letters and digits, 31 characters); its name is that of a secret`,
      'dropped http.request.header.x-own (letters and digits, 1 characters); a header that is not on the list of harmless ones',
      'fields: 0 kept, 0 read, 1 hashed, 1 scrubbed, 2 dropped',
    ]);
  });

  it('says why a record is refused, and what is no record', async () => {
    const { text } = await run(
      `${JSON.stringify({ type: 'X' })}\nnonsense`,
      '--source',
      'keycloak',
    );
    expect(text).toContain('record 0 (keycloak): refused, missing_field: time: is required');
    process.exitCode = 0;
  });

  it.each([
    [
      ['--source', 'nobody'],
      /--source nobody: no such source; known: apisix, auth0, aws_api_gateway/,
    ],
    [['--limit', '0'], /--limit: must be a whole number from 1 to 10000/],
    [[], /no source accepts the first record; say with --source/],
  ])('refuses %j', async (options, message) => {
    await expect(run('nonsense', ...options)).rejects.toThrow(message);
  });
});

describe('an explanation', () => {
  const explainer = createExplainer(
    RedactionSettings.parse({}),
    KeyRing.fromKey(TEST_KEY),
    1_763_900_000_000_000_000n,
  );

  it('shows nothing of a secret, whichever field of whichever source holds it', () => {
    const templates: Readonly<Record<string, unknown>> = {
      keycloak,
      grantscope: {
        time: '2025-11-23T12:00:00Z',
        kind: 'token_issued',
        error: { code: 'x', detail: 'y' },
        client: { id: 'web', name: 'Web' },
        subject: { id: 'bob' },
        redirect_uri: 'https://a.example/cb',
        tokens: [{ role: 'issued', type: 'access', value: 'v' }],
        session: { id: 's' },
        ext: { a: 'b' },
        unknown: 'z',
      },
    };
    const paths: [string, string[]][] = [
      ['keycloak', ['error']],
      ['keycloak', ['userId']],
      ['keycloak', ['details', 'other']],
      ['keycloak', ['details', 'redirect_uri']],
      ['grantscope', ['error', 'detail']],
      ['grantscope', ['subject', 'id']],
      ['grantscope', ['redirect_uri']],
      ['grantscope', ['tokens', '0', 'value']],
      ['grantscope', ['session', 'id']],
      ['grantscope', ['ext', 'a']],
      ['grantscope', ['unknown']],
    ];
    const wraps = ['%s', 'Bearer %s', 'https://a.example/?code=%s', '{"access_token":"%s"}'];
    fc.assert(
      fc.property(fc.constantFrom(...paths), fc.constantFrom(...wraps), (place, wrap) => {
        const [id, path] = place;
        const value = structuredClone(templates[id]) as Record<string, unknown>;
        let at: Record<string, unknown> = value;
        for (const key of path.slice(0, -1)) at = at[key] as Record<string, unknown>;
        at[path.at(-1)!] = wrap.replace('%s', OPAQUE);
        const explained = explainRecord(sources.get(id)!, { form: 'json', value }, 0, explainer);
        expect(explained.refused).toBeUndefined();
        expect(JSON.stringify(explained)).not.toContain(OPAQUE.slice(0, 12));
      }),
    );
  });
});
