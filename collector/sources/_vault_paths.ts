import type { EventKind } from '../../model/kinds.ts';
import { lookUp } from './_reading.ts';

/** Longest path that is told apart, characters. */
const PATH_LENGTH_MAX = 1_024;

/** What a request to Vault was about, told by its path. */
export interface VaultRoute {
  readonly kind: EventKind;
  /** Kind where it failed. */
  readonly failed?: EventKind | undefined;
  readonly endpoint?: string | undefined;
  /** `update transit/sign`. */
  readonly rawType: string;
  readonly mountType: string;
  /** Mount without the last slash. */
  readonly store: string;
  /** The key or secret: mount and name, without version; '' where the path is about none. */
  readonly key: string;
  /** What was done with it: `sign`, `export`, `read`. */
  readonly operation: string;
  /** Role of a machine whose credential this is about, or ''. */
  readonly client: string;
  /** User that a login path names, or ''. */
  readonly name: string;
  /** Policy or setting that was changed, or ''. */
  readonly policy: string;
  readonly isLogin: boolean;
  /** About the token that asks. */
  readonly isSelf: boolean;
}

/** One shape of a path below a mount; group 1 names what it is about. */
interface Shape {
  readonly path: RegExp;
  /** Operations; left out: all. */
  readonly operations?: readonly string[];
  readonly kind: EventKind;
  readonly failed?: EventKind;
  readonly endpoint?: string;
  readonly about?: 'key' | 'client' | 'policy' | 'name';
  /** Put before the name, where several paths are about one thing. */
  readonly keyPrefix?: string;
  readonly isLogin?: true;
}

const WRITE = ['create', 'update', 'patch'];
const CHANGE = [...WRITE, 'delete'];

const TRANSIT: readonly Shape[] = [
  { path: /^(?:export\/[^/]+|byok-export\/[^/]+|backup)\/([^/]+)/, kind: 'key_used', about: 'key' },
  { path: /^restore(?:\/([^/]+))?$/, kind: 'key_created', about: 'key' },
  { path: /^keys\/([^/]+)\/(?:rotate|import_version)$/, kind: 'key_rotated', about: 'key' },
  { path: /^keys\/([^/]+)\/import$/, kind: 'key_created', about: 'key' },
  { path: /^keys\/([^/]+)\/config$/, kind: 'policy_changed', about: 'key' },
  { path: /^keys\/([^/]+)$/, operations: WRITE, kind: 'key_created', about: 'key' },
  { path: /^keys\/([^/]+)$/, operations: ['delete'], kind: 'key_deleted', about: 'key' },
  { path: /^keys(?:\/([^/]*))?$/, kind: 'api_accessed', about: 'key' },
  {
    path: /^(?:sign|verify|hmac|cmac|encrypt|decrypt|rewrap|datakey\/[^/]+)\/([^/]+)/,
    kind: 'key_used',
    about: 'key',
  },
];

const KV: readonly Shape[] = [
  {
    path: /^(?:metadata|subkeys)\/(.*)$/,
    operations: ['read', 'list'],
    kind: 'api_accessed',
    about: 'key',
  },
  { path: /^data\/(.+)$/, operations: ['read'], kind: 'secret_read', about: 'key' },
  {
    path: /^(?:data|metadata|delete|undelete|destroy)\/(.+)$/,
    operations: CHANGE,
    kind: 'secret_changed',
    about: 'key',
  },
  { path: /^(.+)$/, operations: ['read'], kind: 'secret_read', about: 'key' },
  { path: /^(.+)$/, operations: CHANGE, kind: 'secret_changed', about: 'key' },
  { path: /^(.*)$/, operations: ['list'], kind: 'api_accessed', about: 'key' },
];

/** Engines that make credentials for others. */
const CREDENTIALS: readonly Shape[] = [
  {
    path: /^(?:creds|sts|static-creds|static-cred)\/(.+)$/,
    kind: 'secret_read',
    about: 'key',
    keyPrefix: 'creds/',
  },
  { path: /^rotate-role\/(.+)$/, kind: 'secret_changed', about: 'key', keyPrefix: 'creds/' },
  { path: /^(rotate-root)(?:\/.*)?$/, kind: 'secret_changed', about: 'key' },
];

const PKI: readonly Shape[] = [
  {
    path: /^((?:root|intermediate|issuers|keys)\/generate\/.+)$/,
    kind: 'key_created',
    about: 'key',
  },
  { path: /^root\/rotate\/(.+)$/, kind: 'key_rotated', about: 'key' },
  { path: /^key\/([^/]+)$/, operations: ['delete'], kind: 'key_deleted', about: 'key' },
  { path: /^(root)$/, operations: ['delete'], kind: 'key_deleted', about: 'key' },
];

const IDENTITY: readonly Shape[] = [
  { path: /^(oidc\/key\/[^/]+)\/rotate$/, kind: 'key_rotated', about: 'key' },
  { path: /^(oidc\/key\/[^/]+)$/, operations: ['create'], kind: 'key_created', about: 'key' },
  { path: /^(oidc\/key\/[^/]+)$/, operations: ['delete'], kind: 'key_deleted', about: 'key' },
  {
    path: /^oidc\/token\/([^/]+)$/,
    kind: 'token_issued',
    failed: 'token_request_failed',
    endpoint: 'token',
  },
  { path: /^oidc\/introspect$/, kind: 'token_introspected', endpoint: 'introspection' },
  {
    path: /^oidc\/provider\/[^/]+\/token$/,
    kind: 'token_issued',
    failed: 'token_request_failed',
    endpoint: 'token',
  },
  {
    path: /^oidc\/provider\/[^/]+\/authorize$/,
    kind: 'authorization_requested',
    failed: 'authorization_failed',
    endpoint: 'authorization',
  },
  { path: /^oidc\/provider\/[^/]+\/userinfo$/, kind: 'userinfo_accessed', endpoint: 'userinfo' },
  {
    path: /^oidc\/(?:provider\/[^/]+\/)?\.well-known\/keys$/,
    kind: 'jwks_fetched',
    endpoint: 'jwks',
  },
  // Reading a client shows its secret.
  { path: /^(oidc\/client\/[^/]+)$/, operations: ['read'], kind: 'secret_read', about: 'key' },
  {
    path: /^oidc\/client\/([^/]+)$/,
    operations: ['create'],
    kind: 'client_registered',
    about: 'client',
  },
  { path: /^oidc\/client\/([^/]+)$/, operations: WRITE, kind: 'client_updated', about: 'client' },
  {
    path: /^oidc\/client\/([^/]+)$/,
    operations: ['delete'],
    kind: 'client_deleted',
    about: 'client',
  },
];

const TOKEN: readonly Shape[] = [
  {
    path: /^create(?:-orphan|\/.+)?$/,
    kind: 'token_issued',
    failed: 'token_request_failed',
    endpoint: 'token',
  },
  {
    path: /^renew(?:-self|-accessor)?(?:\/.+)?$/,
    kind: 'token_refreshed',
    failed: 'token_request_failed',
    endpoint: 'token',
  },
  {
    path: /^revoke(?:-self|-accessor|-orphan)?(?:\/.+)?$/,
    kind: 'token_revoked',
    endpoint: 'revocation',
  },
  {
    path: /^lookup(?:-self|-accessor)?(?:\/.+)?$/,
    kind: 'token_introspected',
    endpoint: 'introspection',
  },
];

/** Auth methods by which people log in. */
const PEOPLE: readonly Shape[] = [
  {
    path: /^login(?:\/(.+))?$/,
    kind: 'login',
    failed: 'login_failed',
    about: 'name',
    isLogin: true,
  },
  { path: /^oidc\/callback$/, kind: 'login', failed: 'login_failed', isLogin: true },
  { path: /^oidc\/auth_url$/, kind: 'federation_handshake' },
  {
    path: /^(users\/[^/]+(?:\/.+)?|groups\/.+|config|role\/[^/]+)$/,
    operations: CHANGE,
    kind: 'policy_changed',
    about: 'policy',
  },
];

/** Auth methods by which machines change a credential for a token. */
const MACHINES: readonly Shape[] = [
  {
    path: /^login(?:\/.+)?$/,
    kind: 'token_issued',
    failed: 'token_request_failed',
    endpoint: 'token',
    isLogin: true,
  },
  {
    path: /^role\/([^/]+)\/(?:custom-)?secret-id(?:\/destroy|-accessor\/destroy)?$/,
    operations: CHANGE,
    kind: 'client_credential_changed',
    about: 'client',
  },
  {
    path: /^(role\/[^/]+(?:\/.+)?|config(?:\/.+)?)$/,
    operations: CHANGE,
    kind: 'policy_changed',
    about: 'policy',
  },
];

/** The plugin of JWTs lets people log in with OpenID Connect as well. */
const JWT: readonly Shape[] = [
  ...PEOPLE.filter((s) => s.path.source.startsWith('^oidc')),
  ...MACHINES,
];

const SYSTEM: readonly Shape[] = [
  {
    path: /^(?:policy|policies\/(?:acl|rgp|egp))\/(.+)$/,
    operations: CHANGE,
    kind: 'policy_changed',
    about: 'policy',
  },
  { path: /^((?:audit|auth)\/.+)$/, operations: CHANGE, kind: 'policy_changed', about: 'policy' },
  { path: /^(rotate)$/, operations: WRITE, kind: 'key_rotated', about: 'key' },
];

const SHAPES: Readonly<Record<string, readonly Shape[]>> = {
  transit: TRANSIT,
  kv: KV,
  generic: KV,
  cubbyhole: KV,
  pki: PKI,
  identity: IDENTITY,
  token: TOKEN,
  jwt: JWT,
  system: SYSTEM,
  ...Object.fromEntries(
    ['userpass', 'ldap', 'oidc', 'okta', 'github', 'radius', 'saml', 'kerberos'].map((t) => [
      t,
      PEOPLE,
    ]),
  ),
  ...Object.fromEntries(['approle', 'cert', 'spiffe', 'cf', 'oci'].map((t) => [t, MACHINES])),
  ...Object.fromEntries(
    ['database', 'rabbitmq', 'consul', 'nomad', 'openldap', 'ad', 'terraform', 'mongodbatlas'].map(
      (t) => [t, CREDENTIALS],
    ),
  ),
};

/** Names that are both an auth method and an engine of credentials; the mount tells. */
const BOTH: ReadonlySet<string> = new Set([
  'aws',
  'gcp',
  'azure',
  'alicloud',
  'kubernetes',
  'ldap',
]);

function shapesOf(mountType: string, isAuth: boolean): readonly Shape[] {
  if (BOTH.has(mountType) && !isAuth) return CREDENTIALS;
  if (BOTH.has(mountType) && mountType !== 'ldap') return MACHINES;
  return lookUp(SHAPES, mountType) ?? [];
}

interface Request {
  readonly path: string;
  readonly operation: string;
  readonly mountType: string;
  /** Undefined in entries of older versions. */
  readonly mountPoint: string | undefined;
}

/** Vault 1.9 and older do not name the mount: then it is taken to be the first part of the path. */
function mountOf(path: string, mountPoint: string | undefined): string {
  if (mountPoint !== undefined && path.startsWith(mountPoint)) return mountPoint;
  const parts = path.split('/');
  return `${parts.slice(0, parts[0] === 'auth' ? 2 : 1).join('/')}/`;
}

/** Within a namespace the three built-in mounts are called `ns_system` and the like. */
function builtInName(mountType: string): string {
  return mountType.replace(/^ns_(?=(?:system|identity|token|cubbyhole)$)/, '');
}

export function routeOf(request: Request): VaultRoute {
  const path = request.path.slice(0, PATH_LENGTH_MAX);
  const mount = mountOf(path, request.mountPoint);
  const rest = path.slice(mount.length);
  const mountType = builtInName(request.mountType);
  const shape = shapesOf(mountType, mount.startsWith('auth/')).find(
    (s) => s.path.test(rest) && s.operations?.includes(request.operation) !== false,
  );
  const name = shape === undefined ? '' : (shape.path.exec(rest)?.[1] ?? '');
  const word = rest.split('/', 1)[0] ?? '';
  const of = (about: Shape['about']): string => (shape?.about === about ? name : '');
  // The paths of a key-value store are names of its users: they are no part of a type.
  const isNamed =
    shape === undefined ||
    (shapesOf(mountType, false) === KV && shape.path.source.startsWith('^(.'));
  const key = of('key');
  return {
    kind: shape?.kind ?? 'unclassified',
    failed: shape?.failed,
    endpoint: shape?.endpoint,
    rawType: `${request.operation} ${mountType}${isNamed ? '' : `/${word}`}`.trim(),
    mountType,
    store: mount.replace(/\/$/, ''),
    key: key === '' ? '' : `${mount}${shape?.keyPrefix ?? ''}${key}`.replace(/\/$/, ''),
    operation: shape?.kind === 'key_used' ? word : request.operation,
    client: of('client'),
    name: of('name'),
    policy: of('policy'),
    isLogin: shape?.isLogin === true,
    isSelf: /^(?:renew|revoke|lookup)-self/.test(rest),
  };
}
