import { describe, expect, it } from 'vitest';
import { addressPolicyLines, effectsOfAddressPolicy } from '../../cli/address_policy.ts';
import { loadDetectors } from '../../detectors/registry.ts';

const detectors = await loadDetectors();
const idsWith = (policy: 'keep' | 'truncate' | 'hash'): string[] =>
  effectsOfAddressPolicy(policy, detectors).map((e) => e.rule_id);

describe('the effect of redaction.client_ip on the rules', () => {
  it('is none where addresses are kept', () => {
    expect(idsWith('keep')).toEqual([]);
    expect(addressPolicyLines('keep', detectors)).toEqual([]);
  });

  it('names every rule that needs what the policy changes, and no other', () => {
    const needing = (...fields: string[]): string[] =>
      detectors.filter((d) => fields.some((f) => d.needs.includes(f))).map((d) => d.id);
    expect(idsWith('truncate')).toEqual(needing('net.client_ip'));
    expect(idsWith('truncate')).toContain('code_redeemed_twice');
    expect(idsWith('hash')).toEqual(needing('net.client_ip', 'net.network'));
    expect(idsWith('hash')).toContain('access_token_replay');
  });

  it('is written out', () => {
    const rules = [{ id: 'r', needs: ['net.client_ip'] }];
    expect(addressPolicyLines('truncate', rules)).toEqual([
      'with redaction.client_ip: truncate:',
      '  r: compares networks (/24, /48) in place of addresses: blind to a second party in the same network',
    ]);
    expect(addressPolicyLines('truncate', [{ id: 'r', needs: ['time'] }])).toEqual([
      'with redaction.client_ip: truncate, no rule sees less',
    ]);
  });
});
