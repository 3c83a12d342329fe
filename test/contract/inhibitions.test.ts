// How: every inhibition against the rules and SLOs that there are: a name that is misspelt would mute nothing, in silence.
import { describe, expect, it } from 'vitest';
import { loadSlos } from '../../alerts/registry.ts';
import { loadDetectors } from '../../detectors/registry.ts';
import { INHIBITIONS } from '../../detectors/triage/inhibitions.ts';

const verdictsOf = new Map((await loadDetectors()).map((d) => [d.id, Object.keys(d.verdicts)]));
const slos = (await loadSlos()).map((s) => s.id);

describe('inhibitions', () => {
  it('have names of their own', () => {
    expect(new Set(INHIBITIONS.map((i) => i.id)).size).toBe(INHIBITIONS.length);
  });

  it.each(INHIBITIONS)('$id names rules, verdicts and SLOs that exist', ({ cause, mutes }) => {
    for (const { rule, verdicts } of mutes) {
      expect([...verdictsOf.keys()]).toContain(rule);
      expect(verdictsOf.get(rule)).toEqual(expect.arrayContaining([...(verdicts ?? [])]));
    }
    if (cause.kind === 'finding')
      expect(verdictsOf.get(cause.rule)).toEqual(expect.arrayContaining([...cause.verdicts]));
    if (cause.kind === 'slo') expect(slos).toEqual(expect.arrayContaining([...cause.slos]));
  });

  it.each(INHIBITIONS)('$id lasts an hour at most, and is bound to something', (inhibition) => {
    expect(inhibition.forMs).toBeGreaterThan(0);
    expect(inhibition.forMs).toBeLessThanOrEqual(3_600_000);
    expect(inhibition.beforeMs).toBeLessThanOrEqual(3_600_000);
    expect(inhibition.scope.length > 0 || inhibition.cause.kind === 'slo').toBe(true);
    expect(inhibition.reason).toMatch(/\S/);
  });
});
