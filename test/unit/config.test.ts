import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { isLoopback, loadConfig } from '../../runtime/config.ts';
import { temporaryFolder } from '../harness.ts';

const folders: { remove: () => void }[] = [];
afterEach(() => folders.splice(0).forEach((f) => f.remove()));

function yamlFile(content: string): string {
  const folder = temporaryFolder();
  folders.push(folder);
  const file = join(folder.path, 'grantscope.yaml');
  writeFileSync(file, content);
  return file;
}

const messageOf = (env: Record<string, string>): string => {
  try {
    loadConfig(env);
  } catch (error) {
    return (error as Error).message;
  }
  return 'accepted';
};

describe('loadConfig', () => {
  it('has defaults for everything, on loopback', () => {
    const config = loadConfig({});
    expect(config.collectorListen).toEqual({ host: '127.0.0.1', port: 4318 });
    expect(config.apiListen).toEqual({ host: '127.0.0.1', port: 7400 });
    expect(config.clickhouse).toBeUndefined();
    expect(config.redaction).toEqual({
      extra_keys: [],
      allowed_keys: [],
      patterns: [],
      client_ip: 'keep',
    });
    expect(config.retention).toEqual({
      events_days: 90,
      traces_days: 14,
      findings_days: 730,
      dead_letters_days: 30,
    });
    expect(config.tenant).toBe('default');
  });

  it('takes an empty variable for an absent one', () => {
    expect(loadConfig({ CLICKHOUSE_URL: '' }).clickhouse).toBeUndefined();
  });

  it.each([
    [
      { GRANTSCOPE_COLLECTOR_LISTEN: '4318' },
      'environment: GRANTSCOPE_COLLECTOR_LISTEN: must be host:port, for instance 127.0.0.1:4318',
    ],
    [
      { GRANTSCOPE_API_LISTEN: '127.0.0.1:70000' },
      'environment: GRANTSCOPE_API_LISTEN: the port must be at most 65535',
    ],
    [
      { CLICKHOUSE_URL: 'tcp://db:9000' },
      'environment: CLICKHOUSE_URL: must be an http or https URL',
    ],
    [
      { GRANTSCOPE_HASH_KEY: 'short' },
      'environment: GRANTSCOPE_HASH_KEY: must be at least 32 characters of random text',
    ],
    [
      { GRANTSCOPE_SEGMENT_ROWS_MAX: '0' },
      'environment: GRANTSCOPE_SEGMENT_ROWS_MAX: Too small: expected number to be >=1',
    ],
  ])('refuses %j with the key and what is allowed', (env, message) => {
    expect(messageOf(env as Record<string, string>)).toBe(message);
  });

  it('never repeats a refused hash key', () => {
    expect(messageOf({ GRANTSCOPE_HASH_KEY: 'a-secret-that-is-short' })).not.toContain('a-secret');
  });

  it('refuses a misspelt variable, with the known ones', () => {
    expect(messageOf({ GRANTSCOPE_DATADIR: '/x' })).toMatch(
      /^environment: unknown GRANTSCOPE_DATADIR; allowed: GRANTSCOPE_DATA_DIR, /,
    );
  });

  it.each(['0.0.0.0:4318', '[::]:4318', '192.0.2.1:80', 'example.test:80'])(
    'refuses to listen on %s, which others can reach',
    (listen) => {
      expect(messageOf({ GRANTSCOPE_API_LISTEN: listen })).toMatch(
        /^environment: GRANTSCOPE_API_LISTEN: .* can be reached by others, and this version has no authentication/,
      );
    },
  );

  it.each(['127.0.0.1:1', '127.8.9.1:1', '[::1]:1', 'localhost:1'])('listens on %s', (listen) => {
    expect(messageOf({ GRANTSCOPE_API_LISTEN: listen })).toBe('accepted');
  });

  it('reads grantscope.yaml and names a wrong key by its path', () => {
    const good = yamlFile(
      'clients:\n  - client_id: web\n    scope: openid orders:read\nretention: { events_days: 7 }\n',
    );
    expect(loadConfig({ GRANTSCOPE_CONFIG: good }).clients).toEqual([
      { client_id: 'web', scope: 'openid orders:read' },
    ]);
    expect(loadConfig({ GRANTSCOPE_CONFIG: good }).retention.events_days).toBe(7);
    const bad = yamlFile('slos:\n  token_issuance_success: { objective: 99.9 }\n');
    expect(messageOf({ GRANTSCOPE_CONFIG: bad })).toBe(
      `${bad}: slos.token_issuance_success.objective: Too big: expected number to be <1`,
    );
    const unknown = yamlFile('retentoin: {}\n');
    expect(messageOf({ GRANTSCOPE_CONFIG: unknown })).toBe(
      `${unknown}: (top level): Unrecognized key: "retentoin"`,
    );
    const broken = yamlFile('clients: [\n');
    expect(messageOf({ GRANTSCOPE_CONFIG: broken })).toContain(broken);
    expect(messageOf({ GRANTSCOPE_CONFIG: '/nowhere/grantscope.yaml' })).toBe(
      'GRANTSCOPE_CONFIG: no file at /nowhere/grantscope.yaml',
    );
  });

  it('reads databases of networks and all that a client may be stated with', () => {
    const config = (text: string) => loadConfig({ GRANTSCOPE_CONFIG: yamlFile(text) });
    expect(config('{}\n').enrichment).toEqual({});
    expect(config('enrichment: { asn_database: /db/asn.mmdb }\n').enrichment).toEqual({
      asn_database: '/db/asn.mmdb',
    });
    const wrong = yamlFile('enrichment: { asn: /db/asn.mmdb, location_database: "" }\n');
    expect(messageOf({ GRANTSCOPE_CONFIG: wrong })).toBe(
      `${wrong}: enrichment.location_database: Too small: expected string to have >=1 characters; enrichment: Unrecognized key: "asn"`,
    );
    const client = {
      client_id: 'web',
      response_types: ['code'],
      client_type: 'confidential',
      jwks_kids: ['k1'],
      has_secret: false,
      client_id_issued_at: 1_700_000_000,
    };
    expect(config(`clients: [${JSON.stringify(client)}]\n`).clients).toEqual([client]);
    const odd = yamlFile('clients: [{ client_id: web, client_type: secret }]\n');
    expect(messageOf({ GRANTSCOPE_CONFIG: odd })).toBe(
      `${odd}: clients.0.client_type: Invalid option: expected one of "public"|"confidential"`,
    );
  });
});

describe('isLoopback', () => {
  it('does not take a name for an address', () => {
    expect(isLoopback('127.example.test')).toBe(false);
    expect(isLoopback('localhost.example.test')).toBe(false);
    expect(isLoopback('127.0.0.1')).toBe(true);
  });
});
