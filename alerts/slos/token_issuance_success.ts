import { defineSlo } from '../../model/define_slo.ts';
import { CLIENT_ERRORS } from './_client_errors.ts';

export default defineSlo({
  measure: 'ratio',
  id: 'token_issuance_success',
  title: 'Token issuance success',
  description:
    'Share of token requests that the authorization server answered with tokens, client errors left out. When it falls, people cannot sign in and services cannot call each other.',
  owner: 'identity-platform',
  runbook: 'token_issuance_success',
  objective: 0.999,
  attempts: [
    { kinds: ['token_issued', 'token_refreshed', 'token_exchanged', 'token_request_failed'] },
  ],
  good: [{ kinds: ['token_issued', 'token_refreshed', 'token_exchanged'], outcomes: ['success'] }],
  excluded: [
    // A server error that names a client error is still a server error, hence the bounds on the status.
    {
      kinds: ['token_request_failed'],
      oauthErrors: CLIENT_ERRORS,
      httpStatus: { min: 0, max: 499 },
    },
    {
      kinds: ['token_request_failed'],
      oauthErrors: [''],
      httpStatus: { min: 400, max: 499 },
    },
  ],
  // A failure whose cause nobody names is bad: unknown is not healthy.
  bad: [
    { kinds: ['token_request_failed'] },
    {
      kinds: ['token_issued', 'token_refreshed', 'token_exchanged'],
      outcomes: ['failure', 'denied'],
    },
  ],
  tiers: ['fast', 'medium', 'slow', 'drift'],
  minBadEvents: 10,
  latenessSeconds: 15,
  shadow: false,
  splitBy: ['issuer', 'grant_type', 'subject_type'],
  ticketBadEvents: 50,
});
