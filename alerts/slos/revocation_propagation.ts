import { defineSlo } from '../../model/define_slo.ts';

export default defineSlo({
  id: 'revocation_propagation',
  runbook: 'revocation_propagation',
  measure: 'propagation',
  title: 'Revocation propagation',
  description:
    'Share of revoked tokens, at each API that saw them again, whose last acceptance came within 60 seconds of the revocation. Later acceptances are the time that a thief still has.',
  owner: 'identity-platform',
  objective: 0.99,
  withinSeconds: 60,
  tiers: ['slow', 'drift'],
  minBadEvents: 3,
  ticketBadEvents: 5,
  latenessSeconds: 120,
  shadow: false,
  splitBy: ['service', 'source_id'],
});
