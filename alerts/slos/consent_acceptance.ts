import { defineSlo } from '../../model/define_slo.ts';

export default defineSlo({
  id: 'consent_acceptance',
  runbook: 'consent_acceptance',
  measure: 'indicator',
  title: 'Consent acceptance',
  description:
    'Share of consent pages that people accepted. A fall after a release is a page that frightens; a rise with a new client may be phishing.',
  owner: 'identity-platform',
  value: 'share',
  goodMeans: 'accepted',
  badMeans: 'declined',
  attempts: [{ kinds: ['consent_granted', 'consent_denied'] }],
  good: [{ kinds: ['consent_granted'], outcomes: ['success', 'unknown'] }],
  excluded: [],
  bad: [{ kinds: ['consent_denied'] }],
  figures: [],
  latenessSeconds: 15,
  shadow: false,
  splitBy: ['issuer', 'source_id'],
});
