import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { Command } from 'commander';
import { packageRoot } from '../../runtime/paths.ts';
import { defineCommand, type CliContext } from '../define_command.ts';

interface GenerateOptions {
  readonly check?: boolean;
  readonly json?: boolean;
}

export default defineCommand({
  id: 'generate',
  build: (cli) =>
    new Command('generate')
      .description('write dashboards, alert rules and reference docs from their definitions')
      .option('--check', 'write nothing; exit 1 where a file differs from its definition')
      .option('--json', 'print JSON')
      .action((options: GenerateOptions) => generate(cli, options)),
});

async function generate(cli: CliContext, options: GenerateOptions): Promise<void> {
  // Loaded here: the dashboard builders are not installed in production.
  const { generatedFiles } = await import('../generated_files.ts');
  const files = await generatedFiles();
  const changed = Object.keys(files)
    .filter((path) => read(path) !== files[path])
    .sort();
  if (options.check !== true) for (const path of changed) write(path, files[path] ?? '');
  const verb = options.check === true ? 'differs' : 'written';
  const total = Object.keys(files).length;
  const text =
    changed.length === 0
      ? `${total} files are up to date`
      : changed.map((path) => `${verb}: ${path}`).join('\n');
  cli.print({ text, json: { changed, total } }, options.json === true);
  if (options.check === true && changed.length > 0) process.exitCode = 1;
}

function read(path: string): string | undefined {
  try {
    return readFileSync(join(packageRoot, path), 'utf8');
  } catch {
    return undefined;
  }
}

function write(path: string, content: string): void {
  const file = join(packageRoot, path);
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, content);
}
