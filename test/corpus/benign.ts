import { Random } from './random.ts';

/** Texts that look like secrets and are none. What redaction takes from them is lost to whoever investigates. */
export interface Benign {
  /** Kind of look-alike: precision is counted by it. */
  readonly group: string;
  readonly text: string;
}

/** Groups in which some texts are known to be taken for secrets, and the share that must at least be kept. */
export const KNOWN_FALSE_ALARMS: Readonly<Record<string, { floor: number; why: string }>> = {
  'JWK thumbprint in prose': {
    floor: 0,
    why: 'A SHA-256 in base64url looks like any opaque token; in its own field (key ids, thumbprints) it is kept.',
  },
  'ETag in base64': {
    floor: 0,
    why: 'A hash in base64; in its own header attribute it is scrubbed as text, too.',
  },
  'Windows path': {
    floor: 0.85,
    why: 'A backslash may be an escape, so it parts no words; a path of many mixed words then reads like random text.',
  },
  'feature names': {
    floor: 0.75,
    why: 'A name with digits and many capitals of 16 characters and more (PKCS12KeyStoreV2) is as mixed as a short token.',
  },
  'SHA-256 in hex, unlabelled': {
    floor: 0,
    why: '256 bits in hex may be a key; "sha256:..." is kept.',
  },
};

type Make = (r: Random) => string;

const VERBS = ['failed', 'done', 'refused', 'accepted', 'retried'];
const GROUPS: Readonly<Record<string, Make>> = {
  UUID: (r) => `request ${r.uuid()} ${r.pick(VERBS)}`,
  'UUID in upper case': (r) => `id ${r.uuid().toUpperCase()}`,
  'two UUIDs, joined': (r) => `key ${r.uuid()}:${r.uuid()}`,
  'trace context': (r) => `00-${r.hex(32)}-${r.hex(16)}-01`,
  'trace and span id': (r) => `trace_id=${r.hex(32)} span_id=${r.hex(16)}`,
  'git SHA': (r) => `deployed ${r.hex(40)} to prod`,
  'short git SHA': (r) => `deployed ${r.hex(7)} to prod`,
  'image digest': (r) => `registry.example/app@sha256:${r.hex(64)}`,
  'SHA-256 in hex, unlabelled': (r) => `digest a1${r.hex(62)}`,
  'JWK thumbprint in prose': (r) => `key ${r.base64url(43)} rotated`,
  'ETag in base64': (r) => `etag "${r.base62(21)}+A=="`,
  'ETag in hex': (r) => `etag W/"${r.hex(16)}"`,
  'MD5 in hex': (r) => `checksum ${r.hex(32)}`,
  'file path': (r) =>
    `/opt/app/releases/${r.below(9_999)}/node_modules/@scope/pkg-name/dist/index.js`,
  'Windows path': (r) => `C:\\Users\\svc\\AppData\\Local\\Temp\\build${r.below(99)}`,
  'route template': (r) => `/api/v1/customers/{id}/orders/${r.below(1e6)}/items`,
  'class name': (r) =>
    r.pick([
      'org.springframework.security.oauth2.server.authorization.OAuth2AuthorizationService',
      'com.example.auth.JwtBearerTokenAuthenticationConverterFactory',
      'OAuth2AuthorizationCodeRequestAuthenticationProvider',
      'AbstractSingletonProxyFactoryBean',
      'Http2ConnectionHandlerBuilder',
    ]),
  'stack frame': (r) =>
    `at TokenEndpoint.handle (/srv/as/lib/token_endpoint.js:${r.below(999)}:${r.below(99)})`,
  version: (r) =>
    `v${r.below(9)}.${r.below(99)}.${r.below(99)}-rc.${r.below(9)}+build.${r.digits(8)}.${r.hex(7)}`,
  'user agent, browser': (r) =>
    `Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/${100 + r.below(50)}.0.0.0 Safari/537.36`,
  'user agent, program': (r) =>
    r.pick([
      'okhttp/4.12.0',
      'python-requests/2.32.3',
      'Go-http-client/2.0',
      'openid-client/6.8.9 (node)',
      'kubectl/v1.31.2 (linux/amd64) kubernetes/5864a46',
    ]),
  SQL: (r) =>
    `SELECT client_id, count(*) FROM auth_events WHERE outcome = 'failure' AND time > now() - ${r.below(99)} GROUP BY client_id`,
  'Kubernetes pod': (r) =>
    `auth-server-${r.text(10, 'bcdfghjklmnpqrstvwxz2456789')}-${r.text(5, 'bcdfghjklmnpqrstvwxz2456789')}`,
  'Kubernetes event': (r) =>
    `Pod as-${r.below(9)} in namespace identity: Back-off restarting failed container keycloak`,
  ARN: (r) => `arn:aws:iam::${r.digits(12)}:role/service-role/auth-token-exchange-role`,
  'Azure resource': (r) =>
    `/subscriptions/${r.uuid()}/resourceGroups/auth/providers/Microsoft.KeyVault/vaults/kv${r.below(99)}`,
  'GCP resource': (r) =>
    `projects/auth-prod-${r.below(999)}/locations/europe-west1/keyRings/main/cryptoKeys/signing`,
  scopes: (r) =>
    `openid profile email offline_access https://graph.microsoft.com/User.Read orders:read:${r.below(9)}`,
  'OAuth error': (r) =>
    r.pick([
      'error=invalid_grant error_description="the refresh token is expired"',
      'invalid_client: client authentication failed',
      'error: "invalid_request", the code_verifier is missing',
      'code: invalid_grant',
      'Bearer realm="api", error="invalid_token", error_description="The token has expired"',
      'use_dpop_nonce: authorization server requires nonce in DPoP proof',
      'the authorization code was already used',
      'state: mismatch',
      'PKCE verification failed: code_verifier does not match',
    ]),
  'prose of passwords': (r) =>
    r.pick([
      'the password is incorrect',
      'your password has been changed',
      'password must contain 12 characters',
      'password authentication is disabled for this client',
      'password reset was requested by the user',
      'wrong password for the third time',
      'password expired 30 days ago',
      'the password was not accepted',
    ]),
  'prose of tokens': (r) =>
    r.pick([
      'the access token is expired',
      'refresh token rotation is enabled',
      'token was issued to another client',
      'the token is not active yet',
      'token exchange was denied by policy',
      'no token in the request',
      'secret rotation is due in 14 days',
      'the client secret is too short',
      'the code was redeemed twice',
      'token lifetime is 3600 seconds',
      'a cookie is required',
      'nonce is missing in the ID token',
    ]),
  'status codes': (r) =>
    r.pick([
      'status code 404',
      'exit code 137',
      'error code 40101',
      'code: 14',
      'response code is 5003',
      'HTTP 503',
    ]),
  timestamp: (r) => `2025-11-2${r.below(10)}T12:4${r.below(10)}:36.${r.digits(6)}Z`,
  'compact timestamp': (r) => `backup-202511${10 + r.below(18)}T12${10 + r.below(49)}36Z.tar.gz`,
  'epoch times': (r) => `iat=17${r.digits(8)} exp=17${r.digits(8)}`,
  'IP addresses': (r) =>
    `from 203.0.113.${r.below(255)}:${r.below(65_535)} via 2001:db8::${r.hex(4)}`,
  'algorithm names': (r) =>
    r.pick([
      'TLS_AES_256_GCM_SHA384',
      'ECDHE-RSA-AES128-GCM-SHA256',
      'RSA-OAEP-256 A256GCM',
      'ECDH-ES+A256KW',
    ]),
  'grant types': (r) =>
    r.pick([
      'urn:ietf:params:oauth:grant-type:token-exchange',
      'urn:openid:params:grant-type:ciba',
      'authorization_code refresh_token',
    ]),
  'issuer and endpoints': (r) =>
    `https://login.example.com/realms/customers-${r.below(9)}/protocol/openid-connect/token`,
  'token parameters that are none': (r) =>
    `token_type=Bearer&expires_in=${r.below(9_999)}&token_endpoint_auth_method=client_secret_basic`,
  'machine states': (r) =>
    r.pick([
      'state: running',
      'state=open',
      '"state":"ready"',
      'code=14',
      '"code":"ERR_BAD_REQUEST"',
      'code: ECONNREFUSED',
    ]),
  'MIME and base64 image head': (r) =>
    `Content-Type: image/png; charset=binary; size=${r.below(9_999)}`,
  'host names': (r) => `ip-10-0-${r.below(255)}-${r.below(255)}.eu-central-1.compute.internal`,
  'Mongo ObjectId': (r) => `order ${r.hex(24)} not found`,
  'order numbers': (r) => `order 1Z999AA1${r.digits(10)} shipped`,
  'feature names': (r) =>
    r.pick([
      'iPhone15ProMaxClear',
      'Windows11Enterprise',
      'Q3Report2025Final',
      'PKCS12KeyStoreV2',
      'OAuth2ClientV2Config',
    ]),
  'log line': (r) =>
    `${r.below(24)}:00:01.123 [nio-8080-exec-${r.below(99)}] WARN  o.k.s.TokenManager - Refresh token issued before the client session started`,
  'Prometheus sample': (r) =>
    `http_server_duration_seconds_bucket{route="/token",le="0.25"} ${r.below(9_999)}`,
  'JSON without secrets': (r) =>
    JSON.stringify({
      client_id: 'web',
      grant_type: 'authorization_code',
      expires_in: r.below(999),
      token_type: 'DPoP',
    }),
  'Maven coordinates': (r) => `com.nimbusds:oauth2-oidc-sdk:11.${r.below(20)}.${r.below(9)}`,
};

/** The whole corpus: `each` texts of every group. */
export function benignCorpus(seed: number, each: number): Benign[] {
  const random = new Random(seed);
  return Object.entries(GROUPS).flatMap(([group, make]) =>
    Array.from({ length: each }, () => ({ group, text: make(random) })),
  );
}
