import { createHash } from 'node:crypto';
import { z } from 'zod';
import type { AuthEvent } from '../model/auth_event.ts';
import type { SourceDefinition } from '../model/define_source.ts';
import { authEventsTable } from '../model/event_columns.ts';
import type { Runtime } from '../runtime/context.ts';
import { GrantscopeError } from '../runtime/errors.ts';
import type { Operation } from '../runtime/operations.ts';
import type { Store } from '../store/client.ts';
import { insertEvents } from '../store/insert.ts';
import { findStoredEvents } from '../store/stored_events.ts';
import { refusalOfTime } from './processors/clock_skew.ts';
import { processDraft } from './processors/process_draft.ts';
import type { Scrubber } from './processors/scrubber.ts';

/** Clients in one call; a longer list takes several. */
export const CLIENTS_PER_CALL_MAX = 5_000;
/** Refused clients that are listed; the rest is only counted. */
const ERRORS_LISTED_MAX = 100;

export const ImportClientsInput = z.strictObject({
  /** Records of the source `client_inventory`. */
  clients: z.array(z.unknown()).max(CLIENTS_PER_CALL_MAX),
  dry_run: z.boolean().default(false),
});
export type ImportClientsInput = z.input<typeof ImportClientsInput>;

export interface ImportClientsReport {
  readonly dry_run: boolean;
  /** Clients whose statement is stored now; with `dry_run`: would be. */
  accepted: number;
  /** Clients whose statement is there already, from a run before. */
  already_stored: number;
  rejected: number;
  /** The first refusals; `index` is the position in the list. */
  readonly errors: { readonly index: number; readonly code: string; readonly message: string }[];
}

interface ImportDeps {
  readonly runtime: Runtime;
  readonly store: Store;
  readonly source: SourceDefinition;
  readonly scrubber: Scrubber;
}

/**
 * The operation behind `grantscope clients import`: the way of `POST /v1/events/client_inventory` for a process whose
 * collector is not asked. A statement (same members, same time) has one id, so a run that is repeated stores nothing twice.
 */
export function importClientsOperation(deps: ImportDeps): Operation {
  return async (input) => {
    const parsed = ImportClientsInput.safeParse(input);
    if (!parsed.success) {
      const problems = parsed.error.issues.map((i) => `${i.path.join('.')}: ${i.message}`);
      throw new GrantscopeError('invalid_argument', `clients: ${problems.join('; ')}`);
    }
    const { clients, dry_run } = parsed.data;
    const report: ImportClientsReport = {
      dry_run,
      accepted: 0,
      already_stored: 0,
      rejected: 0,
      errors: [],
    };
    const events = new Map<string, AuthEvent>();
    for (const [index, client] of clients.entries()) {
      const read = readClient(deps, client);
      if ('event_id' in read) events.set(read.event_id, read);
      else {
        report.rejected += 1;
        if (report.errors.length < ERRORS_LISTED_MAX) report.errors.push({ index, ...read });
      }
    }
    const stored = await storedIds(deps, [...events.values()]);
    const fresh = [...events.values()].filter((e) => !stored.has(e.event_id));
    report.accepted = fresh.length;
    report.already_stored = clients.length - report.rejected - fresh.length;
    if (!dry_run) await storeEvents(deps, fresh);
    return report;
  };
}

function readClient(
  { runtime, source, scrubber }: ImportDeps,
  value: unknown,
): AuthEvent | { readonly code: string; readonly message: string } {
  const receivedAt = runtime.clock.nowNs();
  const parsed = source.parse({ form: 'json', value }, { received_at: receivedAt });
  if (!parsed.ok) return { code: parsed.code, message: parsed.message };
  const [draft] = parsed.events;
  if (draft === undefined) return { code: 'unrecognised_record', message: 'client: says nothing' };
  const contentSeed = createHash('sha256')
    .update(`${draft.time}\0${JSON.stringify([draft.client, draft.key, draft.ext])}`)
    .digest('hex');
  const processed = processDraft(draft, {
    source,
    tenant: runtime.config.tenant,
    receivedAt,
    contentSeed,
    subIndex: 0,
    keyRing: runtime.keyRing,
    scrubber,
    clientIp: runtime.config.redaction.client_ip,
  });
  if (!processed.ok) return { code: processed.code, message: processed.message };
  return refusalOfTime(processed.event.time, receivedAt) ?? processed.event;
}

async function storedIds(
  { runtime, store }: ImportDeps,
  events: readonly AuthEvent[],
): Promise<ReadonlySet<string>> {
  const times = events.map((e) => e.time).sort((a, b) => (a < b ? -1 : 1));
  const [from, to] = [times[0], times.at(-1)];
  if (from === undefined || to === undefined) return new Set();
  const ids = events.map((e) => e.event_id);
  const found = await findStoredEvents(store, runtime.config.tenant, ids, from, to);
  return new Set(found.map((e) => e.event_id));
}

async function storeEvents(
  { runtime, store }: ImportDeps,
  events: readonly AuthEvent[],
): Promise<void> {
  if (events.length === 0) return;
  const ids = createHash('sha256').update(events.map((e) => e.event_id).join());
  await insertEvents(store, events, `inventory:${ids.digest('hex')}`);
  runtime.hints.emit('inserted', { table: authEventsTable.table, rows: events.length });
}
