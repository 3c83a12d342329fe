import { defineSlo } from '../../model/define_slo.ts';

export default defineSlo({
  id: 'device_flow_completion',
  runbook: 'device_flow_completion',
  measure: 'indicator',
  title: 'Device flow completion',
  description:
    'Share of device flows that ended with a token, and how long they took. A low share is a code that people cannot enter in time.',
  owner: 'identity-platform',
  value: 'share',
  goodMeans: 'a token',
  badMeans: 'expired or refused',
  attempts: [
    {
      kinds: ['token_issued', 'token_request_failed'],
      grantTypes: ['urn:ietf:params:oauth:grant-type:device_code', 'device_code'],
    },
  ],
  good: [{ kinds: ['token_issued'], outcomes: ['success'] }],
  excluded: [
    { oauthErrors: ['authorization_pending', 'slow_down', 'invalid_client', 'use_dpop_nonce'] },
  ],
  bad: [{ oauthErrors: ['expired_token', 'access_denied', 'invalid_grant'] }],
  figures: ['device_flow_seconds'],
  latenessSeconds: 15,
  shadow: false,
  splitBy: ['issuer'],
});
