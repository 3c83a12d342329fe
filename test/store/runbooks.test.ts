/** Every query in a runbook runs as it stands there. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Sql } from '../../model/sql.ts';
import { packageRoot } from '../../runtime/paths.ts';
import type { Store } from '../../store/client.ts';
import { openTestStore } from '../harness.ts';

const folder = join(packageRoot, 'alerts', 'runbooks');
const pages = readdirSync(folder)
  .filter((f) => f.endsWith('.md'))
  .map((file) => ({ file, text: readFileSync(join(folder, file), 'utf8') }));

let store: Store;
let close: () => Promise<void>;
beforeAll(async () => {
  ({ store, close } = await openTestStore());
});
afterAll(() => close());

describe.each(pages)('$file', ({ file, text }) => {
  it('has the parts of a runbook, in order', () => {
    const parts = [...text.matchAll(/^## (.+)$/gm)].map((m) => m[1]);
    expect(parts.slice(0, 5)).toEqual([
      'Meaning',
      'Impact',
      'Diagnosis',
      'Mitigation',
      'Afterwards',
    ]);
  });

  it('holds queries that run when pasted', async () => {
    const queries = [...text.matchAll(/```sql\n([\s\S]*?)```/g)].map((m) => m[1] ?? '');
    // The pages of the alerts themselves must offer some.
    if (['token_issuance_success.md', 'slo_unmeasured.md', 'watchdog.md'].includes(file))
      expect(queries.length).toBeGreaterThan(0);
    for (const query of queries) {
      const rows = await store.query(new Sql([query], []));
      expect(Array.isArray(rows)).toBe(true);
    }
  });
});
