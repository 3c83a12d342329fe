import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { freePort } from '../free_port.ts';
import { cached, java, runDependencyPlugin } from '../java_programs.ts';
import { cleanEnvironment } from '../server_process.ts';

/** The release that is run, from Maven Central; KAFKA_VERSION runs another. */
export const KAFKA_VERSION = process.env['KAFKA_VERSION'] ?? '4.1.0';
const START_SECONDS_MAX = 60;

/** Folder with the broker's jars in the cache; Maven gets them where they are not there yet. */
function libraries(): string {
  return cached('kafka', KAFKA_VERSION, (folder) => {
    writeFileSync(
      join(folder, 'pom.xml'),
      `<project><modelVersion>4.0.0</modelVersion><groupId>local</groupId><artifactId>broker</artifactId><version>1</version>
<dependencies>${dependency('org.apache.kafka', 'kafka_2.13', KAFKA_VERSION)}${dependency('org.slf4j', 'slf4j-simple', '1.7.36')}</dependencies></project>`,
    );
    const jars = join(folder, 'jars');
    runDependencyPlugin(folder, 'copy-dependencies', [
      '-DincludeScope=runtime',
      `-DoutputDirectory=${jars}`,
    ]);
    return jars;
  });
}

function dependency(group: string, artifact: string, version: string): string {
  return `<dependency><groupId>${group}</groupId><artifactId>${artifact}</artifactId><version>${version}</version></dependency>`;
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
