import { defineSlo } from '../../model/define_slo.ts';
import { CLIENT_ERRORS } from './_client_errors.ts';

export default defineSlo({
  id: 'refresh_success',
  runbook: 'refresh_success',
  measure: 'ratio',
  title: 'Refresh success',
  description:
    'Share of refresh requests that were answered with tokens, what clients got wrong left out. When it falls, people are signed out in the middle of their work.',
  owner: 'identity-platform',
  objective: 0.9995,
  attempts: [
    { kinds: ['token_refreshed'] },
    { kinds: ['token_request_failed'], grantTypes: ['refresh_token'] },
  ],
  good: [{ kinds: ['token_refreshed'], outcomes: ['success'] }],
  // invalid_grant is what an old token gets, also one that lost a race of rotation: the other request of the race was served.
  excluded: [
    { oauthErrors: CLIENT_ERRORS, httpStatus: { min: 0, max: 499 } },
    { oauthErrors: [''], httpStatus: { min: 400, max: 499 } },
  ],
  bad: [{ outcomes: ['failure', 'denied'] }],
  tiers: ['fast', 'medium', 'slow', 'drift'],
  minBadEvents: 10,
  ticketBadEvents: 50,
  latenessSeconds: 15,
  shadow: false,
  splitBy: ['issuer', 'source_id'],
});
