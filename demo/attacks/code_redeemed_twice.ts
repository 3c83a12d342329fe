import { answerOf, defineAttack, THIEVES } from '../attack.ts';

/** The authorization code leaks with the redirect (a proxy log, a referrer) and is presented a second time. */
export default defineAttack({
  id: 'code_redeemed_twice',
  title: 'Authorization code redeemed again',
  rule: 'code_redeemed_twice',
  clientId: 'fleet-map',
  async run(world) {
    const victim = world.random.pick(world.subjects);
    const application = world.application('fleet-map');
    const session = await application.signIn(world.browserAt(victim.office), victim);
    if (session.callback === undefined) throw new Error('signed in without a code');
    const [, , thief] = THIEVES;
    return [
      { what: 'victim signs in', answer: 'accepted' },
      {
        what: 'thief redeems the code again',
        answer: await answerOf(application.redeem(session.callback, thief)),
      },
    ];
  },
});
