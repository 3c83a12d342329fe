import { defineSlo } from '../../model/define_slo.ts';

export default defineSlo({
  id: 'role_mismatch_denials',
  runbook: 'role_mismatch_denials',
  measure: 'indicator',
  title: 'Denials for missing rights',
  description:
    'Calls and decisions that were denied although the token was good: a scope or a role was missing. A rise follows a change of rights, or somebody who probes.',
  owner: 'security',
  value: 'count',
  goodMeans: 'denied for a missing right',
  badMeans: 'allowed',
  attempts: [{ kinds: ['api_accessed', 'policy_decided'] }],
  good: [
    { kinds: ['api_accessed'], oauthErrors: ['insufficient_scope'] },
    { kinds: ['api_accessed'], errorCodes: ['insufficient_scope'] },
    { kinds: ['policy_decided'], outcomes: ['denied'] },
  ],
  excluded: [],
  bad: [{ kinds: ['api_accessed', 'policy_decided'], outcomes: ['success'] }],
  figures: [],
  latenessSeconds: 15,
  shadow: false,
  splitBy: ['service', 'source_id'],
});
