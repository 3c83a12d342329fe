import { defineSlo } from '../../model/define_slo.ts';

export default defineSlo({
  id: 'elevations',
  runbook: 'elevations',
  measure: 'indicator',
  title: 'Elevations',
  description:
    'Rights that were given for a time: how many were issued, how many ended (counted apart), and how many outlived their window.',
  owner: 'security',
  value: 'count',
  goodMeans: 'issued',
  badMeans: '',
  attempts: [{ kinds: ['elevation_granted', 'elevation_ended'] }],
  good: [{ kinds: ['elevation_granted'], outcomes: ['success', 'unknown'] }],
  excluded: [{ kinds: ['elevation_ended'], outcomes: ['success', 'unknown'] }],
  bad: [],
  figures: ['elevations_outlived'],
  latenessSeconds: 15,
  shadow: false,
  splitBy: ['source_id', 'issuer'],
});
