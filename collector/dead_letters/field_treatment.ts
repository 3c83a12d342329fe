/**
 * How a field of a refused record is kept. No adapter has understood the record, so there is no allow-list:
 * names decide, and value scanners look at what names let pass.
 */
export type Treatment =
  /** The value becomes a reference: secrets, people, sessions, grants, ids of tokens. */
  | 'reference'
  /** The same, but for a value that is a reference or names itself: a UUID, with or without a prefix. */
  | 'own_reference'
  /** A field made for ids: scrubbed, but not for looking random. */
  | 'identifier'
  /** The URL of an issuer, which keeps what looks random in its path. */
  | 'issuer'
  | 'text';

/** Where a field stands. */
export interface Place {
  /** The name of the object that holds it; '' at the top. */
  readonly parent: string;
  /** True below a name whose content is a person, a session, a grant or a token. */
  readonly isPersonal: boolean;
  /** True where a field beside it is a person's, so that a bare `name` is that person's. */
  readonly isProfile?: boolean;
}

export const TOP: Place = { parent: '', isPersonal: false };

const words = (text: string): ReadonlySet<string> => new Set(text.trim().split(/\s+/));

/** Names (without `_`, `-`, spaces, lower case) whose value is a person, a session, a grant or a token's id. */
const REFERENCED = words(`
  user userid username uid sub subject subjectid subjectname email mail emailaddress useremail login loginname
  loginid loginhint preferredusername givenname familyname firstname lastname middlename fullname displayname
  nickname phone phonenumber mobile telephone birthdate streetaddress account accountid accountname upn
  userprincipalname samaccountname principal principalid principalname actor actorid actorname impersonator
  impersonatorid impersonatorusername enduser enduserid userfullname userhash memberid customerid employeeid ssn
  person personid owner ownerid identityprovideridentity identityproviderusername
  session sessionid sid sessionuid codeid authsessionid authsessionparentid usersession grant grantid`);

/** Names of references made elsewhere, and of token ids: a UUID is kept as it is (see `KeyRing.refOfJti`). */
const OWN_REFERENCES = words(`
  jti tokenid accesstokenid refreshtokenid vendorid sessionref grantref subjectref actorref familyref parentref`);

/** Objects whose members are about a person, a session, a grant or a token. */
const PERSONAL = words(`
  user enduser subject sub actor act principal account person owner impersonator identity session grant token
  tokens family parent`);

/** Members of those that say what it is, not who or which. */
const DESCRIBING = words(`
  type role kind refkind format kid alg counter issuedat expiresat iat exp nbf expiresin time timestamp realm
  realmid realmname tenant issuer iss clientid azp aud audience scope scopes granttype status outcome error
  reason method agent version`);

/** Names made for ids of things. */
const IDENTIFIERS = words(`
  id clientid client requestedclientid azp aud audience resource kid eventid requestid traceid spanid
  correlationid transactionid thumbprint jkt x5t ja4 decisionid bundlerevision revision realmid instance hostname
  xrequestid keyid`);

const ISSUERS = words('iss issuer');

const plain = (name: string): string => name.toLowerCase().replace(/[\s_-]/g, '');
const segments = (name: string): string[] =>
  name
    .split(/[.[\]/:]/)
    .filter((s) => s !== '')
    .map(plain);

const OF_PERSONS = words(`
  sub email username preferredusername givenname familyname firstname lastname nickname phonenumber birthdate`);

/** True for the names of an object that describes a person: claims, a profile. */
export function isProfile(names: readonly string[]): boolean {
  return names.some((name) => OF_PERSONS.has(plain(name)));
}

/** What a field's own name and its place make of its value. */
export function treatmentOf(
  name: string,
  place: Place,
  isSecretKey: (key: string) => boolean,
): Treatment {
  const path = place.parent === '' ? name : `${place.parent}.${name}`;
  if (isSecretKey(path)) return 'reference';
  const parts = segments(name);
  const last = parts.at(-1) ?? '';
  if (OWN_REFERENCES.has(last)) return 'own_reference';
  if (REFERENCED.has(last) || REFERENCED.has(parts.join(''))) return 'reference';
  if (place.isProfile === true && last === 'name') return 'reference';
  const isPersonal = place.isPersonal || parts.slice(0, -1).some((s) => PERSONAL.has(s));
  if (isPersonal && last === 'ref') return 'own_reference';
  if (isPersonal && !DESCRIBING.has(last)) return 'reference';
  if (ISSUERS.has(last)) return 'issuer';
  return IDENTIFIERS.has(last) ? 'identifier' : 'text';
}

/** Where the members of the object with this name stand. */
export function placeWithin(
  name: string,
  place: Place,
  isSecretKey: (key: string) => boolean,
): Place {
  const isPersonal =
    place.isPersonal || isSecretKey(name) || segments(name).some((s) => PERSONAL.has(s));
  return { parent: name, isPersonal };
}
