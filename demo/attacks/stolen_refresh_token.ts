import { answerOf, defineAttack, THIEVES } from '../attack.ts';

/**
 * A refresh token is copied from a phone's backup. By the time the thief tries it, the phone has rotated it
 * and used its successor, so two parties hold one family (RFC 9700 section 4.14.2).
 */
export default defineAttack({
  id: 'stolen_refresh_token',
  title: 'Rotated refresh token used by a thief',
  rule: 'refresh_token_reuse',
  clientId: 'shop-android',
  verdict: 'theft',
  async run(world) {
    const victim = world.random.pick(world.subjects);
    const application = world.application('shop-android');
    const session = await application.signIn(world.browserAt(victim.phoneAtHome), victim);
    const stolen = session.tokens.refresh ?? '';
    const rotated = await answerOf(application.refresh(session));
    const path = '/orders';
    const used = await world.call(session.tokens.access, 'GET', path, session.vantage);
    const again = await answerOf(application.refresh(session));
    const theft = await answerOf(application.refreshWith(stolen, THIEVES[1]));
    return [
      { what: 'victim refreshes', answer: rotated },
      { what: 'victim reads orders', answer: used },
      { what: 'victim refreshes again', answer: again },
      { what: 'thief refreshes with the first token', answer: theft },
    ];
  },
});
