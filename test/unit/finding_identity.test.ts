import { describe, expect, it } from 'vitest';
import { toFinding } from '../../detectors/finding_identity.ts';
import { bindDetectors, loadDetectors } from '../../detectors/registry.ts';
import { completeEvent } from '../../model/complete_event.ts';
import type { Signal } from '../../model/define_detector.ts';
import type { EntityType } from '../../model/finding.ts';

const detectors = bindDetectors(await loadDetectors(), {});

const eventOf = (n: number, client: string) =>
  completeEvent({
    event_id: `00000000-0000-4000-8000-00000000000${n}`,
    tenant: 'default',
    time: BigInt(n) * 1_000_000_000n,
    kind: 'token_request_failed',
    outcome: 'failure',
    source: { id: 'otlp' },
    client: { id: client },
    subject: { ref: `00000000-0000-4000-9000-00000000000${n}` },
  });

function whom(entityType: EntityType, clients: readonly string[], more: Partial<Signal> = {}) {
  const signal: Signal = {
    episode: 'all',
    entityType,
    verdict: '',
    severity: 'medium',
    confidence: 50,
    summary: '',
    reasons: [],
    evidence: {},
    events: clients.map((client, i) => eventOf(i + 1, client)),
    tokenRefs: [],
    ...more,
  };
  const detector = detectors[0];
  if (detector === undefined) throw new Error('no detector');
  const { client_id, subject_ref } = toFinding(detector, 'default', 'an entity', signal);
  return { client_id, subject_ref };
}

const FIRST = '00000000-0000-4000-9000-000000000001';

describe('whom a finding concerns', () => {
  it('is the first that its events name, where the entity is of one client', () => {
    const named = { client_id: 'a', subject_ref: FIRST };
    expect(whom('token', ['a', 'b'])).toEqual(named);
    expect(whom('client', ['', 'a'])).toEqual(named);
  });

  it.each(['source', 'network'] as const)('is whom all events share, for a %s', (type) => {
    expect(whom(type, ['a', 'b'])).toEqual({ client_id: '', subject_ref: '' });
    expect(whom(type, ['a', 'a'])).toEqual({ client_id: 'a', subject_ref: '' });
    expect(whom(type, ['', 'a'])).toEqual({ client_id: 'a', subject_ref: '' });
    expect(whom(type, ['a'])).toEqual({ client_id: 'a', subject_ref: FIRST });
    expect(whom(type, [])).toEqual({ client_id: '', subject_ref: '' });
  });

  it('is what the rule says, where events are examples of many', () => {
    expect(whom('source', ['a'], { ofClient: '' })).toEqual({ client_id: '', subject_ref: '' });
    expect(whom('source', ['a'], { ofClient: 'b' })).toEqual({ client_id: 'b', subject_ref: '' });
  });
});
