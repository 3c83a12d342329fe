import { defineSlo } from '../../model/define_slo.ts';

export default defineSlo({
  id: 'token_issuance_rate',
  runbook: 'token_issuance_rate',
  measure: 'indicator',
  title: 'Token issuance rate',
  description:
    'Tokens issued a second, and the busiest minute that the coming hour has to be ready for.',
  owner: 'identity-platform',
  value: 'rate',
  goodMeans: 'a token response',
  badMeans: '',
  attempts: [{ kinds: ['token_issued', 'token_refreshed', 'token_exchanged'] }],
  good: [{ outcomes: ['success'] }],
  excluded: [],
  bad: [],
  figures: ['issuance_forecast'],
  latenessSeconds: 15,
  shadow: false,
  splitBy: ['issuer', 'grant_type'],
});
