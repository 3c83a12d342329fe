import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  compareOrigins,
  groupByNetwork,
  networkName,
  sameNetwork,
} from '../../detectors/rules/_origin.ts';
import type { AuthEvent } from '../../model/auth_event.ts';
import { completeEvent } from '../../model/complete_event.ts';

// When two requests count as from one network.

let n = 0;
const from = (network: string, asn = 0, more: Partial<AuthEvent['net']> = {}): AuthEvent =>
  completeEvent({
    event_id: `00000000-0000-4000-8000-${String((n += 1)).padStart(12, '0')}`,
    time: BigInt(n),
    kind: 'api_accessed',
    net: { network, asn, ...more },
  });

const A = '198.51.100.0/24';
const B = '203.0.113.0/24';
const SIX = '2001:db8:1::/48';

describe('sameNetwork', () => {
  it.each([
    ['one prefix, nothing else known', from(A), from(A), true],
    ['two prefixes, nothing else known', from(A), from(B), false],
    ['two prefixes of one system', from(A, 1), from(B, 1), true],
    ['IPv4 and IPv6 of one system', from(A, 1), from(SIX, 1), true],
    ['two systems', from(A, 1), from(B, 2), false],
    ['two prefixes, one system known', from(A, 1), from(B), false],
    ['one prefix, one system known', from(A, 1), from(A), true],
    ['nothing known on one side', from(A, 1), from(''), false],
    ['nothing known on both sides', from(''), from(''), false],
  ])('%s', (_, a, b, expected) => {
    expect(sameNetwork(a, b)).toBe(expected);
    expect(sameNetwork(b, a)).toBe(expected);
  });
});

describe('groupByNetwork', () => {
  const shown = (events: readonly AuthEvent[]): [string, number][] =>
    groupByNetwork(events).map((g) => [g.network, g.events.length]);

  it('is by prefix where nothing else is known, in order of first use', () => {
    expect(shown([from(B), from(A), from(B), from('')])).toEqual([
      [B, 2],
      [A, 1],
    ]);
  });

  it('joins the prefixes of a system, and what has no system by its prefix', () => {
    expect(shown([from(A), from(B, 7), from(SIX, 7), from(A, 7), from(B, 0)])).toEqual([
      ['AS7', 5],
    ]);
    expect(shown([from(A, 7), from(B, 8), from(SIX)])).toEqual([
      ['AS7', 1],
      ['AS8', 1],
      [SIX, 1],
    ]);
  });

  it('never parts what sameNetwork joins, loses nothing, and is the same in any order', () => {
    const networks = [A, B, SIX, '192.0.2.0/24', '2001:db8:2::/48'];
    const event = fc
      .record({ network: fc.constantFrom(...networks), asn: fc.constantFrom(0, 0, 1, 2, 3) })
      .map(({ network, asn }) => from(network, asn));
    fc.assert(
      fc.property(fc.array(event, { maxLength: 12 }), (events) => {
        const groups = groupByNetwork(events);
        const groupOf = new Map(groups.flatMap((g, i) => g.events.map((e) => [e, i] as const)));
        expect(groupOf.size).toBe(events.length);
        for (const a of events)
          for (const b of events)
            if (sameNetwork(a, b)) expect(groupOf.get(a)).toBe(groupOf.get(b));
        const sets = (of: readonly AuthEvent[]): string[] =>
          groupByNetwork(of)
            .map((g) =>
              g.events
                .map((e) => e.event_id)
                .sort()
                .join(),
            )
            .sort();
        expect(sets([...events].reverse())).toEqual(sets(events));
        // Without systems: exactly by prefix.
        const plain = events.map((e) => ({ ...e, net: { ...e.net, asn: 0 } }));
        expect(groupByNetwork(plain).map((g) => g.network)).toEqual([
          ...new Set(plain.map(networkName)),
        ]);
      }),
    );
  });
});

describe('compareOrigins', () => {
  it('takes two prefixes of one system for the same network', () => {
    const user = { ip_role: 'end_user' as const, country: 'DE' };
    expect(compareOrigins(from(A, 1, user), from(B, 1, user))).toEqual({
      same: ['country', 'network'],
      different: [],
    });
    expect(compareOrigins(from(A, 1, user), from(B, 2, user))).toEqual({
      same: ['country'],
      different: ['network'],
    });
    expect(compareOrigins(from(A, 0, user), from('', 0, user))).toEqual({
      same: ['country'],
      different: [],
    });
  });

  it("says nothing about a back end's network", () => {
    const backend = { ip_role: 'client_backend' as const };
    expect(compareOrigins(from(A, 1, backend), from(B, 2, backend))).toEqual({
      same: [],
      different: [],
    });
  });
});
