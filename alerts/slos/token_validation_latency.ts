import { defineSlo } from '../../model/define_slo.ts';

export default defineSlo({
  id: 'token_validation_latency',
  runbook: 'token_validation_latency',
  measure: 'ratio',
  title: 'Token validation latency',
  description:
    'Share of token validations that took less than 50 ms locally, or less than 200 ms where the authorization server was asked. Every call to an API waits for one.',
  owner: 'api-platform',
  objective: 0.95,
  attempts: [{ kinds: ['token_validated', 'token_rejected'] }],
  good: [
    { modes: ['local', 'cache'], underMs: 50 },
    // Where nobody says how it was validated, the wider bound holds.
    { modes: ['introspection', 'fallback', ''], underMs: 200 },
  ],
  excluded: [],
  bad: [{ isTimed: true }],
  tiers: ['fast', 'medium', 'slow', 'drift'],
  minBadEvents: 50,
  latenessSeconds: 15,
  shadow: false,
  splitBy: ['service', 'mode'],
});
