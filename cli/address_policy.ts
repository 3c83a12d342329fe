import type { Detector } from '../model/define_detector.ts';
import type { RedactionSettings } from '../runtime/redaction_settings.ts';

type Policy = RedactionSettings['client_ip'];

/** What a rule sees less of when addresses are not kept. */
export interface PolicyEffect {
  readonly rule_id: string;
  readonly effect: string;
}

/** By policy: the fields that change, and what a rule that needs one of them sees less of. */
const EFFECTS: Readonly<Record<Policy, readonly { fields: readonly string[]; effect: string }[]>> =
  {
    keep: [],
    truncate: [
      {
        fields: ['net.client_ip'],
        effect:
          'compares networks (/24, /48) in place of addresses: blind to a second party in the same network',
      },
    ],
    hash: [
      {
        fields: ['net.client_ip', 'net.network'],
        effect:
          'compares keyed addresses: equal ones still match, but it is blind to whether a network is private, and findings name references',
      },
    ],
  };

/** The rules that `redaction.client_ip` makes blind in part, and to what. None with `keep`. */
export function effectsOfAddressPolicy(
  policy: Policy,
  rules: readonly Pick<Detector, 'id' | 'needs'>[],
): PolicyEffect[] {
  return rules.flatMap((rule) => {
    const found = EFFECTS[policy].find((e) => e.fields.some((f) => rule.needs.includes(f)));
    return found === undefined ? [] : [{ rule_id: rule.id, effect: found.effect }];
  });
}

/** The same as lines of text: empty with `keep`. */
export function addressPolicyLines(
  policy: Policy,
  rules: readonly Pick<Detector, 'id' | 'needs'>[],
): string[] {
  const effects = effectsOfAddressPolicy(policy, rules);
  if (policy === 'keep') return [];
  const head = `with redaction.client_ip: ${policy}`;
  if (effects.length === 0) return [`${head}, no rule sees less`];
  return [`${head}:`, ...effects.map((e) => `  ${e.rule_id}: ${e.effect}`)];
}
