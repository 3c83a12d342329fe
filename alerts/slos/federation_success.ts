import { defineSlo } from '../../model/define_slo.ts';

export default defineSlo({
  id: 'federation_success',
  runbook: 'federation_success',
  measure: 'ratio',
  title: 'Federation handshakes',
  description:
    'Share of handshakes with identity providers and relying parties that succeeded. When it falls, whole organizations cannot sign in.',
  owner: 'identity-platform',
  objective: 0.99,
  attempts: [{ kinds: ['federation_handshake'] }],
  good: [{ outcomes: ['success'] }],
  // The person turned back, or the provider refused the person.
  excluded: [{ outcomes: ['denied', 'challenge', 'pending'] }],
  bad: [{ outcomes: ['failure'] }],
  tiers: ['fast', 'medium', 'slow', 'drift'],
  minBadEvents: 10,
  latenessSeconds: 60,
  shadow: false,
  splitBy: ['issuer', 'source_id'],
});
