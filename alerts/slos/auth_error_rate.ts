import { defineSlo } from '../../model/define_slo.ts';

/** What the caller got wrong, in the words of `instrumentation/` and of the gateways' sources. */
const CALLER_ERRORS = [
  'expired',
  'inactive',
  'insufficient_scope',
  'invalid_audience',
  'invalid_binding',
  'invalid_claim',
  'invalid_issuer',
  'malformed',
  'missing_token',
  'not_yet_valid',
  'revoked',
  'token_in_url',
];

export default defineSlo({
  id: 'auth_error_rate',
  runbook: 'auth_error_rate',
  measure: 'ratio',
  title: 'Authorization errors at APIs',
  description:
    'Share of API calls that were not refused for a reason on our side: a key nobody knows, a validation that could not be made, throttling. What callers got wrong is counted apart.',
  owner: 'api-platform',
  objective: 0.999,
  attempts: [
    { kinds: ['api_accessed', 'rate_limited'] },
    // Throttled at the token endpoint: refused there as well.
    { kinds: ['token_request_failed'], httpStatus: { min: 429, max: 429 } },
  ],
  good: [
    { kinds: ['api_accessed'], outcomes: ['success'] },
    // Refused or failed for another reason than authorization.
    { kinds: ['api_accessed'], errorCodes: [''], httpStatus: { min: 400, max: 400 } },
    { kinds: ['api_accessed'], errorCodes: [''], httpStatus: { min: 404, max: 428 } },
    { kinds: ['api_accessed'], errorCodes: [''], httpStatus: { min: 430, max: 599 } },
  ],
  excluded: [
    { kinds: ['api_accessed'], errorCodes: CALLER_ERRORS },
    {
      kinds: ['api_accessed'],
      oauthErrors: ['insufficient_scope', 'invalid_request', 'use_dpop_nonce'],
    },
    { kinds: ['api_accessed'], httpStatus: { min: 0, max: 0 } },
  ],
  // A refusal whose cause nobody names is bad: unknown is not healthy.
  bad: [
    { kinds: ['api_accessed'], httpStatus: { min: 401, max: 403 } },
    { httpStatus: { min: 429, max: 429 } },
    { kinds: ['rate_limited'] },
    {
      errorCodes: [
        'validation_unavailable',
        'invalid_signature',
        'unknown_key',
        'algorithm_not_allowed',
      ],
    },
  ],
  tiers: ['fast', 'medium', 'slow', 'drift'],
  minBadEvents: 20,
  ticketBadEvents: 200,
  latenessSeconds: 15,
  shadow: false,
  splitBy: ['service', 'source_id', 'subject_type'],
});
