import { setTimeout as wait } from 'node:timers/promises';
import { answerOf, defineAttack } from '../attack.ts';
import { REVOCATION_WAIT_MS } from '../grantscope_settings.ts';

/**
 * The person loses the phone and support revokes its token, but the payments API goes on taking it for
 * statements, whose cache of introspection answers outlives everything else's.
 */
export default defineAttack({
  id: 'token_used_after_revocation',
  title: 'Access token accepted after its revocation',
  rule: 'token_used_after_revocation',
  clientId: 'wallet-android',
  async run(world) {
    const person = world.random.pick(world.subjects);
    const application = world.application('wallet-android');
    const session = await application.signIn(world.browserAt(person.phoneAtHome), person);
    const { access } = session.tokens;
    const read = (path: string): Promise<number> =>
      world.call(access, 'GET', path, session.vantage);
    const steps = [
      { what: 'phone reads a statement', answer: await read('/statements/2026-01') },
      { what: 'phone reads payments', answer: await read('/payments') },
      {
        what: 'support revokes the token',
        answer: await answerOf(application.revoke(session, access)),
      },
    ];
    // Until then every resource server may still believe its cache.
    await wait(REVOCATION_WAIT_MS);
    return [
      ...steps,
      { what: 'payments refuses', answer: await read('/payments') },
      { what: 'statements still answers', answer: await read('/statements/2026-02') },
    ];
  },
});
