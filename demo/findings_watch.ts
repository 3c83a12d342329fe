import { setTimeout as wait } from 'node:timers/promises';
import type { Finding } from '../model/finding.ts';
import type { AttackDefinition } from './attack.ts';

/** Between two looks at the API. */
const LOOK_INTERVAL_MS = 200;
/** Largest page of the API. */
const PAGE_LENGTH = 200;

export type FoundFinding = Omit<Finding, 'tenant'>;

/** Findings as the API gives them, newest evidence first; all pages. */
export async function listFindings(
  apiUrl: string,
  filters: Readonly<Record<string, string>>,
): Promise<FoundFinding[]> {
  const found: FoundFinding[] = [];
  let cursor: string | null = null;
  do {
    const url = new URL('/api/v1/findings', apiUrl);
    url.search = new URLSearchParams({
      ...filters,
      limit: String(PAGE_LENGTH),
      ...(cursor === null ? {} : { cursor }),
    }).toString();
    const response = await fetch(url);
    if (!response.ok) throw new Error(`${url.pathname}: HTTP ${response.status}`);
    const page = (await response.json()) as { items: FoundFinding[]; next_cursor: string | null };
    found.push(...page.items);
    cursor = page.next_cursor;
  } while (cursor !== null);
  return found;
}

/**
 * Waits until the API shows the finding that an attack must cause: its rule, its client, its verdict, medium
 * or above, with evidence from after `since`. Undefined when it does not come in time.
 */
export async function awaitFinding(
  apiUrl: string,
  attack: AttackDefinition,
  since: Date,
  timeoutMs: number,
  signal?: AbortSignal,
): Promise<FoundFinding | undefined> {
  const deadline = Date.now() + timeoutMs;
  for (;;) {
    const candidates = await listFindings(apiUrl, {
      rule_id: attack.rule,
      client_id: attack.clientId,
      severity: 'medium',
      from: since.toISOString(),
    });
    const finding = candidates.find(
      (f) => f.state !== 'superseded' && (attack.verdict ?? f.verdict) === f.verdict,
    );
    if (finding !== undefined) return finding;
    if (Date.now() > deadline || signal?.aborted === true) return undefined;
    await wait(LOOK_INTERVAL_MS);
  }
}
