import { answerOf, defineAttack } from '../attack.ts';

/** The person allowed reading only; the authorization server's refresh grants writing too (RFC 6749 section 6). */
export default defineAttack({
  id: 'scope_growth_on_refresh',
  title: 'Refresh returns more scopes than were granted',
  rule: 'scope_growth_on_refresh',
  clientId: 'wallet-ios',
  async run(world) {
    const { faults } = world.authorizationServer;
    const application = world.application('wallet-ios');
    const person = world.random.pick(world.subjects);
    const scopes = ['openid', 'offline_access', 'payments:read'];
    const browser = world.browserAt(person.phoneAtHome);
    const session = await application.signIn(browser, person, { scopes });
    const granted = session.tokens.scopes.join(' ');
    faults.refreshWidens.add(application.definition.clientId);
    try {
      const refreshed = await answerOf(application.refresh(session));
      return [
        { what: 'granted scopes', answer: granted },
        { what: 'client refreshes', answer: refreshed },
        { what: 'scopes after the refresh', answer: session.tokens.scopes.join(' ') },
        {
          what: 'client pays',
          answer: await world.call(session.tokens.access, 'POST', '/payments', session.vantage),
        },
      ];
    } finally {
      faults.refreshWidens.delete(application.definition.clientId);
    }
  },
});
