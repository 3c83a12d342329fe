import { defineSlo } from '../../model/define_slo.ts';

/** Grants that somebody waits for; machines have time. */
const INTERACTIVE = [
  'authorization_code',
  'refresh_token',
  'urn:ietf:params:oauth:grant-type:device_code',
  'implicit',
  'password',
];

export default defineSlo({
  id: 'token_issuance_latency',
  runbook: 'token_issuance_latency',
  measure: 'ratio',
  title: 'Token issuance latency',
  description:
    'Share of token requests of people that were answered in less than 200 ms. Above that, signing in and every silent refresh feels slow.',
  owner: 'identity-platform',
  objective: 0.95,
  attempts: [
    {
      kinds: ['token_issued', 'token_refreshed'],
      outcomes: ['success'],
      grantTypes: INTERACTIVE,
    },
  ],
  good: [{ underMs: 200 }],
  excluded: [],
  // A source that tells no durations is no slow one: its requests stay unclassified.
  bad: [{ isTimed: true }],
  tiers: ['fast', 'medium', 'slow', 'drift'],
  minBadEvents: 50,
  latenessSeconds: 15,
  shadow: false,
  splitBy: ['issuer', 'grant_type'],
});
