import { readFileSync } from 'node:fs';
import { Command, InvalidArgumentError } from 'commander';
import {
  CLIENTS_PER_CALL_MAX,
  type ImportClientsInput,
  type ImportClientsReport,
} from '../../collector/import_clients.ts';
import { INVENTORY_MEMBERS } from '../../collector/sources/client_inventory.ts';
import type { KnownClient } from '../../detectors/client_operations.ts';
import { GrantscopeError, messageOf } from '../../runtime/errors.ts';
import { defineCommand, type CliContext } from '../define_command.ts';

/** Bytes of one call: below what the API of a running server takes. */
const CALL_BYTES_MAX = 200_000;

function parseTime(text: string): string {
  const ms = Date.parse(text);
  if (Number.isNaN(ms) || !/(?:Z|[+-]\d{2}:\d{2})$/.test(text))
    throw new InvalidArgumentError('must be an ISO time with an offset (2026-01-31T12:00:00Z).');
  return new Date(ms).toISOString();
}

/** A JSON array, one JSON object, or one object a line. */
export function readClients(text: string, file: string): readonly unknown[] {
  const wrong = (where: string): GrantscopeError =>
    new GrantscopeError(
      'invalid_argument',
      `${file}: ${where}; allowed: a JSON array of clients, one JSON object, or one object a line`,
    );
  const plain = text.replace(/^\uFEFF/, '').trim();
  if (plain === '') throw wrong('is empty');
  try {
    const value: unknown = JSON.parse(plain);
    return Array.isArray(value) ? (value as readonly unknown[]) : [value];
  } catch {
    // Not one value: perhaps one a line.
  }
  return plain.split('\n').flatMap((line, i): unknown[] => {
    if (line.trim() === '') return [];
    try {
      return [JSON.parse(line) as unknown];
    } catch {
      throw wrong(`line ${i + 1} is no JSON`);
    }
  });
}

/** Only what is read goes to the server: of a secret, that there is one; of keys, their ids. */
export function withoutSecrets(client: unknown, time: string): unknown {
  if (typeof client !== 'object' || client === null || Array.isArray(client)) return null;
  const all = client as Readonly<Record<string, unknown>>;
  const kept = Object.fromEntries(
    INVENTORY_MEMBERS.filter((name) => Object.hasOwn(all, name)).map((name) => [name, all[name]]),
  );
  const { client_secret: secret, jwks, ...rest } = kept;
  const hasSecret = typeof secret === 'string' && secret !== '';
  const keys = (jwks as { keys?: unknown } | null | undefined)?.keys;
  const kids = Array.isArray(keys)
    ? (keys as readonly ({ kid?: unknown } | null)[])
        .map((k) => k?.kid)
        .filter((k) => typeof k === 'string')
    : undefined;
  return {
    statement_time: time,
    ...(hasSecret ? { has_secret: true } : {}),
    ...(kids === undefined || kids.length === 0 ? {} : { jwks_kids: kids }),
    ...rest,
  };
}

/** Lists that fit into one call each. */
function* batchesOf(clients: readonly unknown[]): Generator<{ from: number; batch: unknown[] }> {
  let batch: unknown[] = [];
  let bytes = 0;
  let from = 0;
  for (const client of clients) {
    const size = Buffer.byteLength(JSON.stringify(client)) + 1;
    if (
      batch.length > 0 &&
      (bytes + size > CALL_BYTES_MAX || batch.length >= CLIENTS_PER_CALL_MAX)
    ) {
      yield { from, batch };
      from += batch.length;
      [batch, bytes] = [[], 0];
    }
    batch.push(client);
    bytes += size;
  }
  if (batch.length > 0) yield { from, batch };
}

async function importFile(
  cli: CliContext,
  file: string,
  options: { time?: string; dryRun?: boolean },
): Promise<ImportClientsReport> {
  const dry_run = options.dryRun === true;
  const time = options.time ?? new Date(cli.runtime().clock.nowMs()).toISOString();
  const clients = readClients(readText(file), file).map((c) => withoutSecrets(c, time));
  const total: ImportClientsReport = {
    dry_run,
    accepted: 0,
    already_stored: 0,
    rejected: 0,
    errors: [],
  };
  for (const { from, batch } of batchesOf(clients)) {
    const input: ImportClientsInput = { clients: batch, dry_run };
    const report = await cli.operation<ImportClientsReport>('import_clients', input);
    total.accepted += report.accepted;
    total.already_stored += report.already_stored;
    total.rejected += report.rejected;
    total.errors.push(...report.errors.map((e) => ({ ...e, index: e.index + from })));
    cli.progress('clients', from + batch.length, clients.length);
  }
  return total;
}

function readText(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    throw new GrantscopeError('invalid_argument', `${file}: cannot be read: ${messageOf(error)}`);
  }
}

function reportText(report: ImportClientsReport): string {
  const would = report.dry_run ? 'would be ' : '';
  return [
    `${report.accepted} client(s) ${would}stated, ${report.already_stored} stated before, ${report.rejected} refused`,
    ...report.errors.map((e) => `  client ${e.index + 1}: ${e.code}: ${e.message}`),
  ].join('\n');
}

const shown = (values: readonly string[] | undefined): string =>
  values === undefined ? 'unknown' : values.length === 0 ? 'none' : values.join(' ');

function clientText(c: KnownClient): string {
  const secret = c.has_secret === undefined ? 'unknown' : c.has_secret ? 'set' : 'none';
  return [
    c.client_id,
    `stated by: ${c.stated_by.join(', ')} (${c.statements} statement(s), last ${c.last_statement ?? 'never'})`,
    `registered: ${c.registered_at ?? 'unknown'}`,
    `type: ${c.client_type ?? 'unknown'}, authentication: ${c.token_endpoint_auth_method ?? 'unknown'}, secret: ${secret}`,
    `grant types: ${shown(c.grant_types)}`,
    `response types: ${shown(c.response_types)}`,
    `scopes: ${shown(c.scopes)}`,
    `redirect URIs: ${shown(c.redirect_uris)}`,
    `key ids: ${shown(c.jwks_kids)}`,
  ].join('\n');
}

function importCommand(cli: CliContext): Command {
  return new Command('import')
    .description('states what clients are registered with, from a file of RFC 7591 metadata (JSON)')
    .argument('<file>', 'a JSON array of clients, one object, or one object a line')
    .option('--time <time>', 'from when on it holds (default: now)', parseTime)
    .option('--dry-run', 'report, and store nothing')
    .option('--json', 'print JSON')
    .action(async (file: string, options: { time?: string; dryRun?: boolean; json?: boolean }) => {
      const report = await importFile(cli, file, options);
      cli.print({ text: reportText(report), json: report }, options.json === true);
      if (report.rejected > 0) process.exitCode = 1;
    });
}

function listCommand(cli: CliContext): Command {
  return new Command('list')
    .description('the clients whose registration is known, as the rules see them')
    .option('--json', 'print JSON')
    .action(async (options: { json?: boolean }) => {
      const clients = await cli.operation<readonly KnownClient[]>('clients_list', {});
      const width = Math.max(0, ...clients.map((c) => c.client_id.length));
      const lines = clients.map(
        (c) =>
          `${c.client_id.padEnd(width)}  ${(c.client_type ?? 'unknown').padEnd(12)}  ${c.redirect_uris?.length ?? '?'} redirect URI(s), ${c.scopes?.length ?? '?'} scope(s), stated by ${c.stated_by.join(' and ')}`,
      );
      const text = lines.length === 0 ? 'no registration is known' : lines.join('\n');
      cli.print({ text, json: clients }, options.json === true);
    });
}

function showCommand(cli: CliContext): Command {
  return new Command('show')
    .description('one client: what it is registered with, and who says so')
    .argument('<client_id>')
    .option('--json', 'print JSON')
    .action(async (client_id: string, options: { json?: boolean }) => {
      const client = await cli.operation<KnownClient>('clients_show', { client_id });
      cli.print({ text: clientText(client), json: client }, options.json === true);
    });
}

export default defineCommand({
  id: 'clients',
  build: (cli) =>
    new Command('clients')
      .description('what clients are registered with, which rules compare requests with')
      .addCommand(importCommand(cli))
      .addCommand(listCommand(cli))
      .addCommand(showCommand(cli)),
});
