import { defineSlo } from '../../model/define_slo.ts';

export default defineSlo({
  id: 'unexpected_scope_grants',
  runbook: 'unexpected_scope_grants',
  measure: 'counted',
  title: 'Unexpected grants of critical scopes',
  description:
    'Tokens that were issued with critical scopes beyond what their client is registered for. None is expected; one is a misconfiguration or an attack.',
  owner: 'security',
  allowed: 0,
  rules: ['scope_beyond_registration', 'unexpected_scope_grant'],
  severityMin: 'high',
  latenessSeconds: 60,
  shadow: false,
  splitBy: ['issuer'],
});
