import { defineSlo } from '../../model/define_slo.ts';

export default defineSlo({
  id: 'federation_latency',
  runbook: 'federation_latency',
  measure: 'indicator',
  title: 'Federation latency',
  description:
    'Share of handshakes with identity providers that took less than a second, of those whose source tells a duration.',
  owner: 'identity-platform',
  value: 'share',
  goodMeans: 'under a second',
  badMeans: 'a second or more',
  attempts: [{ kinds: ['federation_handshake'], outcomes: ['success', 'failure'] }],
  good: [{ underMs: 1_000 }],
  excluded: [],
  bad: [{ isTimed: true }],
  figures: [],
  latenessSeconds: 15,
  shadow: false,
  splitBy: ['issuer', 'source_id'],
});
