import { describe, expect, it } from 'vitest';
import actions from '../../collector/sources/github_actions_oidc.ts';
import { filledFields } from './filled_fields.ts';
import { eventsOf, expected, json, line, RECEIVED_AT, ring, withoutId } from './run_source.ts';

const time = '2026-01-01T00:00:00.123Z';
const at = 1_767_225_600_123_000_000n;
const jti = '6d1f0f3a-5a53-4a3c-8d8e-9a4b51d4c003';
const issuer = 'https://token.actions.githubusercontent.com';
const claims = {
  ...{ jti, iss: issuer, aud: 'https://github.com/acme', sub: 'repo:acme/shop:environment:prod' },
  ...{ iat: 1_767_225_590, nbf: 1_767_225_000, exp: 1_767_225_890, repository: 'acme/shop' },
  ...{ repository_owner: 'acme', repository_visibility: 'private', environment: 'prod' },
  ...{ ref: 'refs/heads/main', ref_type: 'branch', event_name: 'push', workflow: 'deploy' },
  ...{ workflow_ref: 'acme/shop/.github/workflows/deploy.yml@refs/heads/main' },
  ...{ job_workflow_ref: 'acme/ci/.github/workflows/deploy.yml@refs/tags/v1' },
  ...{ runner_environment: 'github-hosted', run_id: '42', run_attempt: '1' },
  ...{ actor: 'ada', actor_id: '1001', sha: '0123456789abcdef0123456789abcdef01234567' },
};
const header = { alg: 'RS256', kid: 'k1', typ: 'JWT' };
const seen = (more: object = {}) => ({
  ...{ id: 'ev-1', time, outcome: 'accepted', claims, header, instance: 'sts-1', resource: 'sts' },
  request: { ip: '203.0.113.9', user_agent: 'actions/1.0', id: 'rq-1' },
  ...more,
});
const one = (value: unknown) => {
  const events = eventsOf(actions, json(value));
  expect(events.length).toBe(1);
  return events[0]!;
};
const jwt = (payload: object): string =>
  [header, payload].map((p) => Buffer.from(JSON.stringify(p)).toString('base64url')).join('.') +
  `.${'c2ln'.repeat(20)}`;

describe('an accepted token', () => {
  it('with everything that a relying party can say', () => {
    expect(withoutId(one(seen()))).toEqual(
      expected(actions, {
        ...{ time: at, kind: 'token_validated', outcome: 'success', issuer },
        source: { instance: 'sts-1', tenant: 'acme', raw_type: 'id_token accepted' },
        client: { id: 'acme/shop', name: 'deploy' },
        subject: { ref: ring.ref('subject', 'repo:acme/shop:environment:prod'), type: 'service' },
        actor: { ref: ring.ref('subject', '1001'), type: 'user' },
        ...{ audience: ['https://github.com/acme'], resource: ['sts'] },
        tokens: [
          {
            ...{
              role: 'presented',
              type: 'id',
              ref: jti,
              ref_kind: 'jti',
              kid: 'k1',
              alg: 'RS256',
            },
            issued_at: 1_767_225_590_000_000_000n,
            expires_at: 1_767_225_890_000_000_000n,
          },
        ],
        session_ref: ring.ref('session', 'acme/shop/42'),
        net: {
          ...{ client_ip: '203.0.113.9', network: '203.0.113.0/24', ip_role: 'client_backend' },
          ...{ user_agent: 'actions/1.0', ua_family: 'actions' },
        },
        corr: { request_id: 'rq-1' },
        ext: {
          ...{
            repository: 'acme/shop',
            repository_owner: 'acme',
            repository_visibility: 'private',
          },
          ...{ environment: 'prod', ref: 'refs/heads/main', ref_type: 'branch' },
          ...{ event_name: 'push', workflow: 'deploy', workflow_ref: claims.workflow_ref },
          ...{ job_workflow_ref: claims.job_workflow_ref, runner_environment: 'github-hosted' },
          ...{ run_id: '42', run_attempt: '1' },
        },
        redaction: { fields: ['actor.ref', 'session_ref', 'subject.ref', 'tokens.ref'] },
      }),
    );
  });

  it('the token itself is read and not kept', () => {
    const raw = jwt(claims);
    const event = one(seen({ claims: undefined, header: undefined, token: raw }));
    expect({ ...event, event_id: '' }).toEqual({ ...one(seen()), event_id: '' });
    const text = JSON.stringify(event, (_, v: unknown) => (typeof v === 'bigint' ? '' : v));
    for (const part of raw.split('.')) expect(text).not.toContain(part);
    const flat = one({ time, token: raw });
    expect([flat.outcome, flat.tokens[0]!.ref]).toEqual(['unknown', jti]);
  });

  it('the claims alone, at the time they were issued', () => {
    const event = one(claims);
    expect([event.kind, event.outcome, event.time]).toEqual([
      ...['token_validated', 'unknown', 1_767_225_590_000_000_000n],
    ]);
    expect([event.source.raw_type, event.error.code]).toEqual(['id_token', '']);
  });
});

describe('a rejected token', () => {
  it.each([
    [{ error: 'ERR_JWT_EXPIRED' }, 'expired'],
    [
      { error: { code: 'ERR_JWT_CLAIM_VALIDATION_FAILED', claim: 'aud', message: 'no' } },
      'invalid_audience',
    ],
    [{ error: { code: 'ERR_JWT_CLAIM_VALIDATION_FAILED', claim: 'iss' } }, 'invalid_issuer'],
    [{ error: { code: 'ERR_JWT_CLAIM_VALIDATION_FAILED', claim: 'sub' } }, 'untrusted_subject'],
    [{ error: { code: 'ERR_JWT_CLAIM_VALIDATION_FAILED', claim: 'nbf' } }, 'not_yet_valid'],
    [{ error: 'ERR_JWS_SIGNATURE_VERIFICATION_FAILED' }, 'invalid_signature'],
    [{ reason: 'ERR_JWKS_NO_MATCHING_KEY' }, 'unknown_key'],
    [{ reason: 'branch not trusted' }, 'branch not trusted'],
    [{ reason: 'constructor' }, 'constructor'],
    [{}, ''],
  ])('%j', (more, code) => {
    const event = one(seen({ outcome: 'rejected', ...more }));
    expect([event.kind, event.outcome, event.error.code]).toEqual([
      'token_rejected',
      'failure',
      code,
    ]);
  });

  it('denied by a policy; with the reason in words', () => {
    const event = one(seen({ outcome: 'Denied', reason: 'sub', detail: 'Only main may deploy.' }));
    expect([event.kind, event.outcome]).toEqual(['token_rejected', 'denied']);
    expect(event.error).toEqual({
      ...{ code: 'untrusted_subject', oauth_error: '', detail: 'Only main may deploy.' },
    });
  });

  it('of another issuer is known by the claims that only these tokens have', () => {
    const forged = { ...claims, iss: 'https://evil.example.com' };
    expect(one(seen({ outcome: 'rejected', claims: forged })).issuer).toBe(
      'https://evil.example.com',
    );
  });
});

it.each([
  ['https://token.actions.githubusercontent.com/acme', true],
  ['https://ghes.example.com/_services/token', true],
  ['https://token.actions.githubusercontent.com.example.com', false],
  ['https://accounts.example.com', false],
  ['http://token.actions.githubusercontent.com', false],
])('issuer %s: %s', (iss, ok) => {
  const parsed = actions.parse(json({ time, claims: { iss, sub: 'x' } }), {
    received_at: RECEIVED_AT,
  });
  expect(parsed.ok).toBe(ok);
});

describe('refusals', () => {
  const needed =
    'record: no ID token of GitHub Actions; claims with iss, or with repository and workflow_ref, are needed';
  it.each([
    [{ hello: 'world' }, 'unrecognised_record', needed],
    [{ time, token: 'not.a.token' }, 'unrecognised_record', needed],
    [{ time, token: jwt({ iss: 'https://accounts.example.com' }) }, 'unrecognised_record', needed],
    [{ claims: { iss: issuer } }, 'missing_field', 'time: is required, or iat'],
    [
      { time: 'x', claims },
      'invalid_time',
      'time: not a time; allowed: ISO 8601, or epoch seconds, ms, µs or ns',
    ],
    [[], 'not_an_object', 'record: must be a JSON object'],
  ])('%j', (value, code, message) => {
    expect(actions.parse(json(value), { received_at: RECEIVED_AT })).toEqual({
      ok: false,
      code,
      message,
    });
  });

  it('text', () => {
    expect(actions.parse(line('x'), { received_at: RECEIVED_AT })).toEqual({
      ...{ ok: false, code: 'unsupported_form' },
      message: 'text: allowed is JSON with the claims of the token',
    });
  });

  it('foreign names and types do no harm', () => {
    const hostile = JSON.parse(
      `{"time":"${time}","outcome":"__proto__","error":[],"header":7,"request":"x","claims":` +
        `{"iss":"${issuer}","aud":{},"sub":[],"run_id":{},"__proto__":{"jti":"x"}}}`,
    ) as unknown;
    expect(one(hostile)).toMatchObject({
      ...{ kind: 'token_validated', outcome: 'unknown', subject: { ref: '' }, audience: [] },
      tokens: [{ ref: '' }],
    });
  });
});

it('provides what it says', () => {
  const events = [
    one(seen()),
    one(seen({ outcome: 'rejected', error: { code: 'x', message: 'No.' } })),
  ];
  expect(filledFields(events)).toEqual([...actions.provides, 'phase'].sort());
});
