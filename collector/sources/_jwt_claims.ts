import type { AuthEventDraft, TokenDraft } from '../../model/draft.ts';
import type { Binding } from '../../model/kinds.ts';
import { given, isJson, type Json, objectIn, own, textIn, textList, timeNs } from './_reading.ts';

/** How deep the claims of a JWT may lie in a gateway's metadata. */
const CLAIMS_DEPTH_MAX = 4;
const CLAIMS_TEXT_LENGTH_MAX = 16_384;
const MEMBERS_MAX = 500;

/** The claims of a verified JWT within a value, which may be an object or its JSON text. */
export function findClaims(value: unknown, depth = 0): Json | undefined {
  if (typeof value === 'string') return findClaims(parsedObject(value), depth);
  if (!isJson(value) || depth > CLAIMS_DEPTH_MAX) return undefined;
  if (['iss', 'sub', 'jti'].some((c) => typeof own(value, c) === 'string')) return value;
  for (const member of Object.values(value).slice(0, MEMBERS_MAX)) {
    const claims = isJson(member) ? findClaims(member, depth + 1) : undefined;
    if (claims !== undefined) return claims;
  }
  return undefined;
}

function parsedObject(json: string): unknown {
  if (!json.startsWith('{') || json.length > CLAIMS_TEXT_LENGTH_MAX) return undefined;
  try {
    return JSON.parse(json) as unknown;
  } catch {
    return undefined;
  }
}

/** RFC 7800 confirmation: which proof the token is bound to. */
function bindingOf(claims: Json): { binding?: Binding; binding_thumbprint?: string } {
  const cnf = objectIn(claims, 'cnf');
  const jkt = textIn(cnf, 'jkt');
  if (jkt !== undefined) return { binding: 'dpop', binding_thumbprint: jkt };
  const x5t = textIn(cnf, 'x5t#S256');
  return x5t === undefined ? {} : { binding: 'mtls', binding_thumbprint: x5t };
}

/** A claim's text; log formats write `-` for a claim that is not there. */
function claim(claims: Json, ...names: readonly string[]): string | undefined {
  const text = textIn(claims, ...names);
  return text === '-' ? undefined : text;
}

/** What the claims of an access token say (RFC 9068 section 2.2, RFC 7662 section 2.2). */
export function fromClaims(claims: Json | undefined): Partial<AuthEventDraft> {
  if (claims === undefined) return {};
  const sub = claim(claims, 'sub');
  const sid = claim(claims, 'sid');
  const token: TokenDraft = given({
    role: 'presented',
    type: 'access',
    jti: claim(claims, 'jti'),
    issued_at: timeNs(own(claims, 'iat')),
    expires_at: timeNs(own(claims, 'exp')),
  });
  return given({
    issuer: claim(claims, 'iss'),
    audience: textList(own(claims, 'aud')),
    subject: sub === undefined ? undefined : { id: sub },
    client: given({ id: claim(claims, 'client_id', 'azp') }),
    scopes_granted: textList(own(claims, 'scope') ?? own(claims, 'scp')),
    session: sid === undefined ? undefined : { id: sid },
    acr: claim(claims, 'acr'),
    amr: textList(own(claims, 'amr')),
    tokens: token.jti === undefined ? undefined : [token],
    ...bindingOf(claims),
  });
}

/** Fields that claims give, besides the token itself, for `provides` lists. */
export const CLAIM_FIELDS = [
  ...['issuer', 'audience', 'subject.ref', 'client.id', 'scopes_granted', 'session_ref'],
  ...['acr', 'amr', 'binding', 'binding_thumbprint', 'tokens.issued_at', 'tokens.expires_at'],
] as const;
