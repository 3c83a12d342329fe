import { WWWAuthenticateChallengeError } from 'openid-client';
import { loadDefinitions } from '../runtime/registry.ts';
import type { Vantage } from './population.ts';
import type { World } from './world.ts';

/** What an attack did, for the log and for tests: each step with the answer it got. */
export interface AttackStep {
  readonly what: string;
  /** HTTP status, or the OAuth error code. */
  readonly answer: string | number;
}

/** One attack = one file in `demo/attacks/`, this as default export; `id` = file name. */
export interface AttackDefinition {
  readonly id: string;
  readonly title: string;
  /** The detector that has to find it, ... */
  readonly rule: string;
  /** ... about this client ... */
  readonly clientId: string;
  /** ... with this verdict, where the detector tells several apart. */
  readonly verdict?: string;
  /** Carries the attack out, against a world that may be serving honest traffic at the same time. */
  run(world: World): Promise<readonly AttackStep[]>;
}

export function defineAttack(definition: AttackDefinition): AttackDefinition {
  return definition;
}

/** All attacks, sorted by id. */
export function loadAttacks(): Promise<readonly AttackDefinition[]> {
  return loadDefinitions(new URL('./attacks/', import.meta.url), checkAttack);
}

function checkAttack(candidate: unknown): AttackDefinition {
  const fits =
    typeof candidate === 'object' &&
    candidate !== null &&
    ['id', 'title', 'rule', 'clientId', 'run'].every((key) => key in candidate);
  if (!fits)
    throw new TypeError('default export must be defineAttack({ id, title, rule, clientId, run })');
  return candidate as AttackDefinition;
}

/** Where thieves sit: networks that no honest party of the demo uses (RFC 5737), with tools of their own. */
export const THIEVES: readonly [Vantage, Vantage, Vantage] = [
  { ip: '203.0.113.66', userAgent: 'curl/8.5.0' },
  { ip: '198.51.100.23', userAgent: 'python-requests/2.32.3' },
  { ip: '192.0.2.148', userAgent: 'Go-http-client/2.0' },
];

/** The OAuth error of a refused request, or `accepted`. Anything else that goes wrong is thrown on. */
export async function answerOf(work: Promise<unknown>): Promise<string> {
  try {
    await work;
    return 'accepted';
  } catch (error) {
    if (error instanceof WWWAuthenticateChallengeError) return 'invalid_client';
    if (typeof error === 'object' && error !== null && 'error' in error) {
      if (typeof error.error === 'string') return error.error;
    }
    throw error;
  }
}
