import { sql } from '../model/sql.ts';
import type { Operations } from '../runtime/operations.ts';
import type { Store } from './client.ts';

/** What the stored events say about keys and the lives of tokens. */
export interface KeyDataFacts {
  /** Longest `expires_at - issued_at`, and longest time from issue to an accepted use, seconds; 0 = nothing known. */
  readonly longest_token_life_s: number;
  readonly longest_token_age_s: number;
  /** Events whose references a key made, by key id. */
  readonly events_by_key: Readonly<Record<string, number>>;
}

/** The operation that gives `KeyDataFacts`, for commands. */
export const KEY_FACTS_OPERATION = 'key_facts';

/** Makes `KEY_FACTS_OPERATION` known to a process that holds the store. */
export function registerKeyOperations(operations: Operations, store: Store): void {
  operations.register(KEY_FACTS_OPERATION, () => readKeyFacts(store));
}

/** Reads the facts of all tenants: a key serves them all. */
export async function readKeyFacts(store: Store): Promise<KeyDataFacts> {
  const [lives] = await store.query<{ life: number | string; age: number | string }>(sql`
    SELECT
      maxIf(toInt64(expires_at) - toInt64(issued_at), toInt64(issued_at) > 0 AND expires_at > issued_at) AS life,
      maxIf(toInt64(toUnixTimestamp(time)) - toInt64(issued_at), toInt64(issued_at) > 0 AND time > issued_at AND outcome = 'success') AS age
    FROM grantscope.token_events`);
  const keys = await store.query<{ id: string; events: number | string }>(
    sql`SELECT toString(redaction_key_id) AS id, count() AS events FROM grantscope.auth_events GROUP BY id ORDER BY id`,
  );
  return {
    longest_token_life_s: Number(lives?.life ?? 0),
    longest_token_age_s: Number(lives?.age ?? 0),
    events_by_key: Object.fromEntries(keys.map((k) => [k.id, Number(k.events)])),
  };
}
