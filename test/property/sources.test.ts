import { randomBytes } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createScrubber } from '../../collector/processors/scrub.ts';
import { processDraft } from '../../collector/processors/process_draft.ts';
import { loadSources } from '../../collector/registry.ts';
import { ATTR } from '../../model/attributes.ts';
import { AuthEvent } from '../../model/auth_event.ts';
import {
  REJECT_CODES,
  type SourceDefinition,
  type SourceRecord,
} from '../../model/define_source.ts';
import { KeyRing } from '../../runtime/keyring.ts';
import { TEST_KEY } from '../harness.ts';
import { plantedInCloudProviders } from './planted_cloud_providers.ts';
import { plantedInIdentityProviders } from './planted_identity_providers.ts';

/**
 * Any input gives events or a typed rejection, never an exception; and secrets that are planted in every
 * place where they hide never come out again.
 */
const sources = await loadSources();
const scrubber = createScrubber();
const keyRing = KeyRing.fromKey(TEST_KEY);
const receivedAt = 1_760_000_000_000_000_000n;

function run(
  source: SourceDefinition,
  record: SourceRecord,
): { text: string; events: AuthEvent[] } {
  const parsed = source.parse(record, { received_at: receivedAt });
  if (!parsed.ok) {
    expect(REJECT_CODES).toContain(parsed.code);
    return { text: parsed.message, events: [] };
  }
  const events: AuthEvent[] = [];
  let text = '';
  parsed.events.forEach((draft, subIndex) => {
    const processed = processDraft(draft, {
      source,
      tenant: 'default',
      receivedAt,
      contentSeed: 's',
      subIndex,
      keyRing,
      scrubber,
      clientIp: 'keep',
    });
    if (processed.ok) events.push(processed.event);
    else text += processed.message;
  });
  text += JSON.stringify(events, (_, v: unknown) => (typeof v === 'bigint' ? v.toString() : v));
  return { text, events };
}

/** Names that adapters look at, so that arbitrary objects reach beyond the first check. */
const KNOWN_NAMES = [
  ...[
    'event',
    'time',
    'kind',
    'type',
    'eventType',
    'operationType',
    'message',
    'details',
    'params',
  ],
  ...['model', 'request', 'error', 'client', 'tokens', 'source', 'subject', 'net', 'http', 'ext'],
  ...[
    'attributes',
    'resource',
    'time_unix_nano',
    'response_code',
    'path',
    'start_time',
    'jti',
    'ref',
  ],
  ...[
    'clientId',
    'userId',
    'realmId',
    'representation',
    'resourcePath',
    'dynamic_metadata',
    'claims',
  ],
  ...['__proto__', 'constructor', 'toString', 'oauth.event.kind', 'oauth.token.issued.access.ref'],
  // Entra, ForgeRock, Hydra, Spring, GitHub Actions.
  ...['category', 'operationName', 'properties', 'createdDateTime', 'appId', 'Operation'],
  ...['CreationTime', 'activityDisplayName', 'activityDateTime', 'targetResources', 'payload'],
  ...['eventName', 'timestamp', 'component', 'msg', 'http_request', 'http_response', 'name'],
  ...['lowCardinalityKeyValues', 'http.url', 'method', 'repository', 'run_id', 'status'],
  // Auth0, Okta, Google Workspace, CloudTrail, GitHub.
  ...['data', 'log_id', 'date', 'published', 'target', 'outcome', 'debugContext', 'debugData'],
  ...['id', 'applicationName', 'events', 'parameters', 'eventSource', 'eventTime'],
  ...['additionalEventData', 'requestParameters', 'action', '@timestamp', 'response', 'qs'],
  // OPA, Vault, Kubernetes, security event tokens, CloudEvents.
  ...['decision_id', 'input', 'result', 'auth', 'apiVersion', 'auditID', 'stage', 'verb', 'user'],
  ...['objectRef', 'stageTimestamp', 'iss', 'iat', 'sub_id', 'specversion', 'data_base64'],
];
const KNOWN_TEXTS = [
  ...['LOGIN', 'REFRESH_TOKEN_ERROR', 'grant.success', 'grant.error', 'token_issued', 'toString'],
  ...[
    'constructor',
    '__proto__',
    '2026-01-01T00:00:00Z',
    'type=LOGIN, realmId=x',
    'issued',
    'access',
  ],
  ...['seacft', 'sapi', 'app.oauth2.token.grant.access_token', 'authorize', 'git.clone'],
  ...['cognito-idp.amazonaws.com', 'Token_POST', 'InitiateAuth'],
  ...['SignInLogs', 'AuditLogs', 'AM-ACCESS-OUTCOME', 'OAuth', 'completed handling request'],
];
const scalar = fc.oneof(
  fc.string({ maxLength: 40 }),
  fc.constantFrom(...KNOWN_TEXTS),
  fc.double(),
  fc.integer(),
  fc.boolean(),
  fc.constantFrom(null, 1_760_000_000, 1_760_000_000_000, 'null', '-'),
);
const { value: anyJson } = fc.letrec<{ value: unknown }>((tie) => ({
  value: fc.oneof(
    { maxDepth: 4 },
    scalar,
    fc.array(tie('value'), { maxLength: 4 }),
    fc.dictionary(
      fc.oneof(fc.constantFrom(...KNOWN_NAMES), fc.string({ maxLength: 12 })),
      tie('value'),
      {
        maxKeys: 12,
      },
    ),
  ),
}));

describe.each([...sources.values()])('source $id', (source) => {
  it('never throws, and gives valid events or a typed rejection, on any JSON', () => {
    fc.assert(
      fc.property(anyJson, (value) => {
        for (const event of run(source, { form: 'json', value }).events) AuthEvent.parse(event);
      }),
      { numRuns: 400 },
    );
  });

  it('never throws on any text', () => {
    const line = fc.oneof(
      fc.string({ maxLength: 300, unit: 'binary' }),
      fc
        .array(
          fc.constantFrom('type=', 'LOGIN', ', ', '="', '"', "'", '\\"', '=', 'error=', ',', ' '),
          {
            maxLength: 40,
          },
        )
        .map((parts) => `2026-01-01 00:00:00,000 ${parts.join('')}`),
    );
    fc.assert(
      fc.property(line, (text) => {
        for (const event of run(source, { form: 'text', line: text }).events)
          AuthEvent.parse(event);
      }),
      { numRuns: 400 },
    );
  });
});

/** A secret of random text: letters of both cases and digits, as tokens are. */
const canaryOf = (seed: Uint8Array): string =>
  `cnry${Buffer.from(seed).toString('base64url').replace(/[-_]/g, 'x')}`;

/** Every hiding place in one free text. The places are assembled here, so no secret lies in this file. */
function hidingPlaces(c: string): string {
  const encoded = (text: string): string => Buffer.from(text).toString('hex').replace(/../g, '%$&');
  const jwt = [{ alg: 'RS256' }, { sub: c, nonce: c }]
    .map((part) => Buffer.from(JSON.stringify(part)).toString('base64url'))
    .concat(c.repeat(2))
    .join('.');
  const nested = JSON.stringify({ a: JSON.stringify({ b: JSON.stringify({ client_secret: c }) }) });
  return [
    `https://user:${c}@host/cb?code=${c}&state=${c}#access_token=${c}`,
    `Referer: https://h/cb?session_code=${c}`,
    `Location: https://h/cb#id_token=${c}&nonce=${c}`,
    `grant_type=authorization_code&code_verifier=${c}&client_secret=${c}`,
    `Authorization: Basic ${Buffer.from(`client:${c}`).toString('base64')}`,
    `authorization: Bearer ${c}`,
    `cookie: KC=${c}; other="${c} ${c}"`,
    `dpop: ${c}`,
    nested,
    `redirect=https%3A%2F%2Fh%2Fcb%3Fcode%3D${encoded(c)}%26x%3D1`,
    `redirect=https%253A%252F%252Fh%253Fcode%253D${c}%2526state%253D${c}`,
    `co\u200bde=${c}`,
    `CoDe=${c}&ACCESS_TOKEN=${c}`,
    jwt,
    `${jwt.slice(0, 30)}\n${jwt.slice(30)}`,
    jwt.replaceAll('.', '%2E'),
    `{"id_token_hint":"${c}","device_code":"${c}","user_code":"${c}"}`,
    `password=${c} registration_access_token: ${c}`,
    `<saml:Assertion ID="1"><NameID>${c}</NameID></saml:Assertion>`,
    `code\\u003d${c}\\u0026state\\u003d${c}`,
    `-----BEGIN PRIVATE KEY-----\n${c}\n-----END PRIVATE KEY-----`,
    `{"name":"client_assertion","value":"${c}"}`,
  ].join('\n');
}

const free = fc.uint8Array({ minLength: 18, maxLength: 30 }).map((seed) => {
  const canary = canaryOf(seed);
  return { canary, text: hidingPlaces(canary) };
});

/** Records that carry the planted text wherever the source may give free text, and the token where tokens go. */
function planted(text: string, c: string): Record<string, SourceRecord> {
  const flat = text.replaceAll('\n', ' ');
  const time = '2026-01-01T00:00:00Z';
  const json = (value: unknown): SourceRecord => ({ form: 'json', value });
  const attributes = Object.fromEntries(
    Object.values(ATTR).map((name) => [name, name === ATTR.kind ? 'token_issued' : text]),
  );
  return {
    keycloak: json({
      ...{
        eventId: text,
        type: 'REFRESH_TOKEN_ERROR',
        time,
        realmId: text,
        clientId: text,
        userId: text,
      },
      ...{ sessionId: text, ipAddress: text, error: text },
      details: {
        ...{
          reason: text,
          scope: text,
          redirect_uri: `https://h/cb?code=${c}`,
          refresh_token_id: text,
        },
        ...{ auth_method: text, code: c, requestUri: text, cookies: text },
      },
    }),
    keycloak_line: {
      form: 'text',
      line: `2026-01-01 00:00:00,000 WARN type=LOGIN_ERROR, realmId=${flat}, clientId=x, error=${flat}, redirect_uri=https://u:${c}@h/cb?code=${c}, requestUri=${flat}`,
    },
    envoy: json({
      ...{ start_time: time, response_code: 401, method: text, path: `/x?access_token=${c}#${c}` },
      ...{ authority: text, user_agent: text, request_id: text, x_forwarded_for: text },
      ...{ response_code_details: text, authorization: `Bearer ${c}`, cookie: c, route_name: text },
      dynamic_metadata: {
        jwt: { iss: text, sub: c, jti: c, scope: text, aud: [text], cnf: { jkt: text } },
      },
    }),
    nginx: json({
      ...{ msec: '1767225600.250', status: 401, hostname: text, host: text, remote_addr: text },
      ...{
        request_method: text,
        request_uri: `/x?access_token=${c}&code=${c}#${c}`,
        remote_user: c,
      },
      ...{ http_user_agent: text, request_id: text, www_authenticate: text, args: text },
      ...{ http_authorization: `Bearer ${c}`, http_dpop: c, http_cookie: text, http_referer: text },
      claims: { iss: text, sub: c, jti: c, scope: text, aud: [text], cnf: { jkt: text } },
    }),
    nginx_line: {
      form: 'text',
      line: `10.0.0.7 - ${c} [01/Jan/2026:00:00:00 +0000] "GET /x?access_token=${c} HTTP/1.1" 401 1 "https://h/cb?code=${c}" "x code=${c} Bearer ${c}"`,
    },
    ...gatewayRecords(text, c),
    oidc_provider: json({
      ...{ event: 'grant.error', time, id: text, client_id: text, account_id: c, session_uid: c },
      params: {
        grant_type: 'refresh_token',
        scope: text,
        redirect_uri: `https://h/?code=${c}`,
        code: c,
      },
      error: { error: 'invalid_grant', error_description: text, error_detail: text },
      tokens: [{ kind: 'RefreshToken', role: 'presented', jti: c, grantId: c, parent: { jti: c } }],
      model: { kind: 'AccessToken', jti: c, extra: { secret: c } },
      request: { ip: text, user_agent: text, path: `/token?code=${c}`, headers: { cookie: c } },
    }),
    otlp: json({
      attributes: {
        ...attributes,
        ...{
          'oauth.token.issued.access.ref': c,
          'oauth.ext.note': text,
          [`oauth.ext.code=${c}`]: 'x',
        },
        ...{ 'oauth.ext.client_secret': c, 'http.request.header.authorization': `Bearer ${c}` },
      },
      ...{ time_unix_nano: '1760000000000000000', name: text, trace_id: text, span_id: text },
      resource: { 'service.name': text },
    }),
    vault: json({
      ...{ type: 'response', time, error: text, forwarded_from: text },
      auth: { client_token: c, display_name: text, entity_id: text, metadata: { role_name: text } },
      request: {
        ...{ id: text, path: `auth/userpass/login/${c}`, operation: text, mount_type: 'userpass' },
        ...{ client_token: c, data: { password: c, token: c }, namespace: { path: text } },
        headers: { 'user-agent': [text], cookie: [c] },
      },
      response: { auth: { client_token: c }, data: { value: c } },
    }),
    opa: json({
      ...{ decision_id: text, timestamp: time, path: text, requested_by: text, result: { a: c } },
      ...{ labels: { app: text, id: text }, bundles: { a: { revision: text } }, error: text },
      input: {
        ...{ path: `/x?code=${c}`, method: text, user: text, token: c, password: c },
        headers: { authorization: `Bearer ${c}`, cookie: c, 'user-agent': text },
      },
    }),
    kubernetes_audit: json({
      ...{ auditID: text, stage: 'ResponseComplete', stageTimestamp: time, verb: 'create' },
      ...{ requestURI: `/x?token=${c}`, userAgent: text, sourceIPs: [c], user: { username: text } },
      objectRef: { resource: 'serviceaccounts', subresource: 'token', namespace: text, name: text },
      responseStatus: { code: 201, reason: text, message: text },
      annotations: { 'authorization.k8s.io/reason': text },
      requestObject: { spec: { audiences: [text], token: c } },
      responseObject: { status: { token: c } },
    }),
    aws_cloudtrail: json({
      ...{ eventSource: 'sts.amazonaws.com', eventName: 'AssumeRole', eventTime: time },
      ...{ eventID: text, requestID: text, userAgent: text, sourceIPAddress: c, awsRegion: text },
      ...{ errorCode: text, errorMessage: text, eventType: 'AwsApiCall', recipientAccountId: text },
      userIdentity: { arn: text, accessKeyId: c, sessionContext: { sessionIssuer: { arn: text } } },
      requestParameters: { roleArn: text, webIdentityToken: c, deviceCode: c, grantType: text },
      responseElements: { credentials: { sessionToken: c }, audience: text, provider: text },
      additionalEventData: { LoginTo: text },
    }),
    azure_key_vault: json({
      ...{ operationName: 'SecretSet', time, correlationId: text, callerIpAddress: c },
      ...{ resultSignature: 'Forbidden', resultDescription: text, resourceId: text },
      identity: { claim: { oid: text, appid: text, upn: c, amr: text, scp: text } },
      properties: {
        ...{ id: `https://u:${c}@h/secrets/x?code=${c}`, requestUri: `https://h/?code=${c}` },
        ...{ clientInfo: text, value: c },
      },
    }),
    ssf: json({
      ...{ iss: text, jti: text, iat: 1_767_225_600, aud: [text], txn: text, sid: c },
      sub_id: { format: 'complex', user: { format: 'email', email: c }, session: { jti: c } },
      events: {
        'https://schemas.openid.net/secevent/caep/event-type/risk-level-change': {
          ...{ current_level: text, risk_reason: text, reason_admin: { en: text }, fp_ua: text },
          ...{ ips: [c], claims: { role: c } },
        },
      },
    }),
    cloudevents: json({
      ...{ specversion: '1.0', id: text, source: text, type: text, time, traceparent: text },
      data: {
        kind: 'token_issued',
        error: { detail: text },
        tokens: [{ role: 'issued', type: 'access', value: c }],
        secret: c,
      },
    }),
    grantscope: json({
      ...{ kind: 'token_issued', time, event_id: text, source: { instance: text, raw_type: text } },
      error: { code: text, oauth_error: text, detail: text },
      ...{
        client: { id: text, name: text },
        subject: { id: c },
        session: { id: c },
        grant: { id: c },
      },
      ...{ issuer: `https://u:${c}@as/?code=${c}`, audience: [text], scopes_granted: text },
      redirect_uri: `https://u:${c}@h/cb?code=${c}#access_token=${c}`,
      tokens: [{ role: 'issued', type: 'access', value: c, family: { value: c }, kid: text }],
      net: { client_ip: c, user_agent: text },
      http: { route: `/x?code=${c}`, method: text },
      ext: { note: text, client_secret: c, [`state=${c}`]: 'x' },
      access_token: c,
    }),
  };
}

/** The same of requests that gateways tell with their headers. */
function gatewayRecords(text: string, c: string): Record<string, SourceRecord> {
  const json = (value: unknown): SourceRecord => ({ form: 'json', value });
  const secrets = { cookie: c, apikey: c, authorization: `Bearer ${c}`, dpop: c, referer: text };
  const shown = { host: text, 'user-agent': text, 'x-forwarded-for': text, 'x-request-id': text };
  const request = {
    method: text,
    headers: { ...secrets, ...shown },
    body: text,
    querystring: { c },
  };
  const uri = `/x?access_token=${c}&state=${c}`;
  const challenge = {
    'www-authenticate': `Bearer error="invalid_token", error_description="code=${c}"`,
  };
  const response = { status: 401, headers: { ...challenge, 'set-cookie': c }, body: text };
  const called = { request: { ...request, uri, url: `https://u:${c}@h${uri}` }, response };
  return {
    kong: json({
      ...{ ...called, started_at: 1_767_225_600_123, client_ip: text, source: text },
      ...{ consumer: { id: text, username: text }, service: { name: text }, route: { name: text } },
    }),
    apisix: json({
      ...{ ...called, start_time: 1_767_225_600_123, client_ip: text, route_id: text },
      ...{ consumer: { username: text }, server: { hostname: text }, service_id: text },
    }),
    traefik: json({
      ...{ StartUTC: '2026-01-01T00:00:00Z', DownstreamStatus: 401, RequestMethod: text },
      ...{ RequestPath: uri, RequestHost: text, RouterName: text, ServiceName: text },
      ...{ ClientHost: text, ClientAddr: text, ClientUsername: c, 'request_User-Agent': text },
      ...{ request_Authorization: `Bearer ${c}`, request_Cookie: c, 'request_X-Request-Id': text },
      'downstream_Www-Authenticate': challenge['www-authenticate'],
    }),
    aws_api_gateway: json({
      ...{ requestTimeEpoch: 1_767_225_600_123, status: 401, httpMethod: text, resourcePath: uri },
      ...{ domainName: text, apiId: text, accountId: text, requestId: text, principalId: c },
      ...{ 'identity.userAgent': text, 'identity.sourceIp': text, 'authorizer.error': text },
      authorizer: { claims: { iss: text, sub: c, jti: c, scope: text, aud: text } },
      'error.responseType': text,
    }),
    oauth2_proxy: json({
      ...{ timestamp: '2026/01/01 00:00:00', client: text, request_id: text, username: c },
      ...{ host: text, request_method: text, upstream: text, user_agent: text, status_code: 302 },
      request_uri: `/oauth2/callback?code=${c}&state=${c}`,
    }),
    oauth2_proxy_line: {
      form: 'text',
      line: `203.0.113.9 - r1 - ${c} [2026/01/01 00:00:00] [AuthFailure] Invalid code=${c} Session{token:${c}}`,
    },
  };
}

describe('planted secrets', () => {
  it('never survive in an event, whatever source they come through', () => {
    fc.assert(
      fc.property(free, ({ canary, text }) => {
        const records = {
          ...planted(text, canary),
          ...plantedInIdentityProviders(text, canary),
          ...plantedInCloudProviders(text, canary),
        };
        for (const [name, record] of Object.entries(records)) {
          const source = sources.get(name.replace(/(?:_line|:\w+)$/, ''));
          const { text: output, events } = run(source!, record);
          expect(events.length, name).toBeGreaterThan(0);
          expect(output.includes(canary), `${name}: ${leakAround(output, canary)}`).toBe(false);
        }
      }),
      { numRuns: 60 },
    );
  });

  it('never survive in scrubbed text, attributes and their keys', () => {
    fc.assert(
      fc.property(free, ({ canary, text }) => {
        const scrubbed = scrubber.scrubText(text);
        expect(scrubbed.text.includes(canary), leakAround(scrubbed.text, canary)).toBe(false);
        const quoted = scrubber.scrubText(JSON.stringify({ body: text })).text;
        expect(quoted.includes(canary), leakAround(quoted, canary)).toBe(false);
        const attributes = JSON.stringify(
          scrubber.scrubAttributes({
            text,
            [`q?code=${canary}`]: 'x',
            list: [text, { key: 'cookie', value: { stringValue: canary } }],
            bytes: Buffer.from(text),
            ...{
              'http.request.header.x-secret': [canary],
              'url.full': `https://u:${canary}@h/?a=${canary}`,
            },
            ...{ 'url.query': `a=${canary}`, 'enduser.id': canary, 'session.id': canary },
          }),
        );
        expect(attributes.includes(canary), leakAround(attributes, canary)).toBe(false);
      }),
      { numRuns: 100 },
    );
  });

  it('are found by this test when nothing redacts them', () => {
    const canary = canaryOf(randomBytes(20));
    expect(hidingPlaces(canary).split(canary).length - 1).toBeGreaterThan(25);
  });
});

function leakAround(text: string, canary: string): string {
  const at = text.indexOf(canary);
  return at < 0 ? '' : text.slice(Math.max(0, at - 60), at + 40);
}

describe('scrubText', () => {
  it('is idempotent and never lengthens what has no secret', () => {
    const piece = fc.oneof(
      fc.string({ maxLength: 20 }),
      fc.constantFrom(
        'code=',
        '"token":"',
        '\\"',
        '"',
        '%22',
        '%3D',
        '&',
        ',',
        '}',
        'Bearer ',
        '://',
        '@',
        'eyJ',
      ),
    );
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 20 }), (pieces) => {
        const once = scrubber.scrubText(pieces.join('')).text;
        expect(scrubber.scrubText(once).text).toBe(once);
      }),
      { numRuns: 3_000 },
    );
  });
});
