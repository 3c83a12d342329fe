import type { Attributes, OtlpLogRecord, OtlpSpan } from '../../collector/receivers/otlp/types.ts';
import { ATTR } from '../../model/attributes.ts';
import { Random } from './random.ts';

/**
 * Made-up secrets, each used in one place alone, so that one that comes out again says by itself where redaction failed. Nothing
 * of them is written down here: they are made at run time from a seed.
 */
export class Canaries {
  readonly #random: Random;
  readonly #places = new Map<string, string>();

  constructor(seed: number) {
    this.#random = new Random(seed);
  }

  /** Where each was planted, by the secret. */
  get places(): ReadonlyMap<string, string> {
    return this.#places;
  }

  /** A secret for a place: letters of both cases and digits, as tokens are. */
  make(place: string): string {
    const secret = `c9Nr${this.#random.base62(30)}7xQ`;
    this.#places.set(secret, place);
    return secret;
  }

  /** A whole JWT, whose signature is the secret. */
  jwt(place: string): string {
    const parts = [
      { alg: 'ES256', kid: 'k1' },
      { iss: 'https://as.example', exp: 1 },
    ];
    const head = parts.map((p) => Buffer.from(JSON.stringify(p)).toString('base64url')).join('.');
    return `${head}.${this.make(place)}${this.#random.base64url(40)}`;
  }

  /** Every hiding place at once, each with a secret of its own. For fields of ids: what gives a secret away there, too. */
  everywhere(at: string): string {
    const c = (place: string): string => this.make(`${at}: ${place}`);
    const nest = (value: unknown, times: number): string =>
      times === 0 ? JSON.stringify(value) : nest({ body: JSON.stringify(value) }, times - 1);
    const percent = (text: string): string =>
      Buffer.from(text).toString('hex').replace(/../g, '%$&');
    const split = this.jwt(`${at}: JWT split in two`);
    return [
      `https://user:${c('userinfo')}@h.example/cb?code=${c('query')}&x=1#access_token=${c('fragment')}`,
      `Referer: https://h.example/cb?session_code=${c('Referer')}`,
      `Location: https://h.example/cb#id_token=${c('Location')}&nonce=${c('nonce')}`,
      `grant_type=password&password=${c('form')}&client_secret=${c('form secret')}`,
      nest({ refresh_token: c('JSON') }, 0),
      nest({ client_assertion: c('JSON in a string') }, 1),
      nest({ device_code: c('JSON in a string, twice') }, 2),
      `r=https%3A%2F%2Fh%3Fcode%3D${c('percent')}%26x%3D1`,
      `r=h%253Fstate%253D${c('percent twice')}%2526x%253D1`,
      `${percent('code=')}${percent(c('percent, whole'))}`,
      `co\u200bde=${c('zero-width key')}`,
      `AcCeSs_ToKeN=${c('mixed case key')}`,
      `\uff43ode=${c('full-width key')}`,
      `bEaReR ${c('Bearer')}`,
      `Authorization: Basic ${Buffer.from(`web:${c('Basic')}`).toString('base64')}`,
      `DPoP: ${this.jwt(`${at}: DPoP proof`)}`,
      this.jwt(`${at}: JWT`),
      `${split.slice(0, 40)}\n${split.slice(40)}`,
      this.jwt(`${at}: JWT, dots encoded`).replaceAll('.', '%2E'),
      `Content-Disposition: form-data; name="code"\r\n\r\n${c('multipart')}\r\n--b--`,
      `<input name="request_uri" value="${c('HTML input')}">`,
      `{"name":"code_verifier","value":"${c('name and value')}"}`,
      `<saml:Assertion><NameID>${c('SAML')}</NameID></saml:Assertion>`,
      `code\\u003d${c('unicode escape')}\\u0026x`,
      `-----BEGIN PRIVATE KEY-----\n${c('PEM')}\n-----END PRIVATE KEY-----`,
      `SAMLResponse=${c('SAMLResponse')}; RelayState=${c('RelayState')}; user_code: ${c('user code')}`,
      `registration_access_token: ${c('registration access token')}, id_token_hint=${c('hint')}`,
      `Cookie: lang=en; SESSION=${c('cookie')}; other="${c('quoted cookie')}"`,
    ].join('\n');
  }

  /** The same and what only free text is searched for: sentences, bare random text, base64 of credentials, people. */
  freeText(at: string): string {
    const c = (place: string): string => this.make(`${at}: ${place}`);
    return [
      `the password is ${c('sentence')}, and again`,
      `lookup of ${c('bare')} failed`,
      `sent ${Buffer.from(`web:${c('base64 of a pair')}`).toString('base64')} to it`,
      `sent ${Buffer.from(`client_secret=${c('base64 of a form')}`).toString('base64')} to it`,
      `${c('e-mail')}@example.com`,
      this.everywhere(at),
    ].join('\n');
  }
}

/** Records of every source with secrets in all their fields, by source; `text` of lines is one line. */
export function plantedRecords(canaries: Canaries, now: Date): Record<string, (object | string)[]> {
  const time = now.toISOString();
  const id = (at: string): string => canaries.everywhere(at);
  const free = (at: string): string => canaries.freeText(at);
  const c = (at: string): string => canaries.make(at);
  return {
    keycloak: [keycloakRecord(canaries, time), keycloakLine(canaries)],
    envoy: [
      {
        ...{ start_time: time, response_code: 401, method: id('envoy method') },
        ...{ path: `/x?access_token=${c('envoy path')}#${c('envoy fragment')}` },
        ...{ authority: id('envoy authority'), user_agent: free('envoy user_agent') },
        ...{ request_id: id('envoy request_id'), x_forwarded_for: id('envoy x_forwarded_for') },
        ...{ response_code_details: free('envoy details'), route_name: id('envoy route_name') },
        ...{ authorization: `Bearer ${c('envoy authorization')}`, cookie: c('envoy cookie') },
        dynamic_metadata: {
          jwt: { iss: id('envoy iss'), sub: c('envoy sub'), jti: c('envoy jti') },
        },
      },
    ],
    oidc_provider: [
      {
        ...{ event: 'grant.error', time, id: id('provider id'), client_id: id('provider client') },
        ...{ account_id: c('provider account'), session_uid: c('provider session') },
        params: {
          grant_type: 'refresh_token',
          scope: id('provider scope'),
          code: c('provider code'),
        },
        error: { error: 'invalid_grant', error_description: free('provider error') },
        tokens: [{ kind: 'RefreshToken', role: 'presented', jti: c('provider jti') }],
        model: {
          kind: 'AccessToken',
          jti: c('provider model'),
          extra: { secret: c('provider extra') },
        },
        request: {
          path: `/token?code=${c('provider path')}`,
          headers: { cookie: c('provider cookie') },
        },
      },
    ],
    grantscope: [grantscopeRecord(canaries, time), grantscopeRecord(canaries, time)],
  };
}

function keycloakRecord(canaries: Canaries, time: string): object {
  const id = (at: string): string => canaries.everywhere(`keycloak ${at}`);
  const c = (at: string): string => canaries.make(`keycloak ${at}`);
  return {
    ...{ eventId: id('eventId'), type: 'REFRESH_TOKEN_ERROR', time, realmId: id('realmId') },
    ...{ clientId: id('clientId'), userId: c('userId'), sessionId: c('sessionId') },
    ...{ ipAddress: id('ipAddress'), error: canaries.freeText('keycloak error') },
    details: {
      ...{ reason: canaries.freeText('keycloak reason'), scope: id('scope'), code: c('code') },
      redirect_uri: `https://h.example/cb?code=${c('redirect_uri')}`,
      ...{ refresh_token_id: c('refresh_token_id'), auth_method: id('auth_method') },
      ...{ unknown: c('unknown field'), [`state=${c('a key')}`]: 'x' },
    },
  };
}

function keycloakLine(canaries: Canaries): string {
  const flat = canaries.everywhere('keycloak line').replace(/[\r\n]+/g, ' ');
  const uri = `https://u:${canaries.make('line userinfo')}@h/cb?code=${canaries.make('line code')}`;
  return `2026-01-01 00:00:00,000 WARN type=LOGIN_ERROR, realmId=r, clientId=x, error=${flat}, redirect_uri=${uri}`;
}

function grantscopeRecord(canaries: Canaries, time: string): object {
  const id = (at: string): string => canaries.everywhere(`grantscope ${at}`);
  const free = (at: string): string => canaries.freeText(`grantscope ${at}`);
  const c = (at: string): string => canaries.make(`grantscope ${at}`);
  return {
    ...{ kind: 'token_issued', time, event_id: id('event_id') },
    source: { instance: id('instance'), raw_type: free('raw_type') },
    error: { code: free('error.code'), oauth_error: free('oauth_error'), detail: free('detail') },
    client: { id: id('client.id'), name: free('client.name') },
    ...{ subject: { id: c('subject') }, session: { id: c('session') }, grant: { id: c('grant') } },
    ...{ issuer: `https://u:${c('issuer')}@as.example/?code=${c('issuer query')}` },
    ...{ audience: [id('audience')], scopes_granted: id('scopes') },
    redirect_uri: `https://u:${c('uri user')}@h/cb?code=${c('uri')}#access_token=${c('uri fragment')}`,
    tokens: [
      {
        ...{ role: 'issued', type: 'access', value: c('token'), kid: id('kid') },
        family: { value: c('family') },
      },
    ],
    net: { client_ip: c('client_ip'), user_agent: free('user_agent') },
    http: { route: `/x?code=${c('route')}`, method: id('method') },
    ext: { note: free('ext'), client_secret: c('ext secret'), [`state=${c('ext key')}`]: 'x' },
    access_token: c('unknown field'),
  };
}

/** Attributes with secrets in values of every type, in their keys, and in all that is named after a header or a person. */
export function plantedAttributes(canaries: Canaries, at: string): Attributes {
  const c = (place: string): string => canaries.make(`${at}, ${place}`);
  return {
    note: canaries.freeText(`${at}, text`),
    [`q?code=${c('key')}`]: 'x',
    access_token: c('secret key'),
    'http.request.header.x-own': [c('header')],
    'http.request.header.authorization': [`Bearer ${c('authorization')}`],
    'http.request.header.baggage': [`session=${c('baggage')}`],
    'http.request.header.referer': [`https://h.example/?code=${c('referer')}`],
    'url.full': `https://u:${c('URL user')}@h.example/?a=${c('URL')}`,
    'url.query': `a=${c('URL query')}`,
    ...{
      'enduser.id': c('person'),
      'session.id': c('session'),
      'user.email': `${c('mail')}@e.com`,
    },
    list: [
      canaries.freeText(`${at}, list`),
      { key: 'cookie', value: { stringValue: c('kvlist') } },
    ],
    map: { deep: { client_secret: c('map'), user: { username: c('nested person') } } },
    pairs: [['authorization', c('pair')]],
    bytes: Buffer.from(canaries.freeText(`${at}, bytes`)),
    binary: Buffer.concat([Buffer.from([0, 1, 2]), Buffer.from(c('binary'))]),
    ['__proto__']: `code=${c('prototype')}`,
  };
}

const traceId = (canaries: Canaries): string =>
  Buffer.from(canaries.make('no place').slice(4, 20)).toString('hex');

/** A span with secrets in its names, attributes, events, links and states. */
export function plantedSpan(canaries: Canaries, nowNs: bigint): OtlpSpan {
  const ids = { traceId: traceId(canaries), spanId: '00f067aa0ba902b7', parentSpanId: '' };
  return {
    ...ids,
    traceState: `v=${canaries.jwt('span traceState')},code=${canaries.make('span traceState key')}`,
    name: canaries.freeText('span name'),
    kind: 2,
    ...{ startTimeUnixNano: nowNs - 1_000_000n, endTimeUnixNano: nowNs },
    attributes: {
      ...plantedAttributes(canaries, 'span attributes'),
      [ATTR.kind]: 'token_issued',
      [ATTR.clientId]: canaries.everywhere('span client'),
      [ATTR.errorDetail]: canaries.freeText('span error detail'),
      'oauth.token.issued.access.ref': canaries.make('span token that is no reference'),
      [`oauth.ext.code=${canaries.make('span ext key')}`]: 'x',
    },
    events: [
      {
        timeUnixNano: nowNs,
        name: canaries.freeText('span event name'),
        attributes: plantedAttributes(canaries, 'span event attributes'),
      },
    ],
    links: [
      {
        ...{ traceId: traceId(canaries), spanId: '00f067aa0ba902b7' },
        traceState: `token=${canaries.make('link traceState')}`,
        attributes: plantedAttributes(canaries, 'link attributes'),
      },
    ],
    status: { code: 2, message: canaries.freeText('span status') },
  };
}

/** Log records: a text, a structured body, a vendor's record in the body, and one that its source refuses. */
export function plantedLogs(canaries: Canaries, now: Date): OtlpLogRecord[] {
  const nowNs = BigInt(now.getTime()) * 1_000_000n;
  const log = (at: string, body: OtlpLogRecord['body'], attributes: Attributes): OtlpLogRecord => ({
    ...{ timeUnixNano: nowNs, observedTimeUnixNano: nowNs, severityNumber: 9, flags: 1, body },
    severityText: `code=${canaries.make(`${at} severity`)}`,
    attributes: { ...plantedAttributes(canaries, `${at} attributes`), ...attributes },
    ...{ traceId: traceId(canaries), spanId: '00f067aa0ba902b7' },
    eventName: canaries.everywhere(`${at} event name`),
  });
  const vendor = keycloakRecord(canaries, now.toISOString()) as Attributes;
  const refused = { ...(keycloakRecord(canaries, '') as Attributes), time: 'never' };
  return [
    log('log', canaries.freeText('log body'), {}),
    log('structured log', plantedAttributes(canaries, 'log body map'), {}),
    log('vendor log', JSON.stringify(vendor), { 'grantscope.source': 'keycloak' }),
    log('refused log', JSON.stringify(refused), { 'grantscope.source': 'keycloak' }),
  ];
}

/** Resource and scope with secrets in them. */
export function plantedScope(canaries: Canaries) {
  return {
    resource: { attributes: plantedAttributes(canaries, 'resource attributes') },
    schemaUrl: `https://u:${canaries.make('schema URL')}@h.example/?code=${canaries.make('schema query')}`,
    scope: {
      name: canaries.freeText('scope name'),
      version: canaries.everywhere('scope version'),
      attributes: plantedAttributes(canaries, 'scope attributes'),
    },
  };
}
