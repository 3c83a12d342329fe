// How: docs/findings.md against the code: its examples are read as the product reads them, its figures are the constants.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { z } from 'zod';
import { ENTITY_ALERTS_MAX } from '../../alerts/desired_alerts.ts';
import grantscope from '../../collector/sources/grantscope.ts';
import { OCSF_VERSION } from '../../detectors/response/ocsf.ts';
import { DELIVERY_AGE_MS_MAX, RETRY_MS } from '../../detectors/response/queue.ts';
import { INHIBITIONS } from '../../detectors/triage/inhibitions.ts';
import { RISK_HALF_LIFE_DAYS, RISK_LEVEL_FROM } from '../../model/risk.ts';
import { SUPPRESSION_DAYS_MAX, SuppressionRequest } from '../../model/suppression.ts';
import { packageRoot } from '../../runtime/paths.ts';
import { ResponseSettings } from '../../runtime/response_settings.ts';
import { RETIREMENT_JUDGED_MIN, RETIREMENT_PRECISION } from '../../store/queries/dispositions.ts';
import { eventsOf, json } from '../golden/run_source.ts';

const text = readFileSync(join(packageRoot, 'docs', 'findings.md'), 'utf8');
const blocks = (language: string): string[] =>
  [...text.matchAll(new RegExp(`\`\`\`${language}\\n([\\s\\S]*?)\`\`\``, 'g'))].map((m) => m[1]!);

describe('docs/findings.md', () => {
  it('shows settings that the product takes', () => {
    const [suppressions, response] = blocks('yaml').map((b) => parse(b) as Record<string, unknown>);
    expect(z.array(SuppressionRequest).parse(suppressions!['suppressions'])).toHaveLength(1);
    const settings = ResponseSettings.parse(response!['response']);
    expect([settings.ocsf.length, settings.caep.length]).toEqual([1, 1]);
  });

  it('shows a deploy that the inhibition knows', () => {
    const [event] = eventsOf(grantscope, json(JSON.parse(blocks('json')[0]!)));
    const cause = INHIBITIONS.find((i) => i.id === 'deploy')?.cause;
    expect(cause).toEqual({
      kind: 'event',
      kinds: [event?.kind],
      ext: [{ name: 'change', value: event?.ext['change'] }],
    });
    expect(event).toMatchObject({ outcome: 'success', issuer: 'https://as.example' });
  });

  it('has the figures of the code', () => {
    const minutes = INHIBITIONS.map(
      (i) => `${i.beforeMs / 60_000} min before, ${i.forMs / 60_000} min after`,
    );
    expect([...text.matchAll(/\d+ min before, \d+ min after/g)].map((m) => m[0])).toEqual(minutes);
    const flat = text.replace(/\s+/g, ' ');
    for (const claim of [
      `an end at most ${SUPPRESSION_DAYS_MAX} days away`,
      `up to ${ENTITY_ALERTS_MAX} per rule and severity`,
      `2 ^ (-age / ${RISK_HALF_LIFE_DAYS} days)`,
      `medium from ${RISK_LEVEL_FROM.medium}, high from ${RISK_LEVEL_FROM.high}`,
      `below ${RETIREMENT_PRECISION * 100} % of at least ${RETIREMENT_JUDGED_MIN}`,
      `schema ${OCSF_VERSION}`,
      `pauses from ${RETRY_MS.first / 1_000} s to ${RETRY_MS.longest / 60_000} min`,
    ])
      expect(flat).toContain(claim);
    expect(DELIVERY_AGE_MS_MAX / 86_400_000).toBe(3);
  });
});
