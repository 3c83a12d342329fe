type Table = Record<string, (n: number) => string>;

const json =
  (make: (n: number) => object) =>
  (n: number): string =>
    JSON.stringify(make(n));
const TIME = '2026-01-05T12:00:00.123Z';
const SECONDS = 1_767_614_400;
const AGENT = 'Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0';
const uuid = (n: number, kind = 0): string =>
  `5c1d2e3f-000${kind}-4000-8000-${n.toString(16).padStart(12, '0')}`;
/** Random-looking text, as tokens are. */
const opaque = (n: number, kind = 0): string =>
  Buffer.from(`${kind}:${(n * 2_654_435_761) % 4_294_967_296}:${n * 7_919}:tokentext`).toString(
    'base64url',
  );
const ip = (n: number): string => `203.0.113.${1 + (n % 250)}`;

/** Authorization servers that people run themselves, and what clients of them send. */
const SERVERS: Table = {
  keycloak: json((n) => ({
    ...{ id: uuid(n), time: SECONDS * 1_000 + n, type: 'REFRESH_TOKEN', realmId: 'shop' },
    ...{ clientId: 'web', userId: uuid(n, 1), sessionId: uuid(n, 2), ipAddress: ip(n) },
    details: {
      ...{ token_id: uuid(n, 3), grant_type: 'refresh_token', refresh_token_type: 'Refresh' },
      ...{ refresh_token_id: uuid(n, 4), updated_refresh_token_id: uuid(n, 5) },
      ...{ scope: 'openid profile', client_auth_method: 'client-secret' },
    },
  })),
  oidc_provider: json((n) => ({
    ...{ event: 'grant.success', id: uuid(n), time: TIME, issuer: 'https://as.example.com' },
    ...{ client_id: 'web', client_auth_method: 'none', account_id: `user-${n}` },
    ...{ session_uid: opaque(n, 1), grant_id: opaque(n, 2), scope: 'openid offline_access' },
    params: { client_id: 'web', grant_type: 'refresh_token', scope: 'openid' },
    request: {
      ...{ ip: ip(n), ip_role: 'end_user', user_agent: AGENT, method: 'POST' },
      ...{ path: '/token', status: 200 },
    },
    tokens: [3, 4, 5].map((kind) => ({
      ...{ role: kind === 3 ? 'consumed' : 'issued', jti: opaque(n, kind) },
      ...{ kind: kind === 5 ? 'AccessToken' : 'RefreshToken', grantId: opaque(n, 2) },
      ...{ iiat: SECONDS, iat: SECONDS, exp: SECONDS + 600, rotations: kind - 3 },
    })),
  })),
  hydra: json((n) => ({
    ...{ time: TIME, level: 'info', msg: 'completed handling request', service_name: 'Hydra' },
    http_request: {
      ...{ host: 'auth.example.com', method: 'POST', path: '/oauth2/token', query: null },
      ...{ remote: '10.0.0.1:4711', scheme: 'https' },
      headers: { 'user-agent': AGENT, 'x-forwarded-for': `${ip(n)}, 10.0.0.2` },
    },
    http_response: { status: 200, size: 900, took: 12_500_000, headers: {} },
    otel: { trace_id: uuid(n).replaceAll('-', ''), span_id: 'b7ad6b7169203331' },
  })),
  spring_authorization_server: json((n) => ({
    ...{ name: 'http post', traceId: uuid(n).replaceAll('-', ''), spanId: 'b7ad6b7169203331' },
    ...{ startTimeUnixNano: `${SECONDS}000000000`, endTimeUnixNano: `${SECONDS}012000000` },
    attributes: {
      ...{ method: 'POST', 'http.url': '/oauth2/token', uri: 'UNKNOWN', status: '200' },
      ...{ outcome: 'SUCCESS', exception: 'none' },
    },
  })),
  ping_federate: (n) =>
    `2026-01-05 12:00:00,123 trackingid="tid:${opaque(n)}" transactionid="tx${n}" event="OAuth" subject="user-${n}" ip="${ip(n)}" connectionid="shop" protocol="OAuth20" pfhost="pf-1" role="AS" status="success" responsetime="88" granttype="authorization_code"`,
  forgerock: json((n) => ({
    ...{ _id: uuid(n), timestamp: TIME, eventName: 'AM-ACCESS-OUTCOME', realm: '/shop' },
    ...{ transactionId: `tx-${n}`, component: 'OAuth', topic: 'access', client: { ip: ip(n) } },
    ...{ userId: 'id=shop,ou=agent,ou=am-config', trackingIds: [uuid(n, 1)] },
    http: {
      request: {
        ...{ method: 'POST', path: 'https://am.example.com/am/oauth2/access_token' },
        headers: { 'user-agent': [AGENT], 'x-forwarded-for': [ip(n)] },
      },
    },
    response: { status: 'SUCCESSFUL', statusCode: '200', detail: { scope: 'orders:read' } },
  })),
  grantscope: json((n) => ({
    ...{ time: TIME, kind: 'token_refreshed', outcome: 'success', event_id: uuid(n) },
    ...{ client: { id: 'web' }, subject: { id: `user-${n}`, type: 'user' } },
    tokens: [
      { role: 'consumed', type: 'refresh', value: opaque(n, 1) },
      { role: 'issued', type: 'refresh', value: opaque(n, 2), parent: { value: opaque(n, 1) } },
    ],
    net: { client_ip: ip(n), user_agent: AGENT },
  })),
  cloudevents: json((n) => ({
    ...{ specversion: '1.0', id: uuid(n), source: '/as/eu-1', type: 'com.example.issued' },
    ...{ time: TIME, datacontenttype: 'application/json' },
    data: {
      ...{ kind: 'token_issued', outcome: 'success', client: { id: 'web' } },
      ...{ subject: { id: `user-${n}`, type: 'user' } },
      tokens: [{ role: 'issued', type: 'access', jti: uuid(n, 1) }],
    },
  })),
  client_inventory: json((n) => ({
    ...{ client_id: `client-${n}`, client_name: 'Shop', scope: 'openid orders:read' },
    ...{ redirect_uris: [`https://shop-${n}.example.com/cb`], response_types: ['code'] },
    ...{ grant_types: ['authorization_code', 'refresh_token'], client_secret: opaque(n) },
    ...{ token_endpoint_auth_method: 'client_secret_basic', statement_time: TIME },
  })),
  ssf: json((n) => ({
    ...{ iss: 'https://signals.example.com', jti: uuid(n), iat: SECONDS },
    ...{ aud: 'https://grantscope.example.com', txn: `txn-${n}` },
    sub_id: { format: 'iss_sub', iss: 'https://login.example.com', sub: `user-${n}` },
    events: {
      'https://schemas.openid.net/secevent/caep/event-type/session-revoked': {
        ...{ event_timestamp: SECONDS, initiating_entity: 'policy' },
      },
    },
  })),
  otlp: json((n) => ({
    attributes: {
      ...{ 'oauth.event.kind': 'token_issued', 'oauth.outcome': 'success' },
      ...{ 'oauth.client.id': 'web', 'oauth.token.issued.access.ref': uuid(n) },
    },
    ...{ time_unix_nano: `${SECONDS}000000000`, name: 'oauth.event' },
    resource: { 'service.name': 'as' },
  })),
};

const CLOUDS: Table = {
  auth0: json((n) => ({
    log_id: uuid(n),
    data: {
      ...{ type: 'sertft', date: TIME, client_id: 'web', client_name: 'Web', ip: ip(n) },
      ...{ user_id: `auth0|u-${n}`, user_agent: AGENT, hostname: 'login.example.com' },
      ...{ audience: 'https://api.example.com', scope: 'read write', tenant_name: 'shop' },
      details: { familyId: `family-${n}`, tokenCounter: 3, access_token_jti: uuid(n, 1) },
    },
  })),
  okta: json((n) => ({
    ...{ uuid: uuid(n), published: TIME, eventType: 'app.oauth2.as.token.grant.access_token' },
    ...{ version: '0', severity: 'INFO', outcome: { result: 'SUCCESS', reason: null } },
    actor: { id: '0oaweb', type: 'PublicClientApp', displayName: 'Web' },
    client: { ipAddress: ip(n), userAgent: { rawUserAgent: AGENT } },
    ...{ transaction: { type: 'WEB', id: `tx-${n}`, detail: {} } },
    debugContext: {
      debugData: {
        ...{ clientAuthType: 'client_secret_basic', grantType: 'refresh_token' },
        ...{ requestedScopes: 'read, offline_access', grantedScopes: 'read, offline_access' },
        ...{ requestId: `rq-${n}`, requestUri: '/oauth2/aus1/v1/token' },
      },
    },
    target: [
      { id: `00u${n}`, type: 'User' },
      { id: 'AT', type: 'access_token', detailEntry: { hash: opaque(n) } },
    ],
  })),
  entra: json((n) => ({
    ...{ time: TIME, operationName: 'Sign-in activity', category: 'SignInLogs' },
    ...{ tenantId: uuid(1, 7), resultType: '0', callerIpAddress: ip(n) },
    properties: {
      ...{ id: uuid(n), createdDateTime: TIME, userId: uuid(n, 1), appId: uuid(1, 2) },
      ...{ appDisplayName: 'Shop', ipAddress: ip(n), status: { errorCode: 0 } },
      ...{ userAgent: AGENT, clientAppUsed: 'Browser', resourceId: uuid(1, 3) },
      ...{ location: { countryOrRegion: 'FR' }, correlationId: uuid(n, 4) },
      ...{ conditionalAccessStatus: 'success', uniqueTokenIdentifier: opaque(n) },
      authenticationDetails: [{ authenticationMethod: 'Password', succeeded: true }],
      authenticationProcessingDetails: [{ key: 'Oauth Scope Info', value: '["User.Read"]' }],
    },
  })),
  google_workspace: json((n) => ({
    id: { time: TIME, uniqueQualifier: `-${n}`, applicationName: 'token', customerId: 'C1' },
    actor: { callerType: 'USER', email: `user-${n}@example.com`, profileId: '1001' },
    ipAddress: ip(n),
    events: [
      {
        name: 'authorize',
        parameters: [
          { name: 'client_id', value: '77.apps.example.com' },
          { name: 'app_name', value: 'Notes' },
          { name: 'scope', multiValue: ['https://www.googleapis.com/auth/drive'] },
        ],
      },
    ],
  })),
  cognito: json((n) => ({
    ...{ eventVersion: '1.08', eventTime: TIME, eventName: 'Token_POST', eventID: uuid(n) },
    ...{ eventSource: 'cognito-idp.amazonaws.com', awsRegion: 'eu-west-1' },
    ...{ sourceIPAddress: ip(n), userAgent: AGENT, requestID: `rq-${n}` },
    additionalEventData: {
      ...{ responseParameters: { status: 200 }, userPoolId: 'eu-west-1_AbCdEfGhI' },
      requestParameters: { grant_type: ['refresh_token'], client_id: ['web'] },
    },
  })),
  github: json((n) => ({
    ...{ action: 'api.request', '@timestamp': SECONDS * 1_000, _document_id: uuid(n) },
    ...{ actor: `user-${n}`, actor_ip: ip(n), business: 'example', org: 'example-org' },
    ...{ repo: 'example-org/shop', request_id: `rq-${n}`, hashed_token: opaque(n) },
    ...{ token_scopes: 'repo,read:org', oauth_application_id: 99, user_agent: AGENT },
    ...{ request_method: 'GET', url_path: '/repos/example-org/shop', status_code: 200 },
  })),
  github_actions_oidc: json((n) => ({
    ...{ id: uuid(n), time: TIME, outcome: 'accepted', resource: 'sts', instance: 'sts-1' },
    claims: {
      ...{ jti: uuid(n, 1), iss: 'https://token.actions.githubusercontent.com' },
      ...{ aud: 'https://github.com/acme', sub: 'repo:acme/shop:environment:prod' },
      ...{ iat: SECONDS, exp: SECONDS + 300, repository: 'acme/shop', run_id: String(n) },
      ...{ repository_owner: 'acme', ref: 'refs/heads/main', workflow: 'deploy', actor: 'ada' },
    },
    header: { alg: 'RS256', kid: 'k1', typ: 'JWT' },
    request: { ip: ip(n), user_agent: 'actions/1.0', id: `rq-${n}` },
  })),
  aws_cloudtrail: json((n) => ({
    ...{ eventID: uuid(n), eventTime: TIME, eventName: 'Sign', eventSource: 'kms.amazonaws.com' },
    ...{ eventType: 'AwsApiCall', awsRegion: 'eu-west-1', recipientAccountId: '111122223333' },
    ...{ sourceIPAddress: ip(n), userAgent: 'aws-sdk-java/2.20', requestID: `rq-${n}` },
    userIdentity: { type: 'IAMUser', arn: 'arn:aws:iam::111122223333:user/ada' },
    requestParameters: { keyId: uuid(n, 1) },
  })),
  azure_key_vault: json((n) => ({
    ...{ time: TIME, category: 'AuditEvent', operationName: 'KeySign', resultType: 'Success' },
    ...{ resultSignature: 'OK', correlationId: uuid(n), callerIpAddress: ip(n) },
    identity: { claim: { oid: uuid(n, 1), appid: 'app', upn: 'ada@example.com' } },
    properties: { id: 'https://shop.vault.azure.net/keys/sig/0a1b', httpStatusCode: 200 },
  })),
};

const headers = (n: number) => ({
  ...{ host: 'shop.example.com', 'user-agent': AGENT, authorization: `Bearer ${opaque(n)}` },
  ...{ 'x-forwarded-for': ip(n), 'x-request-id': `rq-${n}`, cookie: `session=${opaque(n, 1)}` },
});
const request = (n: number) => ({
  ...{ id: uuid(n), method: 'GET', uri: `/orders/${n}?page=2`, size: 83, headers: headers(n) },
  url: `https://shop.example.com/orders/${n}?page=2`,
});
const GATEWAYS: Table = {
  kong: json((n) => ({
    ...{ request: request(n), response: { status: 200, size: 434, headers: {} } },
    ...{ started_at: SECONDS * 1_000, client_ip: ip(n), latencies: { request: 57 } },
    ...{ service: { name: 'orders' }, route: { name: 'orders-v1' }, workspace_name: 'shop' },
  })),
  apisix: json((n) => ({
    ...{ request: request(n), response: { status: 200, size: 475, headers: {} } },
    ...{ start_time: SECONDS * 1_000, client_ip: ip(n), latency: 57, route_id: 'orders-v1' },
    ...{ server: { hostname: 'edge-1' }, consumer: { username: 'web' }, service_id: 'orders' },
  })),
  traefik: json((n) => ({
    ...{ ClientAddr: '10.0.0.7:52044', ClientHost: ip(n), DownstreamStatus: 200 },
    ...{ Duration: 57_123_456, RequestMethod: 'GET', RequestPath: `/orders/${n}` },
    ...{ RequestHost: 'shop.example.com', RouterName: 'orders@docker', StartUTC: TIME },
    ...{ 'request_User-Agent': AGENT, request_Authorization: `Bearer ${opaque(n)}` },
  })),
  aws_api_gateway: json((n) => ({
    ...{ requestId: uuid(n), accountId: '111122223333', apiId: 'abc123', stage: 'prod' },
    ...{ domainName: 'shop.example.com', httpMethod: 'GET', resourcePath: '/orders/{id}' },
    ...{ requestTimeEpoch: String(SECONDS * 1_000), status: '200', responseLatency: '57' },
    ...{ 'identity.sourceIp': ip(n), 'identity.userAgent': AGENT },
    ...{ 'authorizer.claims.jti': uuid(n, 1), 'authorizer.claims.sub': `user-${n}` },
    ...{ 'authorizer.claims.client_id': 'web', 'authorizer.claims.scope': 'orders:read' },
  })),
  envoy: json((n) => ({
    ...{ start_time: TIME, method: 'GET', path: `/orders/${n}`, authority: 'shop.example.com' },
    ...{ response_code: '200', response_flags: '-', duration: '12', 'user-agent': AGENT },
    ...{ 'x-forwarded-for': ip(n), 'x-request-id': `rq-${n}` },
    dynamic_metadata: {
      jwt: { iss: 'https://as.example.com', sub: `user-${n}`, jti: uuid(n), scope: 'read' },
    },
  })),
  nginx: json((n) => ({
    ...{ msec: `${SECONDS}.250`, hostname: 'edge-1', host: 'shop.example.com' },
    ...{ remote_addr: '10.0.0.7', http_x_forwarded_for: ip(n), request_method: 'GET' },
    ...{ request_uri: `/orders/${n}?page=2`, status: '200', request_time: '0.057' },
    ...{ http_user_agent: AGENT, request_id: uuid(n), http_authorization: '' },
    claims: { iss: 'https://as.example.com', sub: `user-${n}`, jti: uuid(n, 1), scope: 'read' },
  })),
  oauth2_proxy: (n) =>
    `${ip(n)} - ${uuid(n)} - user-${n}@example.com [2026/01/05 12:00:00] app.example.com GET - "/orders/${n}" HTTP/1.1 "${AGENT}" 200 341 0.057`,
};

const PLATFORMS: Table = {
  opa: json((n) => ({
    ...{ decision_id: uuid(n), timestamp: TIME, path: 'http/authz/allow', result: true },
    ...{ labels: { app: 'shop-authz', id: 'pod-7' }, requested_by: '127.0.0.1:36412' },
    input: {
      attributes: {
        source: { address: { socketAddress: { address: ip(n), portValue: 40_000 } } },
        request: {
          http: {
            ...{ method: 'GET', path: `/orders/${n}`, host: 'orders.example.com' },
            headers: { authorization: `Bearer ${opaque(n)}`, 'user-agent': AGENT },
          },
        },
      },
    },
  })),
  vault: json((n) => ({
    ...{ type: 'response', time: TIME },
    auth: { display_name: 'userpass-ada', entity_id: uuid(1), client_token: `hmac-sha256:${n}` },
    request: {
      ...{ id: uuid(n), operation: 'update', path: 'transit/sign/orders' },
      ...{ mount_type: 'transit', mount_point: 'transit/', remote_address: ip(n) },
    },
  })),
  kubernetes_audit: json((n) => ({
    ...{ kind: 'Event', apiVersion: 'audit.k8s.io/v1', auditID: uuid(n), verb: 'get' },
    ...{ stage: 'ResponseComplete', requestURI: '/api/v1/namespaces/shop/secrets/oauth' },
    ...{ objectRef: { resource: 'secrets', namespace: 'shop', name: 'oauth' } },
    user: { username: 'system:serviceaccount:shop:operator', groups: ['system:authenticated'] },
    ...{ sourceIPs: [ip(n)], userAgent: 'kubectl/v1.30', responseStatus: { code: 200 } },
    ...{ requestReceivedTimestamp: TIME, stageTimestamp: TIME },
  })),
};

/**
 * One typical record of each source, as it comes in: the line of a log, or JSON as text. `n` makes ids, tokens and
 * addresses of their own, so that no cache answers for what it saw before.
 */
export const TYPICAL_RECORDS: Readonly<Table> = {
  ...SERVERS,
  ...CLOUDS,
  ...GATEWAYS,
  ...PLATFORMS,
};
