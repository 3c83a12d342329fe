import { defineSlo } from '../../model/define_slo.ts';

export default defineSlo({
  id: 'policy_decision_latency',
  runbook: 'policy_decision_latency',
  measure: 'ratio',
  title: 'Policy decision latency',
  description:
    'Share of policy decisions that took less than 50 ms. Calls wait for them as they wait for the validation of the token.',
  owner: 'api-platform',
  objective: 0.99,
  attempts: [{ kinds: ['policy_decided'] }],
  good: [{ underMs: 50 }],
  excluded: [],
  bad: [{ isTimed: true }],
  tiers: ['slow', 'drift'],
  minBadEvents: 50,
  latenessSeconds: 60,
  shadow: false,
  splitBy: ['source_id', 'issuer'],
});
