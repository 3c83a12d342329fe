import { defineSlo } from '../../model/define_slo.ts';
import { CLIENT_ERRORS } from './_client_errors.ts';

/** Grants that nobody waits for in person. */
const MACHINE = [
  'client_credentials',
  'urn:ietf:params:oauth:grant-type:jwt-bearer',
  'urn:ietf:params:oauth:grant-type:saml2-bearer',
  'urn:ietf:params:oauth:grant-type:token-exchange',
];
export default defineSlo({
  id: 'pipeline_token_success',
  runbook: 'pipeline_token_success',
  measure: 'ratio',
  title: 'Tokens for automation',
  description:
    'Share of token requests of services and pipelines that were answered with tokens, client errors left out. When it falls, deployments and jobs stand still.',
  owner: 'identity-platform',
  objective: 0.9999,
  attempts: [
    {
      kinds: ['token_issued', 'token_exchanged', 'token_request_failed'],
      grantTypes: MACHINE,
    },
  ],
  good: [{ kinds: ['token_issued', 'token_exchanged'], outcomes: ['success'] }],
  excluded: [
    { oauthErrors: CLIENT_ERRORS, httpStatus: { min: 0, max: 499 } },
    { oauthErrors: [''], httpStatus: { min: 400, max: 499 } },
  ],
  bad: [{ outcomes: ['failure', 'denied'] }],
  tiers: ['fast', 'medium', 'slow', 'drift'],
  minBadEvents: 10,
  ticketBadEvents: 20,
  latenessSeconds: 15,
  shadow: false,
  splitBy: ['issuer', 'grant_type'],
});
