import { defineSlo } from '../../model/define_slo.ts';

export default defineSlo({
  id: 'token_reuse',
  runbook: 'token_reuse',
  measure: 'indicator',
  title: 'Token reuse',
  description:
    'Tokens that were used where they should not be, against what is usual here: reuse that servers report, and findings of replay.',
  owner: 'security',
  value: 'count',
  goodMeans: 'a reuse that a server reported',
  badMeans: '',
  attempts: [{ kinds: ['token_reuse_detected'] }],
  good: [{ kinds: ['token_reuse_detected'] }],
  excluded: [],
  bad: [],
  figures: ['reuse_baseline'],
  latenessSeconds: 15,
  shadow: false,
  splitBy: ['issuer', 'source_id'],
});
