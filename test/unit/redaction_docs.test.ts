import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { SCAN_RULES } from '../../collector/processors/secret_scanners.ts';
import { PATTERNS_MAX, RedactionSettings } from '../../runtime/redaction_settings.ts';
import { packageRoot } from '../../runtime/paths.ts';
import { benignCorpus, KNOWN_FALSE_ALARMS } from '../corpus/benign.ts';
import { KNOWN_MISSES, plantedCorpus } from '../corpus/planted.ts';

const page = readFileSync(join(packageRoot, 'docs', 'redaction.md'), 'utf8');
const firstCells = page.split('\n').flatMap((l) => /^\| `([a-z_]+)` \|/.exec(l)?.[1] ?? []);

describe('docs/redaction.md', () => {
  it('lists every rule, and every setting', () => {
    const settings = Object.keys(RedactionSettings.parse({}));
    expect(firstCells).toEqual([...SCAN_RULES, ...settings]);
    expect(page).toContain(`up to ${PATTERNS_MAX}:`);
  });

  it('says how large the corpus is, and the floors of what is missed', () => {
    const planted = new Set(plantedCorpus(1, 1).map((p) => p.group)).size;
    expect(page).toContain(`${planted} groups of hiding places`);
    expect(page).toContain(`${benignCorpus(1, 1).length} of honest look-alikes`);
    for (const { floor } of [...Object.values(KNOWN_MISSES), ...Object.values(KNOWN_FALSE_ALARMS)])
      expect(page).toContain(`| ${Math.round(100 * floor)} % |`);
  });
});
