import { defineSlo } from '../../model/define_slo.ts';

export default defineSlo({
  id: 'token_use',
  runbook: 'token_use',
  measure: 'indicator',
  title: 'Token use by API',
  description:
    'Accepted calls a second, by the API that they were for. The clients of an API are on the debug board, because their number has no bound.',
  owner: 'api-platform',
  value: 'rate',
  goodMeans: 'an accepted token',
  badMeans: '',
  attempts: [{ kinds: ['token_validated', 'userinfo_accessed'] }],
  good: [{ outcomes: ['success'] }],
  excluded: [],
  bad: [],
  figures: [],
  latenessSeconds: 15,
  shadow: false,
  splitBy: ['service', 'issuer', 'subject_type'],
});
