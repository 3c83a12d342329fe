import { defineSlo } from '../../model/define_slo.ts';

export default defineSlo({
  id: 'login_success',
  runbook: 'login_success',
  measure: 'indicator',
  title: 'Login success',
  description:
    'Share of sign-ins that succeeded. A fall is a broken login page or a wave of guessing; the findings tell which.',
  owner: 'identity-platform',
  value: 'share',
  goodMeans: 'signed in',
  badMeans: 'failed',
  attempts: [{ kinds: ['login', 'login_failed'] }],
  good: [{ kinds: ['login'], outcomes: ['success'] }],
  excluded: [{ kinds: ['login'], outcomes: ['challenge', 'pending'] }],
  bad: [{ kinds: ['login_failed'] }, { kinds: ['login'], outcomes: ['failure', 'denied'] }],
  figures: [],
  latenessSeconds: 15,
  shadow: false,
  splitBy: ['issuer', 'source_id'],
});
