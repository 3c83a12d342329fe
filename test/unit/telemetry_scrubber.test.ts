import { describe, expect, it } from 'vitest';
import { createScrubber } from '../../collector/processors/scrub.ts';
import { telemetryScrubber } from '../../collector/processors/telemetry_scrubber.ts';
import { KeyRing } from '../../runtime/keyring.ts';
import { TEST_KEY } from '../harness.ts';

const keyRing = KeyRing.fromKey(TEST_KEY);
const of = (policy: 'keep' | 'truncate' | 'hash') =>
  telemetryScrubber(createScrubber(), keyRing, policy);
const bob = keyRing.ref('subject', 'bob');

describe('people in attributes', () => {
  it('become the references that auth events have, at any depth and in lists', () => {
    const { attributes } = of('keep').scrubAttributes({
      'enduser.id': 'bob',
      'user.email': 'bob@example.com',
      'session.id': 's1',
      'user.id': 4711,
      preferred_username: ['bob', 'eve'],
      body: { user: 'x', sub: 'bob', deep: [{ username: 'bob', age: 4 }] },
    });
    expect(attributes).toEqual({
      'enduser.id': bob,
      'user.email': keyRing.ref('subject', 'bob@example.com'),
      'session.id': keyRing.ref('session', 's1'),
      'user.id': keyRing.ref('subject', '4711'),
      preferred_username: JSON.stringify([bob, keyRing.ref('subject', 'eve')]),
      body: JSON.stringify({ user: 'x', sub: bob, deep: [{ username: bob, age: 4 }] }),
    });
  });

  it('make no reference of nobody: absent and masked names', () => {
    const { attributes } = of('keep').scrubAttributes({
      'user.id': '-',
      'user.name': '***',
      'user.email': '',
      'enduser.id': { name: 'bob' },
    });
    expect(attributes).toEqual({
      'user.id': '',
      'user.name': '',
      'user.email': '',
      'enduser.id': '[redacted]',
    });
  });
});

describe('addresses', () => {
  const input = {
    'client.address': '203.0.113.77',
    'http.request.header.x-forwarded-for': ['203.0.113.77, 198.51.100.9'],
    note: 'from 203.0.113.77:4711 and 2001:db8:1:2::3, at 12:30:45',
    'service.version': '1.2.3.4',
  };
  const ref = (ip: string): string => keyRing.ref('text', ip);

  it('are kept, cut to their network, or keyed, wherever they stand', () => {
    expect(of('keep').scrubAttributes(input).attributes).toMatchObject({
      'client.address': '203.0.113.77',
      note: input.note,
    });
    expect(of('truncate').scrubAttributes(input).attributes).toEqual({
      'client.address': '203.0.113.0',
      'http.request.header.x-forwarded-for': '["203.0.113.0, 198.51.100.0"]',
      note: 'from 203.0.113.0:4711 and 2001:db8:1::, at 12:30:45',
      'service.version': '1.2.3.4',
    });
    const hashed = of('hash').scrubAttributes(input);
    expect(hashed.attributes).toEqual({
      'client.address': ref('203.0.113.77'),
      'http.request.header.x-forwarded-for': `["${ref('203.0.113.77')}, ${ref('198.51.100.9')}"]`,
      note: `from ${ref('203.0.113.77')}:4711 and ${ref('2001:db8:1:2::3')}, at 12:30:45`,
      'service.version': '1.2.3.4',
    });
    expect(hashed.redacted).toContain('client.address');
    expect(of('hash').scrubText('peer 203.0.113.77 left')).toEqual({
      text: `peer ${ref('203.0.113.77')} left`,
      changed: true,
    });
  });
});

describe('cuts in attributes', () => {
  it('are counted: values, keys, depth, nodes and lists', () => {
    const cutOf = (attributes: Record<string, unknown>): number =>
      of('keep').scrubAttributes(attributes).cut;
    let deep: unknown = 'x';
    for (let i = 0; i < 20; i += 1) deep = [deep];
    expect(cutOf({ a: 'x'.repeat(32_768) })).toBe(0);
    expect(cutOf({ a: 'x'.repeat(32_769) })).toBe(1);
    expect(cutOf({ a: ['x '.repeat(20_000)], b: 'y' })).toBe(1);
    expect(cutOf({ deep })).toBe(1);
    expect(cutOf({ a: Array.from({ length: 3_000 }, () => 1) })).toBe(1);
    expect(cutOf({ ['k '.repeat(200)]: 1 })).toBe(1);
    expect(cutOf({ a: [1, 'b'], c: { d: 'e' } })).toBe(0);
  });
});
