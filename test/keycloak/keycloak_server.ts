import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { cpSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { freePort } from '../free_port.ts';
import { cached, runDependencyPlugin, runToEnd } from '../java_programs.ts';
import { cleanEnvironment } from '../server_process.ts';

/** The release that is run, from Maven Central; KEYCLOAK_VERSION runs another. */
export const KEYCLOAK_VERSION = process.env['KEYCLOAK_VERSION'] ?? '26.7.3';
const START_SECONDS_MAX = 300;

/**
 * The distribution in the cache, unpacked and built; Maven gets it where it is not there yet. The build is kept, since it
 * takes longer than the start.
 */
function distribution(): string {
  return cached('keycloak', `keycloak-${KEYCLOAK_VERSION}-built`, (folder) => {
    runDependencyPlugin(folder, 'unpack', [
      `-Dartifact=org.keycloak:keycloak-quarkus-dist:${KEYCLOAK_VERSION}:zip`,
      `-DoutputDirectory=${folder}`,
    ]);
    const unpacked = join(folder, `keycloak-${KEYCLOAK_VERSION}`);
    runToEnd(folder, 'sh', [join(unpacked, 'bin', 'kc.sh'), 'build', '--db=dev-mem']);
    return unpacked;
  });
}

/** A Keycloak of its own on loopback, with a database in memory. */
export interface KeycloakServer {
  readonly url: string;
  readonly adminPassword: string;
  /** What it prints on its console: text, one line a record. */
  textLog(): string;
  /** The same records as JSON in the Elastic Common Schema, one a line. */
  jsonLog(): string;
  stop(): Promise<void>;
}

/** Starts Keycloak in `folder`; one server writes both forms, so that they tell of the same events. */
export async function startKeycloak(folder: string): Promise<KeycloakServer> {
  const home = join(folder, 'keycloak');
  cpSync(distribution(), home, { recursive: true });
  const jsonFile = join(folder, 'keycloak.json.log');
  const port = await freePort();
  const adminPassword = 'bootstrap-admin-Ahl3quieKo';
  const child = spawn(
    'sh',
    [
      ...[join(home, 'bin', 'kc.sh'), 'start', '--optimized', '--cache=local'],
      ...[
        '--http-enabled=true',
        '--hostname-strict=false',
        '--http-host=127.0.0.1',
        `--http-port=${port}`,
        '--proxy-headers=xforwarded',
      ],
      ...['--log=console,file', '--log-console-output=default'],
      ...[`--log-file=${jsonFile}`, '--log-file-output=json', '--log-file-json-format=ecs'],
      '--spi-events-listener--jboss-logging--success-level=info',
      '--spi-events-listener--jboss-logging--include-representation=true',
    ],
    {
      cwd: folder,
      // A group of its own: kc.sh starts Java, and both must end.
      detached: true,
      stdio: ['ignore', 'pipe', 'pipe'],
      env: cleanEnvironment({
        KC_BOOTSTRAP_ADMIN_USERNAME: 'admin',
        KC_BOOTSTRAP_ADMIN_PASSWORD: adminPassword,
        JAVA_OPTS_KC_HEAP: '-Xms64m -Xmx512m',
        // Lines of text carry no zone.
        JAVA_OPTS_APPEND: '-Duser.timezone=UTC',
      }),
    },
  );
  let output = '';
  child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString('utf8')));
  child.stderr.on('data', (chunk: Buffer) => (output += chunk.toString('utf8')));
  await listening(child, () => output);
  return {
    url: `http://127.0.0.1:${port}`,
    adminPassword,
    textLog: () => output,
    jsonLog: () => readFileSync(jsonFile, 'utf8'),
    stop: () => endGroup(child),
  };
}

async function listening(child: ChildProcess, output: () => string): Promise<void> {
  for (let waited = 0; waited < START_SECONDS_MAX * 4; waited += 1) {
    if (output().includes('Listening on: http://127.0.0.1:')) return;
    if (child.exitCode !== null) break;
    await sleep(250);
  }
  await endGroup(child);
  throw new Error(`Keycloak did not start:\n${output().slice(-4_000)}`);
}

/** Ends the process and what it started, and only these. */
async function endGroup(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return;
  const closed = once(child, 'close');
  process.kill(-child.pid, 'SIGTERM');
  const isClosed = await Promise.race([
    closed.then(() => true),
    sleep(20_000, false, { ref: false }),
  ]);
  if (isClosed) return;
  process.kill(-child.pid, 'SIGKILL');
  await closed;
}
