import { defineAttack, THIEVES, type AttackStep } from '../attack.ts';

/** How many addresses are tried; the detector's default threshold is five in ten minutes. */
const PROBES = 6;

/** Tries which redirect URIs an authorization server lets through (RFC 9700 section 4.1). */
export default defineAttack({
  id: 'redirect_probing',
  title: 'Unregistered redirect URIs probed',
  rule: 'redirect_probing',
  clientId: 'storefront',
  async run(world) {
    const application = world.application('storefront');
    const person = world.random.pick(world.subjects);
    const steps: AttackStep[] = [];
    for (let probe = 1; probe <= PROBES; probe += 1) {
      const redirectUri = `https://collect-${probe}.attacker.example/landing`;
      const { arrival } = await application.authorize(world.browserAt(THIEVES[2]), person, {
        redirectUri,
      });
      const answer = arrival.at === 'server' ? arrival.status : 'sent away';
      steps.push({ what: `authorization with ${redirectUri}`, answer });
    }
    return steps;
  },
});
