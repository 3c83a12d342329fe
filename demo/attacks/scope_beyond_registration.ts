import { answerOf, defineAttack } from '../attack.ts';

/**
 * Someone adds `orders:admin` to the orders API, but the authorization server's policy does not compare it
 * with registrations. A client asks for it and gets it.
 */
export default defineAttack({
  id: 'scope_beyond_registration',
  title: 'Client obtains a scope it is not registered for',
  rule: 'scope_beyond_registration',
  clientId: 'partner-portal',
  async run(world) {
    const { faults } = world.authorizationServer;
    const application = world.application('partner-portal');
    const person = world.random.pick(world.subjects);
    const scopes = [...application.definition.scopes, 'orders:admin'];
    faults.registrationIgnored.add(application.definition.clientId);
    try {
      const session = await application.signIn(world.browserAt(person.home), person, { scopes });
      const path = '/orders/99';
      return [
        { what: 'granted scopes', answer: session.tokens.scopes.join(' ') },
        {
          what: 'client deletes an order',
          answer: await world.call(session.tokens.access, 'DELETE', path, session.vantage),
        },
        {
          what: 'client covers its traces',
          answer: await answerOf(application.revoke(session, session.tokens.refresh ?? '')),
        },
      ];
    } finally {
      faults.registrationIgnored.delete(application.definition.clientId);
    }
  },
});
