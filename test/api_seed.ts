import { completeEvent, type PartialEvent } from '../model/complete_event.ts';
import type { AuthEvent } from '../model/auth_event.ts';
import type { Finding } from '../model/finding.ts';
import type { Store } from '../store/client.ts';
import { insertEvents } from '../store/insert.ts';

/** A readable UUID: `id('a', 7)` -> `aaaaaaaa-0000-4000-8000-000000000007`. */
export function id(letter: string, n: number): string {
  return `${letter.repeat(8)}-0000-4000-8000-${n.toString(16).padStart(12, '0')}`;
}

/** References of the story that `seedStory` tells. */
export const STORY = {
  tenant: 'default',
  client: 'shop-web',
  subject: id('5', 1),
  session: id('6', 1),
  grant: id('7', 1),
  family: id('f', 1),
  code: id('c', 1),
  refresh1: id('a', 1),
  refresh2: id('a', 2),
  access1: id('b', 1),
  access2: id('b', 2),
  access3: id('b', 3),
  finding: id('d', 1),
} as const;

/** Text that would run, break a query or break a layout if anything took it for more than text. */
export const HOSTILE = `<img src=x onerror="document.title='pwned'"> '; DROP TABLE x; -- {p0:String} \u202e ${'w'.repeat(60)}`;

const MS = 1_000_000n;

/**
 * One grant from login to theft: code, tokens, an API call, a rotation, and then the old refresh token again
 * from another network. Events are a second apart from `startMs` on.
 */
export function storyEvents(startMs: number, tenant: string = STORY.tenant): AuthEvent[] {
  const at = (second: number): bigint => BigInt(startMs + second * 1_000) * MS;
  const base = (n: number): Pick<PartialEvent, 'event_id' | 'tenant' | 'time'> => ({
    event_id: id('e', n),
    tenant,
    time: at(n),
  });
  const around = {
    source: {
      id: 'grantscope',
      vendor: 'grantscope',
      product: 'instrumentation',
      instance: 'as-1',
    },
    client: { id: STORY.client, name: 'Shop' },
    subject: { ref: STORY.subject, type: 'user' as const },
    session_ref: STORY.session,
    grant_ref: STORY.grant,
    issuer: 'https://as.example',
    outcome: 'success' as const,
  };
  const home = {
    net: {
      client_ip: '203.0.113.7',
      ip_role: 'end_user' as const,
      network: '203.0.113.0/24',
      user_agent: 'Mozilla/5.0',
      ua_family: 'Chrome',
      country: 'DE',
    },
  };
  const away = {
    net: {
      client_ip: '198.51.100.9',
      ip_role: 'end_user' as const,
      network: '198.51.100.0/24',
      user_agent: HOSTILE,
      ua_family: 'curl',
      country: 'NL',
    },
  };
  const refresh = { type: 'refresh' as const, family_ref: STORY.family };
  const access = { type: 'access' as const, family_ref: STORY.family };
  const events: PartialEvent[] = [
    {
      ...base(1),
      ...around,
      ...home,
      kind: 'code_issued',
      tokens: [{ role: 'issued', type: 'code', ref: STORY.code }],
    },
    {
      ...base(2),
      ...around,
      ...home,
      kind: 'token_issued',
      grant_type: 'authorization_code',
      scopes_granted: ['openid', 'orders:read'],
      tokens: [
        { role: 'consumed', type: 'code', ref: STORY.code },
        {
          ...access,
          role: 'issued',
          ref: STORY.access1,
          parent_ref: STORY.code,
          expires_at: at(302),
        },
        { ...refresh, role: 'issued', ref: STORY.refresh1, parent_ref: STORY.code },
      ],
    },
    {
      ...base(3),
      ...around,
      ...home,
      source: { id: 'envoy_als', vendor: 'envoy', product: 'envoy', instance: 'gw-1' },
      kind: 'api_accessed',
      resource: ['https://orders.example'],
      http: { method: 'GET', route: '/orders', status: 200 },
      tokens: [{ role: 'presented', type: 'access', ref: STORY.access1 }],
    },
    {
      ...base(4),
      ...around,
      ...home,
      kind: 'token_refreshed',
      grant_type: 'refresh_token',
      scopes_granted: ['openid', 'orders:read'],
      tokens: [
        { ...refresh, role: 'consumed', ref: STORY.refresh1 },
        { ...refresh, role: 'issued', ref: STORY.refresh2, parent_ref: STORY.refresh1 },
        { ...access, role: 'issued', ref: STORY.access2, parent_ref: STORY.refresh1 },
      ],
    },
    {
      ...base(5),
      ...around,
      ...away,
      kind: 'token_request_failed',
      outcome: 'failure',
      grant_type: 'refresh_token',
      error: { code: 'reuse', oauth_error: 'invalid_grant', detail: HOSTILE },
      tokens: [{ ...refresh, role: 'presented', ref: STORY.refresh1 }],
    },
    {
      ...base(6),
      ...around,
      ...away,
      kind: 'token_revoked',
      tokens: [{ ...refresh, role: 'revoked', ref: STORY.refresh2, parent_ref: STORY.refresh1 }],
    },
    // Another client, another subject: must stay out of the story.
    {
      ...base(7),
      ...around,
      ...home,
      kind: 'token_issued',
      grant_type: 'client_credentials',
      client: { id: 'batch/nightly job', name: HOSTILE },
      subject: { ref: id('5', 2), type: 'service' },
      session_ref: '',
      grant_ref: '',
      tokens: [{ role: 'issued', type: 'access', ref: STORY.access3 }],
    },
  ];
  return events.map(completeEvent);
}

/** A finding; what is left out is filled in. */
export function makeFinding(f: Partial<Finding> & Pick<Finding, 'finding_id'>): Finding {
  return {
    tenant: STORY.tenant,
    rule_id: 'refresh_token_reuse',
    rule_version: 1,
    title: 'Refresh token reuse',
    family: 'token_replay',
    severity: 'high',
    confidence: 90,
    risk: 81,
    entity_type: 'family',
    entity_ref: STORY.family,
    episode: '1',
    verdict: 'theft',
    state: 'open',
    summary: 'A rotated refresh token was presented again from another network.',
    reasons: ['presented 1 s after its successor was issued', 'another network and user agent'],
    evidence: { presented_from: '198.51.100.0/24', seconds_after_rotation: 1, user_agent: HOSTILE },
    event_ids: [id('e', 4), id('e', 5)],
    token_refs: [STORY.refresh1, STORY.refresh2],
    client_id: STORY.client,
    subject_ref: STORY.subject,
    issuer: 'https://as.example',
    networks: ['198.51.100.0/24', '203.0.113.0/24'],
    sources: ['grantscope'],
    first_event_time: '2026-03-01T10:00:04.000Z',
    last_event_time: '2026-03-01T10:00:05.000Z',
    references: ['RFC 9700 section 4.14', 'ATT&CK T1528'],
    runbook: 'token_compromise',
    detected_at: '2026-03-01T10:00:06.000Z',
    updated_at: '2026-03-01T10:00:06.000Z',
    ...f,
  };
}

/** Writes findings as the detectors do; `version` decides which of two writes wins. */
export async function insertFindings(
  store: Store,
  findings: readonly Finding[],
  version = 1,
): Promise<void> {
  const time = (iso: string): string => iso.replace('T', ' ').replace('Z', '');
  await store.insertRows(
    'grantscope.findings',
    findings.map((f) => ({
      ...f,
      evidence: JSON.stringify(f.evidence),
      subject_ref: f.subject_ref === '' ? id('0', 0).replaceAll(/[48]/g, '0') : f.subject_ref,
      first_event_time: time(f.first_event_time),
      last_event_time: time(f.last_event_time),
      detected_at: time(f.detected_at),
      updated_at: time(f.updated_at),
      version,
    })),
  );
}

/** Two SLO states: one overspent, one unmeasured. */
export async function insertSlos(store: Store, computedMs: number): Promise<void> {
  const at = new Date(computedMs).toISOString().replace('T', ' ').replace('Z', '');
  const base = {
    tenant: STORY.tenant,
    description: 'Token requests that are answered without an error of the server.',
    owner: 'identity',
    window: '30d',
    excluded: 3,
    watermark: at,
    shadow: false,
    computed_at: at,
  };
  await store.insertRows('grantscope.slo_states', [
    {
      ...base,
      slo_id: 'token_endpoint_availability',
      title: 'Token endpoint availability',
      runbook: 'as_outage',
      objective: 0.999,
      state: 'breached',
      good: 9_980,
      bad: 20,
      budget_remaining: -1,
      coverage: 1,
      burn_rates: { '6h': 2, '1h': 14.5, '5m': 20 },
      good_by_window: { '5m': 98, '1h': 985, '6h': 4_990 },
      bad_by_window: { '5m': 2, '1h': 15, '6h': 10 },
    },
    {
      ...base,
      slo_id: 'introspection_latency',
      title: 'Introspection latency',
      runbook: 'introspection_slow',
      objective: 0.99,
      state: 'unmeasured',
      good: 0,
      bad: 0,
      budget_remaining: null,
      coverage: 0,
      burn_rates: {},
      good_by_window: {},
      bad_by_window: {},
    },
  ]);
}

export async function seedStory(store: Store, startMs: number): Promise<void> {
  await insertEvents(store, storyEvents(startMs));
}
