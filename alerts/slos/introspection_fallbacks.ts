import { defineSlo } from '../../model/define_slo.ts';

export default defineSlo({
  id: 'introspection_fallbacks',
  runbook: 'introspection_fallbacks',
  measure: 'indicator',
  title: 'Introspection fallbacks',
  description:
    'Share of validations that had to ask the authorization server because the local way could not tell, for instance for a key that is not known yet.',
  owner: 'api-platform',
  value: 'share',
  goodMeans: 'fell back',
  badMeans: 'did not need to',
  attempts: [
    {
      kinds: ['token_validated', 'token_rejected'],
      modes: ['local', 'cache', 'introspection', 'fallback'],
    },
  ],
  good: [{ modes: ['fallback'] }],
  excluded: [],
  bad: [{ modes: ['local', 'cache', 'introspection'] }],
  figures: [],
  latenessSeconds: 15,
  shadow: false,
  splitBy: ['service', 'mode'],
});
