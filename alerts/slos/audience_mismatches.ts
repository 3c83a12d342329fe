import { defineSlo } from '../../model/define_slo.ts';

export default defineSlo({
  id: 'audience_mismatches',
  runbook: 'audience_mismatches',
  measure: 'indicator',
  title: 'Audience mismatches',
  description:
    'Share of validations that failed because the token was for another audience. A rise is a client that calls the wrong API, or a token that is tried elsewhere.',
  owner: 'api-platform',
  value: 'share',
  goodMeans: 'for another audience',
  badMeans: 'any other validation',
  attempts: [{ kinds: ['token_validated', 'token_rejected'] }],
  good: [{ kinds: ['token_rejected'], errorCodes: ['invalid_audience'] }],
  excluded: [],
  bad: [{ kinds: ['token_validated', 'token_rejected'] }],
  figures: [],
  latenessSeconds: 15,
  shadow: false,
  splitBy: ['service', 'source_id'],
});
