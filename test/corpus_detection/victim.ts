import { uaFamily } from '../../collector/processors/enrich.ts';
import { attackMoment, type Ground } from './attack.ts';
import { clientsOf, type ClientSpec } from './clients.ts';
import type { Happening } from './corpus.ts';
import { netOf, type Net, type Person } from './people.ts';
import { API, ISSUER } from './sessions.ts';

const AS = { id: 'keycloak', instance: 'as-1' } as const;

/** Somebody's session, as the attacker finds it. */
export interface Victim {
  readonly person: Person;
  readonly client: ClientSpec;
  /** When the attack begins, ms. */
  readonly at: number;
  readonly net: Net;
  /** What all events of the server about the session share. */
  readonly common: Required<
    Pick<Happening, 'source' | 'issuer' | 'client' | 'subject' | 'grant_ref'>
  >;
  /** Family of the user agent. */
  readonly agent: string;
  /** Rotation family of the refresh tokens. */
  readonly family: string;
  readonly network: string;
}

/** A session of somebody with a single-page client, at a moment of the judged days. */
export function victim(ground: Ground): Victim {
  const { corpus, random } = ground;
  const person = random.pick(ground.people);
  const client = random.pick(clientsOf('spa'));
  const at = attackMoment(random);
  const net = netOf(corpus, person.home, person.laptop, at, random.int(0, 99));
  const common = {
    ...{ source: AS, issuer: ISSUER, client: { id: client.id, auth_method: 'none' } },
    ...{ subject: { ref: person.subject, type: 'user' as const }, grant_ref: corpus.ref() },
  };
  const agent = uaFamily(net.user_agent ?? '');
  return {
    person,
    client,
    at,
    net,
    common,
    agent,
    family: corpus.ref(),
    network: net.network ?? '',
  };
}

/** A call that the gateway lets pass. */
export const api = (ref: string, net: Net, route: string): Happening => ({
  ...{ kind: 'api_accessed', outcome: 'success', net, issuer: ISSUER, audience: [API] },
  ...{ source: { id: 'envoy', instance: 'gateway-1' }, http: { route, status: 200 } },
  tokens: [{ role: 'presented', type: 'access', ref }],
});
