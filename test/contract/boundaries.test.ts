import { execFileSync } from 'node:child_process';
import { copyFileSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { packageRoot } from '../../runtime/paths.ts';
import { temporaryFolder } from '../harness.ts';

// The gate of the house: every rule is shown to fail on a planted violation, and to pass on what is allowed.

const PLANTED: readonly (readonly [rule: string, file: string, imports: string])[] = [
  ['model-is-pure', 'model/a.ts', '../runtime/errors.ts'],
  ['model-imports-zod-only', 'model/b.ts', 'node:fs'],
  ['runtime-imports-model', 'runtime/a.ts', '../store/client.ts'],
  ['store-imports-model-and-runtime', 'store/a.ts', '../collector/pipeline.ts'],
  ['rules-import-model', 'detectors/rules/a.ts', '../../store/client.ts'],
  ['sources-import-model', 'collector/sources/a.ts', '../../runtime/errors.ts'],
  ['slos-import-model', 'alerts/slos/a.ts', '../../runtime/errors.ts'],
  ['collector-stands-alone', 'collector/a.ts', '../detectors/runner.ts'],
  ['detectors-stands-alone', 'detectors/a.ts', '../api/server.ts'],
  ['alerts-stands-alone', 'alerts/a.ts', '../dashboards/generate.ts'],
  ['dashboards-stands-alone', 'dashboards/a.ts', '../alerts/compute.ts'],
  ['api-stands-alone', 'api/a.ts', '../collector/pipeline.ts'],
  ['instrumentation-imports-model-and-keyring', 'instrumentation/a.ts', '../runtime/config.ts'],
  ['clickhouse-client-door', 'api/b.ts', '@clickhouse/client'],
  ['chdb-door', 'detectors/b.ts', 'chdb'],
  ['kafkajs-door', 'collector/b.ts', 'kafkajs'],
  ['public-suffix-door', 'detectors/rules/b.ts', 'tldts'],
  ['network-database-door', 'collector/c.ts', 'maxmind'],
  ['no-vague-folders', 'api/c.ts', './utils/x.ts'],
];
const ALLOWED: readonly (readonly [file: string, imports: string])[] = [
  ['detectors/rules/good.ts', '../../model/kinds.ts'],
  ['dashboards/good.ts', '../alerts/slos/x.ts'],
  ['store/client.ts', '@clickhouse/client'],
  ['collector/queue/kafka.ts', 'kafkajs'],
  ['detectors/rules/_hosts.ts', 'tldts'],
  ['collector/processors/network_databases.ts', 'maxmind'],
  ['model/good.ts', 'zod'],
];
const TARGETS = [
  'runtime/errors.ts',
  'runtime/config.ts',
  'collector/pipeline.ts',
  'detectors/runner.ts',
  'api/server.ts',
  'dashboards/generate.ts',
  'alerts/compute.ts',
  'alerts/slos/x.ts',
  'model/kinds.ts',
  'api/utils/x.ts',
];

interface Violation {
  readonly from: string;
  readonly rule: { readonly name: string };
}

let violations: readonly Violation[] = [];
const folder = temporaryFolder();

beforeAll(() => {
  const write = (file: string, content: string): void => {
    mkdirSync(dirname(join(folder.path, file)), { recursive: true });
    writeFileSync(join(folder.path, file), content);
  };
  for (const target of TARGETS) write(target, 'export const x = 1;\n');
  for (const [file, imports] of ALLOWED)
    write(file, `import * as planted from '${imports}';\nexport const x = planted;\n`);
  for (const [, file, imports] of PLANTED)
    write(file, `import * as planted from '${imports}';\nexport const x = planted;\n`);
  write('collector/sources/c1.ts', "import { b } from './c2.ts';\nexport const a = () => b;\n");
  write('collector/sources/c2.ts', "import { a } from './c1.ts';\nexport const b = () => a;\n");
  for (const file of ['.dependency-cruiser.cjs', 'tsconfig.json', 'package.json'])
    copyFileSync(join(packageRoot, file), join(folder.path, file));
  symlinkSync(join(packageRoot, 'node_modules'), join(folder.path, 'node_modules'));
  violations = cruise();
}, 120_000);
afterAll(() => folder.remove());

function cruise(): readonly Violation[] {
  const folders = [
    'model',
    'runtime',
    'store',
    'collector',
    'detectors',
    'alerts',
    'dashboards',
    'api',
    'instrumentation',
  ];
  const command = join(
    packageRoot,
    'node_modules',
    'dependency-cruiser',
    'bin',
    'dependency-cruise.mjs',
  );
  const args = [
    command,
    ...folders,
    '--config',
    '.dependency-cruiser.cjs',
    '--output-type',
    'json',
  ];
  const stdout = execFileSync(process.execPath, args, {
    cwd: folder.path,
    maxBuffer: 64 * 1024 * 1024,
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  return (JSON.parse(stdout.toString('utf8')) as { summary: { violations: Violation[] } }).summary
    .violations;
}

describe('boundaries', () => {
  it.each(PLANTED)('%s: %s may not import %s', (rule, file) => {
    expect(violations.filter((v) => v.from === file).map((v) => v.rule.name)).toContain(rule);
  });

  it('no-circular: two files may not import each other', () => {
    expect(violations.filter((v) => v.rule.name === 'no-circular').map((v) => v.from)).toContain(
      'collector/sources/c1.ts',
    );
  });

  it.each(ALLOWED)('%s may import %s', (file) => {
    expect(violations.filter((v) => v.from === file)).toEqual([]);
  });
});
