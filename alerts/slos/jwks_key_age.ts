import { defineSlo } from '../../model/define_slo.ts';

export default defineSlo({
  id: 'jwks_key_age',
  runbook: 'jwks_key_age',
  measure: 'indicator',
  title: 'Age of signing keys',
  description:
    'Signing keys that were created or rotated, and how long ago the last one was. Old keys are slow to replace when one leaks.',
  owner: 'security',
  value: 'count',
  goodMeans: 'a new key',
  badMeans: 'failed',
  attempts: [{ kinds: ['key_created', 'key_rotated'] }],
  good: [{ outcomes: ['success', 'unknown'] }],
  excluded: [],
  bad: [{ outcomes: ['failure', 'denied'] }],
  figures: ['jwks_key_age_seconds'],
  latenessSeconds: 15,
  shadow: false,
  splitBy: ['source_id', 'issuer'],
});
