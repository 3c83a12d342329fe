import { defineAttack, THIEVES, type AttackStep } from '../attack.ts';

/** One digit instead of a letter, and a registered host as the user part of another (RFC 3986 section 3.2.1). */
const LOOKALIKES = [
  'https://loyalty.harb0ur.example/callback',
  'https://loyalty.harbour.example@harbour-login.example/callback',
] as const;

/** Tries redirect URIs that a careless comparison, or a person, takes for the registered one. */
export default defineAttack({
  id: 'redirect_lookalike',
  title: 'Redirect URI that imitates a registered one',
  rule: 'redirect_lookalike',
  clientId: 'loyalty',
  async run(world) {
    const application = world.application('loyalty');
    const person = world.random.pick(world.subjects);
    const steps: AttackStep[] = [];
    for (const redirectUri of LOOKALIKES) {
      const { arrival } = await application.authorize(world.browserAt(THIEVES[0]), person, {
        redirectUri,
      });
      const answer = arrival.at === 'server' ? arrival.status : 'sent away';
      steps.push({ what: `authorization with ${redirectUri}`, answer });
    }
    return steps;
  },
});
