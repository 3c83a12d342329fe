import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { Command } from 'commander';
import type { Config } from '../../runtime/config.ts';
import { GrantscopeError, messageOf } from '../../runtime/errors.ts';
import { addNextKey, removeKey } from '../../runtime/keyring_file.ts';
import type { KeyFacts } from '../../runtime/keyring.ts';
import { KEY_FACTS_OPERATION, type KeyDataFacts } from '../../store/key_facts.ts';
import { defineCommand, type CliContext } from '../define_command.ts';
import { parseDuration, shownDuration } from '../duration.ts';

const DAY_MS = 86_400_000;

const iso = (ms: number | undefined): string | null =>
  ms === undefined ? null : new Date(ms).toISOString();

export default defineCommand({
  id: 'keys',
  build: (cli) =>
    new Command('keys')
      .description('the secret keys of all references: list, rotate, retire')
      .addCommand(listCommand(cli))
      .addCommand(rotateCommand(cli))
      .addCommand(retireCommand(cli)),
});

function listCommand(cli: CliContext): Command {
  return new Command('list')
    .description('ids, times and states of the keys; never a key')
    .option('--json', 'print JSON')
    .action((options: { json?: boolean }) => {
      const keys = cli.runtime().keyRing.keys.map(shownKey);
      const rows = keys.map((k) =>
        [
          k.id.padEnd(16),
          k.state.padEnd(9),
          (k.created_at ?? 'unknown').padEnd(24),
          (k.active_from ?? 'the beginning').padEnd(24),
          k.active_until ?? '-',
        ].join('  '),
      );
      const head = `${'id'.padEnd(16)}  ${'state'.padEnd(9)}  ${'created'.padEnd(24)}  ${'active from'.padEnd(24)}  active until`;
      cli.print({ text: [head, ...rows].join('\n'), json: { keys } }, options.json === true);
    });
}

function shownKey(key: KeyFacts) {
  return {
    id: key.id,
    state: key.state,
    created_at: iso(key.createdAtMs),
    active_from: iso(key.activeFromMs),
    active_until: iso(key.activeUntilMs),
  };
}

function rotateCommand(cli: CliContext): Command {
  return new Command('rotate')
    .description(
      'add a key that takes over after the overlap; until then every token is stored under both keys, so that none is lost sight of',
    )
    .option(
      '--overlap <duration>',
      'time until the new key takes over, at least the longest token life (keys.token_life_days, the default)',
    )
    .option('--force', 'accept a shorter overlap: tokens that outlive it are seen as two tokens')
    .option('--json', 'print JSON')
    .action(async (options: { overlap?: string; force?: boolean; json?: boolean }) => {
      const { config, clock } = cli.runtime();
      refuseEnvironmentKeys(config, 'rotate');
      const lifeMs = config.keys.token_life_days * DAY_MS;
      const overlapMs =
        options.overlap === undefined ? lifeMs : parseDuration('--overlap', options.overlap);
      if (overlapMs < lifeMs && options.force !== true) {
        throw new GrantscopeError(
          'invalid_argument',
          `--overlap: ${shownDuration(overlapMs)} is shorter than the longest token life of ${shownDuration(lifeMs)} (keys.token_life_days in grantscope.yaml); allowed: at least that, or anything with --force`,
        );
      }
      const warnings = await lifeWarnings(cli, config, overlapMs);
      const nowMs = clock.nowMs();
      const before = cli.runtime().keyRing.currentId;
      const { id } = addNextKey(config.keyFile, { nowMs, activeFromMs: nowMs + overlapMs });
      const active_from = iso(nowMs + overlapMs);
      const text = [
        `key ${id} takes over from ${before} at ${active_from ?? ''}; until then tokens are stored under both`,
        'servers with this key file take it up by themselves; instrumented services need it too (docs/instrumentation.md)',
        ...warnings.map((w) => `warning: ${w}`),
      ].join('\n');
      cli.print({ text, json: { id, active_from, warnings } }, options.json === true);
    });
}

/** Where the keys are variables, there is no file to change. */
function refuseEnvironmentKeys(config: Config, verb: 'rotate' | 'retire'): void {
  if (config.hashKey === undefined) return;
  const how =
    verb === 'rotate'
      ? 'set GRANTSCOPE_HASH_KEY_NEXT (new random text, for instance of openssl rand -hex 32) and GRANTSCOPE_HASH_KEY_NEXT_FROM (a time that is at least the longest token life away) for every process; after that time, move the new key to GRANTSCOPE_HASH_KEY and the old one to GRANTSCOPE_HASH_KEY_PREVIOUS'
      : 'take it out of GRANTSCOPE_HASH_KEY_PREVIOUS when no stored data is named by it any more';
  throw new GrantscopeError(
    'config_invalid',
    `keys ${verb}: the keys come from the environment, so there is no key file to change; ${how}`,
  );
}

/** True where events may be stored: a fresh installation has nothing to ask. */
function hasStore(config: Config): boolean {
  return config.clickhouse !== undefined || existsSync(join(config.dataDir, 'clickhouse'));
}

/** What stored tokens say against the overlap. The rotation goes on: only the operator knows which matter. */
async function lifeWarnings(
  cli: CliContext,
  config: Config,
  overlapMs: number,
): Promise<readonly string[]> {
  if (!hasStore(config)) return [];
  let facts: KeyDataFacts;
  try {
    facts = await cli.operation<KeyDataFacts>(KEY_FACTS_OPERATION, {});
  } catch (error) {
    return [`the lives of stored tokens could not be read: ${messageOf(error)}`];
  }
  const seen = [
    ['a stored token lives', facts.longest_token_life_s * 1_000],
    ['a stored token was used', facts.longest_token_age_s * 1_000],
  ] as const;
  return seen
    .filter(([, ms]) => ms > overlapMs)
    .map(
      ([what, ms]) =>
        `${what} ${shownDuration(ms)}${what.endsWith('used') ? ' after its issue' : ''}, longer than the overlap of ${shownDuration(overlapMs)}: a token that is not seen during the overlap, and is used after it, will look like another one`,
    );
}

function retireCommand(cli: CliContext): Command {
  return new Command('retire')
    .description(
      'delete a key that no stored data is named by any more; of the next key: cancel the rotation',
    )
    .argument('<id>', 'a key id from keys list')
    .option('--json', 'print JSON')
    .action(async (id: string, options: { json?: boolean }) => {
      const { config, clock, keyRing } = cli.runtime();
      refuseEnvironmentKeys(config, 'retire');
      const nowMs = clock.nowMs();
      const isNext = keyRing.keys.some((k) => k.id === id && k.state === 'next');
      const events = isNext || !hasStore(config) ? 0 : await eventsNamedBy(cli, id);
      removeKey(config.keyFile, id, nowMs, (key) => refuseWhileNeeded(key, config, nowMs, events));
      cli.print(
        {
          text: isNext ? `rotation to ${id} cancelled` : `key ${id} deleted`,
          json: { id, cancelled: isNext },
        },
        options.json === true,
      );
    });
}

async function eventsNamedBy(cli: CliContext, id: string): Promise<number> {
  const facts = await cli.operation<KeyDataFacts>(KEY_FACTS_OPERATION, {});
  return facts.events_by_key[id] ?? 0;
}

function refuseWhileNeeded(key: KeyFacts, config: Config, nowMs: number, events: number): void {
  if (key.state === 'next') return;
  const refuse = (reason: string): never => {
    throw new GrantscopeError('invalid_argument', `key ${key.id} cannot be retired: ${reason}`);
  };
  if (key.state === 'current' || key.activeUntilMs === undefined) {
    return refuse('it makes the references now; rotate first');
  }
  const { events_days, traces_days, findings_days } = config.retention;
  const keptUntilMs =
    key.activeUntilMs + Math.max(events_days, traces_days, findings_days) * DAY_MS;
  if (keptUntilMs > nowMs) {
    refuse(
      `data that it named may be kept until ${iso(keptUntilMs) ?? ''} (retention in grantscope.yaml), and hash could no longer find it`,
    );
  }
  if (events > 0) refuse(`${events} stored events are named by it`);
}
