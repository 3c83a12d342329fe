import { defineSlo } from '../../model/define_slo.ts';

export default defineSlo({
  id: 'introspection_errors',
  runbook: 'introspection_errors',
  measure: 'ratio',
  title: 'Introspection reliability',
  description:
    'Share of introspection calls that were answered. While it falls, APIs refuse valid tokens, or accept what they cannot check.',
  owner: 'identity-platform',
  objective: 0.9999,
  attempts: [
    { kinds: ['token_introspected'] },
    // What an API could not have checked never reached the server: the API tells it.
    { kinds: ['token_rejected'], errorCodes: ['validation_unavailable'] },
  ],
  good: [{ kinds: ['token_introspected'], outcomes: ['success'] }],
  excluded: [{ kinds: ['token_introspected'], httpStatus: { min: 400, max: 499 } }],
  bad: [
    { kinds: ['token_introspected'], outcomes: ['failure', 'denied'] },
    { kinds: ['token_rejected'] },
  ],
  tiers: ['fast', 'medium', 'slow', 'drift'],
  minBadEvents: 10,
  ticketBadEvents: 20,
  latenessSeconds: 15,
  shadow: false,
  splitBy: ['issuer', 'service', 'source_id'],
});
