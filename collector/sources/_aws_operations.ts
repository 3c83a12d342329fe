import type { EventKind } from '../../model/kinds.ts';

/** What an operation of AWS is, by `service:Operation` as in IAM actions. */
export interface AwsOperation {
  readonly kind: EventKind;
  /** Kind where it failed. */
  readonly failed?: EventKind;
  readonly endpoint?: string;
  /** What of the record names the thing: a KMS key, a secret, a parameter. */
  readonly about?: 'kms_key' | 'secret' | 'parameter' | 'policy' | 'client';
}

const each = (
  names: readonly string[],
  operation: AwsOperation,
): Readonly<Record<string, AwsOperation>> =>
  Object.fromEntries(names.map((name) => [name, operation]));

const token = (kind: EventKind): AwsOperation => ({
  kind,
  failed: 'token_request_failed',
  endpoint: 'token',
});

const KMS = (kind: EventKind): AwsOperation => ({ kind, about: 'kms_key' });

const kms = (names: string, kind: EventKind): Readonly<Record<string, AwsOperation>> =>
  each(
    names.split(' ').map((n) => `kms:${n}`),
    KMS(kind),
  );

const named = (
  service: string,
  names: string,
  operation: AwsOperation,
): Readonly<Record<string, AwsOperation>> =>
  each(
    names.split(' ').map((n) => `${service}:${n}`),
    operation,
  );

/** Every other API call is one (`api_accessed`); what is no call stays unclassified. */
export const AWS_OPERATIONS: Readonly<Record<string, AwsOperation>> = {
  ...named(
    'sts',
    'AssumeRole AssumeRoleWithSAML AssumeRoleWithWebIdentity AssumeRoot',
    token('token_exchanged'),
  ),
  ...named('sts', 'GetSessionToken GetFederationToken', token('token_issued')),
  ...kms('CreateKey ReplicateKey ImportKeyMaterial', 'key_created'),
  // Pointing an alias at another key is how a signing key changes.
  ...kms('RotateKeyOnDemand RotateKey UpdateAlias', 'key_rotated'),
  ...kms('DisableKey', 'key_disabled'),
  ...kms('ScheduleKeyDeletion DeleteKey DeleteImportedKeyMaterial', 'key_deleted'),
  ...kms('Sign Verify Encrypt Decrypt ReEncrypt GenerateMac VerifyMac', 'key_used'),
  ...kms('GenerateDataKey GenerateDataKeyWithoutPlaintext GenerateDataKeyPair', 'key_used'),
  ...kms('GenerateDataKeyPairWithoutPlaintext DeriveSharedSecret', 'key_used'),
  ...kms('PutKeyPolicy CreateGrant RetireGrant RevokeGrant', 'policy_changed'),
  ...kms('DisableKeyRotation EnableKeyRotation', 'policy_changed'),
  ...kms('EnableKey CancelKeyDeletion DescribeKey GetPublicKey', 'api_accessed'),
  ...named('secretsmanager', 'GetSecretValue BatchGetSecretValue', {
    kind: 'secret_read',
    about: 'secret',
  }),
  ...named(
    'secretsmanager',
    'CreateSecret PutSecretValue UpdateSecret RotateSecret RestoreSecret DeleteSecret UpdateSecretVersionStage RotationSucceeded',
    { kind: 'secret_changed', about: 'secret' },
  ),
  ...named('secretsmanager', 'PutResourcePolicy DeleteResourcePolicy', {
    kind: 'policy_changed',
    about: 'secret',
  }),
  ...named('ssm', 'GetParameter GetParameters GetParametersByPath', {
    kind: 'secret_read',
    about: 'parameter',
  }),
  ...named('ssm', 'PutParameter DeleteParameter DeleteParameters', {
    kind: 'secret_changed',
    about: 'parameter',
  }),
  ...named(
    'iam',
    'AttachRolePolicy AttachUserPolicy AttachGroupPolicy DetachRolePolicy DetachUserPolicy DetachGroupPolicy PutRolePolicy PutUserPolicy PutGroupPolicy DeleteRolePolicy DeleteUserPolicy DeleteGroupPolicy CreatePolicy CreatePolicyVersion DeletePolicy SetDefaultPolicyVersion UpdateAssumeRolePolicy CreateRole DeleteRole CreateOpenIDConnectProvider DeleteOpenIDConnectProvider UpdateOpenIDConnectProviderThumbprint AddClientIDToOpenIDConnectProvider RemoveClientIDFromOpenIDConnectProvider CreateSAMLProvider UpdateSAMLProvider DeleteSAMLProvider',
    { kind: 'policy_changed', about: 'policy' },
  ),
  ...named('iam', 'CreateAccessKey UpdateAccessKey DeleteAccessKey', {
    kind: 'client_credential_changed',
  }),
  ...named('signin', 'ConsoleLogin UserAuthentication', { kind: 'login', failed: 'login_failed' }),
  ...named('signin', 'CheckMfa', { kind: 'mfa_result' }),
  ...named('signin', 'CredentialChallenge', { kind: 'mfa_challenged' }),
  ...named('signin', 'ExternalIdPDirectoryLogin', { kind: 'federation_handshake' }),
  ...named('signin', 'GetSigninToken', token('token_issued')),
  ...named('signin', 'SwitchRole', token('token_exchanged')),
  ...named('sso', 'Authenticate', { kind: 'login', failed: 'login_failed' }),
  ...named('sso', 'Federate', { kind: 'federation_handshake' }),
  ...named('sso', 'Logout', { kind: 'session_ended' }),
  ...named('sso', 'CreateToken', { ...token('token_issued'), about: 'client' }),
  ...named('sso-oauth', 'CreateToken', { ...token('token_issued'), about: 'client' }),
  ...named('sso-oauth', 'CreateTokenWithIAM', { ...token('token_exchanged'), about: 'client' }),
  ...named('sso', 'RegisterClient', {
    kind: 'client_registered',
    endpoint: 'registration',
    about: 'client',
  }),
  ...named('sso', 'StartDeviceAuthorization', {
    kind: 'device_authorization_requested',
    endpoint: 'device_authorization',
    about: 'client',
  }),
};
