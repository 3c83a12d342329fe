/**
 * docker-compose.yml without Docker: its shape against a schema, and that every path, port, secret, volume, address and data
 * source that it and the files it mounts name is really there. Starting the containers is not covered.
 */
import { execFileSync } from 'node:child_process';
import { cpSync, existsSync, readFileSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { Ajv2020 } from 'ajv/dist/2020.js';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { renderAlertmanagerConfig } from '../../alerts/alertmanager_config.ts';
import { CLICKHOUSE_PLUGIN_VERSION } from '../../dashboards/clickhouse_query.ts';
import { loadConfig } from '../../runtime/config.ts';
import { packageRoot } from '../../runtime/paths.ts';
import { temporaryFolder } from '../harness.ts';

const read = (path: string): string => readFileSync(join(packageRoot, path), 'utf8');
const compose = parse(read('docker-compose.yml')) as Compose;

interface Service {
  image: string;
  build?: { context: string; dockerfile: string };
  environment?: Record<string, string>;
  secrets?: string[];
  volumes?: string[];
  ports?: string[];
  depends_on?: Record<string, { condition: string }>;
  network_mode?: string;
  command?: string[];
  profiles?: string[];
  healthcheck: { test: string[] };
}
interface Compose {
  name: string;
  services: Record<string, Service>;
  secrets: Record<string, { file: string }>;
  volumes: Record<string, null>;
}

/** The part of the Compose specification that the file uses, closed: a misspelt key fails. */
const texts = { type: 'array', items: { type: 'string' }, minItems: 1 };
const schema = {
  type: 'object',
  additionalProperties: false,
  required: ['name', 'services', 'secrets', 'volumes'],
  properties: {
    name: { type: 'string', pattern: '^[a-z0-9][a-z0-9_-]*$' },
    services: {
      type: 'object',
      additionalProperties: {
        type: 'object',
        additionalProperties: false,
        required: ['image', 'restart', 'healthcheck'],
        properties: {
          // A version in full: no `latest`, no bare major.
          image: { type: 'string', pattern: '^[a-z0-9./_-]+:v?\\d+\\.\\d+\\.\\d+' },
          build: {
            type: 'object',
            additionalProperties: false,
            required: ['context', 'dockerfile'],
            properties: { context: { type: 'string' }, dockerfile: { type: 'string' } },
          },
          restart: { const: 'unless-stopped' },
          profiles: texts,
          command: texts,
          // Quoted in YAML: an unquoted number or boolean is not what a program reads.
          environment: { type: 'object', additionalProperties: { type: 'string' } },
          secrets: texts,
          volumes: texts,
          ports: {
            type: 'array',
            items: { type: 'string', pattern: '^127\\.0\\.0\\.1:\\d+:\\d+$' },
          },
          network_mode: { type: 'string', pattern: '^service:' },
          depends_on: {
            type: 'object',
            additionalProperties: {
              type: 'object',
              additionalProperties: false,
              required: ['condition'],
              properties: { condition: { const: 'service_healthy' } },
            },
          },
          ulimits: { type: 'object' },
          healthcheck: {
            type: 'object',
            additionalProperties: false,
            required: ['test', 'interval', 'timeout', 'retries'],
            properties: {
              test: texts,
              interval: { type: 'string', pattern: '^\\d+s$' },
              timeout: { type: 'string', pattern: '^\\d+s$' },
              retries: { type: 'integer', minimum: 1 },
            },
          },
        },
      },
    },
    secrets: {
      type: 'object',
      additionalProperties: {
        type: 'object',
        additionalProperties: false,
        required: ['file'],
        properties: { file: { type: 'string', pattern: '^\\./deploy/secrets/[a-z_]+$' } },
      },
    },
    volumes: { type: 'object', additionalProperties: { type: 'null' } },
  },
};

const services = Object.entries(compose.services);
/** Services that share a network namespace, under the name of its owner. */
const namespaceOf = (name: string): string =>
  compose.services[name]?.network_mode?.replace('service:', '') ?? name;

/** Ports that somebody listens on, by namespace: from the files that say so. */
const listening: Record<string, readonly number[]> = {
  clickhouse: [8123],
  kafka: [9092],
  grafana: [3000],
  grantscope: [
    ...[...read('deploy/nginx.conf').matchAll(/listen (\d+);/g)].map((m) => Number(m[1])),
    ...['prometheus', 'alertmanager']
      .flatMap((name) => compose.services[name]?.command ?? [])
      .flatMap((c) => {
        const port = /^--web\.listen-address=(?:127\.0\.0\.1)?:(\d+)$/.exec(c)?.[1];
        return port === undefined ? [] : [Number(port)];
      }),
    ...['GRANTSCOPE_API_LISTEN', 'GRANTSCOPE_COLLECTOR_LISTEN'].map((key) =>
      Number(compose.services['grantscope']?.environment?.[key]?.split(':')[1]),
    ),
  ],
};

describe('docker-compose.yml', () => {
  it('has the shape of a compose file, with versions in full and ports on loopback', () => {
    const validate = new Ajv2020({ allErrors: true }).compile(schema);
    validate(compose);
    expect(validate.errors).toBeNull();
    // The schema does refuse: a port that everybody can reach, and a floating version.
    const open = structuredClone(compose);
    open.services['grafana']!.ports = ['3000:3000'];
    open.services['kafka']!.image = 'apache/kafka:latest';
    validate(open);
    expect(validate.errors?.map((e) => e.instancePath)).toEqual([
      '/services/kafka/image',
      '/services/grafana/ports/0',
    ]);
  });

  it('runs what it must', () => {
    expect(services.map(([name]) => name).sort()).toEqual([
      'alertmanager',
      'clickhouse',
      'grafana',
      'grantscope',
      'kafka',
      'prometheus',
      'proxy',
    ]);
  });

  it.each(services)(
    '%s mounts what is there, uses declared secrets and waits for services',
    (_, s) => {
      for (const volume of s.volumes ?? []) {
        const [from = '', to = ''] = volume.split(':');
        if (from.startsWith('./')) {
          expect(existsSync(join(packageRoot, from)), from).toBe(true);
          expect(volume.endsWith(':ro'), volume).toBe(true);
        } else expect(Object.keys(compose.volumes)).toContain(from);
        expect(to.startsWith('/')).toBe(true);
      }
      for (const secret of s.secrets ?? []) expect(Object.keys(compose.secrets)).toContain(secret);
      for (const other of Object.keys(s.depends_on ?? {}))
        expect(Object.keys(compose.services)).toContain(other);
      if (s.network_mode !== undefined) {
        expect(Object.keys(compose.services)).toContain(s.network_mode.replace('service:', ''));
        // Docker refuses ports on a service that uses another one's network.
        expect(s.ports).toBeUndefined();
      }
      for (const [key, value] of Object.entries(s.environment ?? {})) {
        // No password stands in the file; where a program takes one, it is from a mounted secret.
        if (/PASSWORD|TOKEN/.test(key)) {
          const secret = /^\/run\/secrets\/([a-z_]+)$/.exec(value)?.[1];
          expect(key).toMatch(/_FILE$/);
          expect(s.secrets).toContain(secret);
        }
      }
      expect(s.healthcheck.test[0]).toMatch(/^CMD(-SHELL)?$/);
    },
  );

  it('uses every volume and secret that it declares', () => {
    const mounted = services.flatMap(([, s]) => (s.volumes ?? []).map((v) => v.split(':')[0]));
    for (const volume of Object.keys(compose.volumes)) expect(mounted).toContain(volume);
    const used = services.flatMap(([, s]) => s.secrets ?? []);
    for (const secret of Object.keys(compose.secrets)) expect(used).toContain(secret);
  });

  it('makes every secret by its script, keeps what exists, and prints none', () => {
    const folder = temporaryFolder();
    try {
      cpSync(join(packageRoot, 'deploy', 'make_secrets.sh'), join(folder.path, 'make_secrets.sh'));
      const make = (): string =>
        execFileSync('sh', [join(folder.path, 'make_secrets.sh')], { encoding: 'utf8' });
      const output = make();
      const secrets = join(folder.path, 'secrets');
      expect(statSync(secrets).mode & 0o777).toBe(0o700);
      const contents = (): Record<string, string> =>
        Object.fromEntries(
          readdirSync(secrets).map((f) => [f, readFileSync(join(secrets, f), 'utf8')]),
        );
      const first = contents();
      for (const { file } of Object.values(compose.secrets))
        expect(Object.keys(first)).toContain(file.replace('./deploy/secrets/', ''));
      expect(new Set(Object.values(first)).size).toBe(Object.keys(first).length);
      expect(first['clickhouse_password']).toMatch(/^[0-9a-f]{48}$/);
      expect(first['console_users']).toMatch(/^console:\$apr1\$/);
      for (const value of Object.values(first)) expect(output).not.toContain(value);
      make();
      expect(contents()).toEqual(first);
    } finally {
      folder.remove();
    }
  });

  it('publishes only ports that an authenticating program listens on', () => {
    const published = services.flatMap(([name, s]) =>
      (s.ports ?? []).map((p) => [name, Number(p.split(':')[2])] as const),
    );
    expect(published).toEqual([
      ['grantscope', 8080],
      ['grantscope', 8081],
      ['grafana', 3000],
    ]);
    for (const [name, port] of published) expect(listening[name]).toContain(port);
    // Both servers of the proxy ask for a user before anything else.
    const proxy = read('deploy/nginx.conf');
    const servers = proxy.split(/^ {2}server \{/m).slice(1);
    expect(servers).toHaveLength(2);
    for (const server of servers) {
      const secret = /^ {4}auth_basic_user_file \/run\/secrets\/([a-z_]+);/m.exec(server)?.[1];
      expect(compose.services['proxy']?.secrets).toContain(secret);
      // Open is the health check alone.
      const open = [...server.matchAll(/location (.+) \{\n +auth_basic off;/g)].map((m) => m[1]);
      expect(open).toEqual(['= /healthz']);
    }
  });

  it('gives Grantscope a configuration that it accepts', () => {
    const environment = compose.services['grantscope']?.environment ?? {};
    const config = loadConfig(environment);
    expect(config.apiListen).toEqual({ host: '127.0.0.1', port: 7400 });
    expect(config.collectorListen).toEqual({ host: '127.0.0.1', port: 4318 });
    expect(() => loadConfig({ ...environment, GRANTSCOPE_API_LISTEN: '0.0.0.0:7400' })).toThrow(
      /can be reached by others/,
    );
  });

  it('tells Grantscope what Alertmanager sent, at an address and with a token that both have', () => {
    const { receivers } = parse(renderAlertmanagerConfig()) as {
      receivers: {
        webhook_configs?: {
          url: string;
          http_config?: { authorization: { credentials_file: string } };
        }[];
      }[];
    };
    const own = receivers
      .flatMap((r) => r.webhook_configs ?? [])
      .filter((w) => w.http_config !== undefined);
    expect(own).toHaveLength(4);
    const environment = compose.services['grantscope']?.environment ?? {};
    for (const { url, http_config } of own) {
      const file = http_config?.authorization.credentials_file ?? '';
      expect(environment['GRANTSCOPE_ALERTMANAGER_TOKEN_FILE']).toBe(file);
      const secret = file.replace('/run/secrets/', '');
      for (const name of ['grantscope', 'alertmanager'])
        expect(compose.services[name]?.secrets).toContain(secret);
      const { host, pathname } = new URL(url);
      expect(host).toBe(environment['GRANTSCOPE_API_LISTEN']);
      expect(pathname).toBe('/api/v1/alertmanager/notifications');
    }
    // Alertmanager reaches it on loopback because it lives in the same namespace.
    expect(namespaceOf('alertmanager')).toBe('grantscope');
    const url = new URL(environment['ALERTMANAGER_URL'] ?? '');
    expect([url.hostname, listening['grantscope']]).toEqual([
      '127.0.0.1',
      expect.arrayContaining([Number(url.port)]),
    ]);
  });

  it('starts Kafka on request only, for as long as Grantscope does not take it', () => {
    const environment = compose.services['grantscope']?.environment ?? {};
    expect(Object.keys(environment)).not.toContain('KAFKA_BROKERS');
    const inProfiles = services.filter(([, s]) => s.profiles !== undefined).map(([name]) => name);
    expect(inProfiles).toEqual(['kafka']);
    // A service that always runs must not wait for one that does not.
    for (const [, s] of services) expect(Object.keys(s.depends_on ?? {})).not.toContain('kafka');
  });

  it('names addresses at which somebody listens', () => {
    const addresses: [namespace: string, port: number, where: string][] = [];
    const add = (from: string, host: string, port: string, where: string): void => {
      const isOwn = host === '127.0.0.1' || host === 'localhost';
      addresses.push([isOwn ? namespaceOf(from) : host, Number(port), where]);
    };
    for (const [name, s] of services) {
      const urls = Object.entries(s.environment ?? {}).filter(
        ([key]) => /_URL$/.test(key) && key !== 'GRANTSCOPE_PUBLIC_URL',
      );
      for (const [key, value] of urls) {
        const [, host = '', port = ''] = /^(?:https?:\/\/)?([a-z0-9.]+):(\d+)/.exec(value) ?? [];
        add(name, host, port, key);
      }
      for (const m of s.healthcheck.test.join(' ').matchAll(/(127\.0\.0\.1|localhost):(\d+)/g))
        add(name, m[1] ?? '', m[2] ?? '', `${name} healthcheck`);
    }
    const prometheus = parse(read('deploy/prometheus.yml')) as {
      alerting: { alertmanagers: { static_configs: { targets: string[] }[] }[] };
      scrape_configs: { static_configs: { targets: string[] }[] }[];
    };
    for (const target of [
      ...prometheus.alerting.alertmanagers.flatMap((a) => a.static_configs),
      ...prometheus.scrape_configs.flatMap((s) => s.static_configs),
    ].flatMap((s) => s.targets))
      add('prometheus', target.split(':')[0] ?? '', target.split(':')[1] ?? '', target);
    for (const m of read('deploy/nginx.conf').matchAll(/proxy_pass http:\/\/([\d.]+):(\d+);/g))
      add('proxy', m[1] ?? '', m[2] ?? '', 'proxy_pass');
    expect(addresses.length).toBeGreaterThan(10);
    for (const [namespace, port, where] of addresses)
      expect(listening[namespace], where).toContain(port);
  });
});

interface Datasources {
  datasources: {
    uid: string;
    type: string;
    url?: string;
    jsonData: { host?: string; port?: number; username?: string };
    secureJsonData?: { password: string };
  }[];
}

describe('Grafana provisioning', () => {
  const { datasources } = parse(
    read('dashboards/provisioning/datasources/grantscope.yml'),
  ) as Datasources;

  it('has one data source of each type that a board can choose, at addresses that are there', () => {
    const wanted = new Set<string>();
    for (const file of readdirSync(join(packageRoot, 'dashboards', 'generated'))) {
      const board = JSON.parse(read(`dashboards/generated/${file}`)) as {
        templating: { list: { type: string; query: string }[] };
      };
      for (const v of board.templating.list) if (v.type === 'datasource') wanted.add(v.query);
    }
    expect(datasources.map((d) => d.type).sort()).toEqual([...wanted].sort());
    expect(new Set(datasources.map((d) => d.uid)).size).toBe(datasources.length);
    for (const { url, jsonData } of datasources) {
      const { hostname, port } =
        url === undefined
          ? { hostname: jsonData.host ?? '', port: String(jsonData.port) }
          : new URL(url);
      expect(listening[hostname]).toContain(Number(port));
    }
  });

  it('reads ClickHouse as the reading user, with the secret that makes it', () => {
    const clickhouse = datasources.find((d) => d.type === 'grafana-clickhouse-datasource');
    const secret = /^\$__file\{\/run\/secrets\/([a-z_]+)\}$/.exec(
      clickhouse?.secureJsonData?.password ?? '',
    )?.[1];
    expect(secret).toBe('clickhouse_reader_password');
    expect(compose.services['grafana']?.secrets).toContain(secret);
    expect(compose.services['clickhouse']?.secrets).toContain(secret);
    const script = read('deploy/clickhouse/reader.sh');
    expect(script).toContain(`/run/secrets/${secret ?? ''}`);
    expect(script).toContain(`CREATE USER IF NOT EXISTS ${clickhouse?.jsonData.username ?? '?'} `);
    execFileSync('bash', ['-n', join(packageRoot, 'deploy', 'clickhouse', 'reader.sh')]);
    execFileSync('sh', ['-n', join(packageRoot, 'deploy', 'start.sh')]);
  });

  it('finds the boards where compose mounts them, and the plugin in the version they are written for', () => {
    const { providers } = parse(read('dashboards/provisioning/dashboards/grantscope.yml')) as {
      providers: { options: { path: string } }[];
    };
    const mounts = compose.services['grafana']?.volumes ?? [];
    expect(mounts).toContain(`./dashboards/generated:${providers[0]?.options.path ?? '?'}:ro`);
    expect(compose.services['grafana']?.environment?.['GF_PLUGINS_PREINSTALL_SYNC']).toBe(
      `grafana-clickhouse-datasource@${CLICKHOUSE_PLUGIN_VERSION}`,
    );
  });
});

describe('the image', () => {
  it('copies what is there, on a Node.js that the package allows', () => {
    const { build } = compose.services['grantscope']!;
    expect(build?.dockerfile).toBe('deploy/Containerfile');
    const file = read('deploy/Containerfile');
    // From the sources, not from the build stage.
    for (const [, path = ''] of file.matchAll(/^COPY (?!--from|\.)(?:package\.json )?(\S+) /gm))
      expect(existsSync(join(packageRoot, path)), path).toBe(true);
    for (const [, path = ''] of file.matchAll(/^COPY --from=build \/app\/(\S+) /gm))
      if (path !== 'dist') expect(existsSync(join(packageRoot, path)), path).toBe(true);
    const versions = [...file.matchAll(/^FROM node:(\d+\.\d+\.\d+)/gm)].map((m) => m[1]);
    expect(versions).toHaveLength(2);
    expect(new Set(versions).size).toBe(1);
    const { engines, bin } = JSON.parse(read('package.json')) as {
      engines: { node: string };
      bin: { grantscope: string };
    };
    const [major = 0, minor = 0] = (versions[0] ?? '').split('.').map(Number);
    const [, allowedMajor = 0, allowedMinor = 0] = (/(\d+)\.(\d+)/.exec(engines.node) ?? []).map(
      Number,
    );
    expect(major > allowedMajor || (major === allowedMajor && minor >= allowedMinor)).toBe(true);
    expect(read('deploy/start.sh')).toContain(`/app/${bin.grantscope}`);
  });
});
