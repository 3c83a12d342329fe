import type { Attack } from './attack.ts';
import { CLIENT_ATTACKS } from './attacks_clients.ts';
import { REDIRECT_ATTACKS } from './attacks_redirect.ts';
import { REPLAY_ATTACKS } from './attacks_replay.ts';
import { SCOPE_ATTACKS } from './attacks_scope.ts';
import { SERVICE_ATTACKS } from './attacks_services.ts';
import { SESSION_ATTACKS } from './attacks_sessions.ts';

/** Every way to attack that the corpus plants; at least one for each rule. */
export const ATTACKS: readonly Attack[] = [
  ...REPLAY_ATTACKS,
  ...SESSION_ATTACKS,
  ...SCOPE_ATTACKS,
  ...REDIRECT_ATTACKS,
  ...CLIENT_ATTACKS,
  ...SERVICE_ATTACKS,
];
