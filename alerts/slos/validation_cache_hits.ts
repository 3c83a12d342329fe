import { defineSlo } from '../../model/define_slo.ts';

export default defineSlo({
  id: 'validation_cache_hits',
  runbook: 'validation_cache_hits',
  measure: 'indicator',
  title: 'Validation cache hit rate',
  description:
    'Share of validations that a cache answered, of those whose API says how it validates. A fall is load for the authorization server.',
  owner: 'api-platform',
  value: 'share',
  goodMeans: 'from a cache',
  badMeans: 'validated anew',
  attempts: [
    { kinds: ['token_validated'], modes: ['local', 'cache', 'introspection', 'fallback'] },
  ],
  good: [{ modes: ['cache'] }],
  excluded: [],
  bad: [{ modes: ['local', 'introspection', 'fallback'] }],
  figures: [],
  latenessSeconds: 15,
  shadow: false,
  splitBy: ['service', 'mode'],
});
