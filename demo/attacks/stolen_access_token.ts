import { defineAttack, THIEVES } from '../attack.ts';

/** A page script sends the single-page application's access token to a thief, who calls the API with it. */
export default defineAttack({
  id: 'stolen_access_token',
  title: 'Stolen access token used from another network',
  rule: 'access_token_replay',
  clientId: 'catalogue-spa',
  async run(world) {
    const victim = world.random.pick(world.subjects);
    const application = world.application('catalogue-spa');
    const session = await application.signIn(world.browserAt(victim.home), victim);
    const token = session.tokens.access;
    const [thief] = THIEVES;
    return [
      {
        what: 'victim reads orders',
        answer: await world.call(token, 'GET', '/orders', victim.home),
      },
      { what: 'thief reads orders', answer: await world.call(token, 'GET', '/orders', thief) },
      { what: 'thief reads one', answer: await world.call(token, 'GET', '/orders/17', thief) },
      { what: 'victim reads on', answer: await world.call(token, 'GET', '/orders/4', victim.home) },
    ];
  },
});
