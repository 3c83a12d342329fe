import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { packageRoot } from '../../runtime/paths.ts';
import { findProgram } from '../e2e/programs.ts';
import { cleanEnvironment } from '../server_process.ts';

/** The release that is run, from Maven Central; KAFKA_VERSION runs another. */
export const KAFKA_VERSION = process.env['KAFKA_VERSION'] ?? '4.1.0';
/** Brokers of Kafka 4 run on Java 17 and later. */
const JAVA_MIN = 17;
const START_SECONDS_MAX = 60;

const java = findProgram('java');
const maven = findProgram('mvn');

/** What the machine lacks to run Kafka; empty where it has everything. */
export function missingForKafka(): readonly string[] {
  const missing: string[] = [];
  if (javaVersion() < JAVA_MIN) missing.push(`Java ${JAVA_MIN} or later`);
  if (maven === undefined) missing.push('Maven');
  return missing;
}

function javaVersion(): number {
  if (java === undefined) return 0;
  const { stderr } = spawnSync(java, ['-version'], { encoding: 'utf8' });
  return Number(/version "(\d+)/.exec(stderr)?.[1] ?? 0);
}

/** Folder with the broker's jars in the cache; Maven gets them where they are not there yet. */
function libraries(): string {
  const cache = join(packageRoot, 'node_modules', '.cache', 'kafka');
  const folder = join(cache, KAFKA_VERSION);
  if (existsSync(folder)) return folder;
  if (maven === undefined) throw new Error('Maven is not installed');
  const fetching = join(cache, `fetching-${process.pid}`);
  mkdirSync(fetching, { recursive: true });
  writeFileSync(
    join(fetching, 'pom.xml'),
    `<project><modelVersion>4.0.0</modelVersion><groupId>local</groupId><artifactId>broker</artifactId><version>1</version>
<dependencies>${dependency('org.apache.kafka', 'kafka_2.13', KAFKA_VERSION)}${dependency('org.slf4j', 'slf4j-simple', '1.7.36')}</dependencies></project>`,
  );
  const { status, stdout } = spawnSync(
    maven,
    [
      ...['-B', '-ntp', 'org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies'],
      ...['-DincludeScope=runtime', `-DoutputDirectory=${join(fetching, 'jars')}`],
    ],
    { cwd: fetching, encoding: 'utf8', timeout: 240_000 },
  );
  if (status !== 0) throw new Error(`Maven could not get Kafka:\n${stdout.slice(-2_000)}`);
  // Whole or not at all, also where two runs meet.
  if (!existsSync(folder)) renameSync(join(fetching, 'jars'), folder);
  rmSync(fetching, { recursive: true, force: true });
  return folder;
}

function dependency(group: string, artifact: string, version: string): string {
  return `<dependency><groupId>${group}</groupId><artifactId>${artifact}</artifactId><version>${version}</version></dependency>`;
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

/** One broker on loopback that is its own controller (KRaft). */
export interface KafkaBroker {
  /** `127.0.0.1:port`. */
  readonly address: string;
  /** Ends it by SIGKILL. */
  kill(): Promise<void>;
  /** Starts it again on what it left, at the same address. */
  start(): Promise<void>;
  stop(): Promise<void>;
}

/** Formats a folder and starts a broker on it; resolves once it answers. */
export async function startKafka(folder: string): Promise<KafkaBroker> {
  const [port, controllerPort] = [await freePort(), await freePort()];
  const address = `127.0.0.1:${port}`;
  const properties = join(folder, 'server.properties');
  mkdirSync(folder, { recursive: true });
  writeFileSync(properties, propertiesOf(folder, address, `127.0.0.1:${controllerPort}`));
  const classPath = join(libraries(), '*');
  const run = (main: string, args: readonly string[]): readonly string[] => [
    ...['-Xmx384m', '-XX:+UseSerialGC', '-cp', classPath, main, ...args],
  ];
  const format = spawnSync(
    java ?? 'java',
    run('kafka.tools.StorageTool', ['format', '-t', 'MkU3OEVBNTcwNTJENDM2Qg', '-c', properties]),
    { encoding: 'utf8' },
  );
  if (format.status !== 0) throw new Error(`Kafka did not format: ${format.stderr}`);
  let child: ChildProcess | undefined;
  const end = async (signal: NodeJS.Signals): Promise<void> => {
    const ending = child;
    child = undefined;
    if (ending === undefined || ending.exitCode !== null) return;
    const closed = once(ending, 'close');
    ending.kill(signal);
    await closed;
  };
  const start = async (): Promise<void> => {
    child = spawn(java ?? 'java', run('kafka.Kafka', [properties]), {
      env: cleanEnvironment({}),
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    await untilStarted(child);
  };
  await start();
  return { address, start, kill: () => end('SIGKILL'), stop: () => end('SIGTERM') };
}

function propertiesOf(folder: string, address: string, controller: string): string {
  return [
    'node.id=1',
    'process.roles=broker,controller',
    `listeners=PLAINTEXT://${address},CONTROLLER://${controller}`,
    `advertised.listeners=PLAINTEXT://${address}`,
    'controller.listener.names=CONTROLLER',
    'listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT',
    `controller.quorum.voters=1@${controller}`,
    `log.dirs=${join(folder, 'log')}`,
    ...['offsets.topic', 'transaction.state.log', 'share.coordinator.state.topic'].map(
      (name) => `${name}.replication.factor=1`,
    ),
    'offsets.topic.num.partitions=1',
    'transaction.state.log.min.isr=1',
    'group.initial.rebalance.delay.ms=0',
    'group.min.session.timeout.ms=500',
    'auto.create.topics.enable=false',
    'num.network.threads=1',
    'num.io.threads=2',
    'background.threads=1',
  ].join('\n');
}

async function untilStarted(child: ChildProcess): Promise<void> {
  let output = '';
  const isStarted = new Promise<void>((resolve, reject) => {
    const hear = (chunk: Buffer): void => {
      output = (output + chunk.toString('utf8')).slice(-20_000);
      if (/Kafka Server started/.test(output)) resolve();
    };
    child.stdout?.on('data', hear);
    child.stderr?.on('data', hear);
    child.once('close', (code) => reject(new Error(`Kafka ended with ${code}:\n${output}`)));
  });
  const late = sleep(START_SECONDS_MAX * 1_000).then(() => {
    throw new Error(`Kafka did not start within ${START_SECONDS_MAX} s:\n${output}`);
  });
  await Promise.race([isStarted, late]);
}
