/**
 * How: random histories (late, sent twice, corrected, with tokens whose name changes) go into the real engine; then every number of every
 * definition is counted again from the events themselves, by code that shares nothing with the product but the classification
 * of one event. The numbers must be equal to the last one.
 */
import { randomUUID } from 'node:crypto';
import fc from 'fast-check';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { computeSlos, type SloState } from '../../alerts/compute.ts';
import { loadSlos } from '../../alerts/registry.ts';
import { UnitJudge } from '../../alerts/units.ts';
import type { AuthEvent } from '../../model/auth_event.ts';
import { completeEvent } from '../../model/complete_event.ts';
import {
  classOf,
  isBudgeted,
  isClassified,
  SLO_WINDOWS,
  SLO_WINDOW_NAMES,
  type SloDefinition,
} from '../../model/define_slo.ts';
import { exampleRef } from '../../model/example_ref.ts';
import { clickHouseMs } from '../../model/sql.ts';
import type { Store } from '../../store/client.ts';
import { insertEvents } from '../../store/insert.ts';
import { openTestStore } from '../harness.ts';

const MINUTE = 60_000;
const DAY = 86_400_000;
const BASE_MS = Math.floor((Date.now() - 2 * DAY) / MINUTE) * MINUTE;
const RUNS = 6;

let store: Store;
let close: () => Promise<void>;
let slos: readonly SloDefinition[];
beforeAll(async () => {
  ({ store, close } = await openTestStore());
  slos = await loadSlos();
});
afterAll(() => close());

const age = fc.oneof(
  fc.nat(20 * MINUTE),
  fc.nat(26 * 60 * MINUTE),
  fc.nat(29 * DAY),
  fc.integer({ min: 29 * DAY, max: 33 * DAY }),
);
const KINDS = [
  ...(['token_issued', 'token_refreshed', 'token_exchanged', 'token_request_failed'] as const),
  ...(['token_validated', 'token_rejected', 'api_accessed', 'token_introspected'] as const),
  ...(['consent_granted', 'consent_denied', 'login', 'login_failed', 'rate_limited'] as const),
  ...(['federation_handshake', 'policy_decided', 'elevation_granted', 'elevation_ended'] as const),
  ...(['key_created', 'key_rotated', 'token_reuse_detected', 'userinfo_accessed'] as const),
];
const DEVICE = 'urn:ietf:params:oauth:grant-type:device_code';
const anyEvent = fc.record({
  age,
  kind: fc.constantFrom(...KINDS),
  phase: fc.constantFrom('single', 'single', 'outcome', 'attempt'),
  outcome: fc.constantFrom('success', 'success', 'failure', 'denied', 'challenge', 'unknown'),
  oauthError: fc.constantFrom(
    '',
    '',
    'invalid_grant',
    'server_error',
    'insufficient_scope',
    'expired_token',
  ),
  code: fc.constantFrom(
    '',
    '',
    'expired',
    'validation_unavailable',
    'invalid_audience',
    'unknown_key',
  ),
  status: fc.constantFrom(null, 200, 400, 401, 403, 404, 429, 499, 500, 503),
  duration: fc.constantFrom(null, 0, 9.5, 10, 49.5, 50, 199.5, 200, 999.5, 1_000, 40_000),
  mode: fc.constantFrom('', 'local', 'cache', 'introspection', 'fallback', 'by_hand'),
  grant: fc.constantFrom('', 'authorization_code', 'refresh_token', 'client_credentials', DEVICE),
  subject: fc.constantFrom('user', 'client', 'unknown'),
  source: fc.constantFrom('keycloak', 'otlp', 'envoy'),
  service: fc.constantFrom('orders', 'stock'),
  isLate: fc.boolean(),
});
type AnyEvent = typeof anyEvent extends fc.Arbitrary<infer T> ? T : never;

/** What happens to one of a few tokens, under the names that it has by then. */
const anyTokenEvent = fc.record({
  token: fc.nat(5),
  what: fc.constantFrom(
    'issued',
    'revoked',
    'grant_revoked',
    'accepted',
    'accepted',
    'denied',
    'broken',
  ),
  names: fc.constantFrom('old', 'old', 'both', 'new'),
  age: fc.oneof(fc.nat(5 * MINUTE), fc.nat(DAY), fc.nat(28 * DAY)),
  outcome: fc.constantFrom('success', 'success', 'failure'),
  service: fc.constantFrom('orders', 'stock'),
  isLate: fc.boolean(),
});
type TokenEvent = typeof anyTokenEvent extends fc.Arbitrary<infer T> ? T : never;

const anyFinding = fc.record({
  age,
  rule: fc.constantFrom('unexpected_scope_grant', 'scope_beyond_registration', 'stale_client'),
  severity: fc.constantFrom('medium', 'high', 'critical'),
  state: fc.constantFrom('open', 'closed', 'superseded'),
  dispositions: fc.array(fc.constantFrom('true_positive', 'benign_positive', 'false_positive'), {
    maxLength: 2,
  }),
});
type Finding = typeof anyFinding extends fc.Arbitrary<infer T> ? T : never;

const anyCorrection = fc.record({
  slo: fc.constantFrom(
    'all',
    'token_issuance_success',
    'revocation_propagation',
    'auth_error_rate',
  ),
  age: fc.oneof(fc.nat(3 * 60 * MINUTE), fc.nat(28 * DAY)),
  length: fc.oneof(
    fc.integer({ min: 1_000, max: 20 * MINUTE }),
    fc.integer({ min: 1_000, max: 3 * DAY }),
  ),
  isWithdrawn: fc.constantFrom(false, false, true),
});
type Correction = typeof anyCorrection extends fc.Arbitrary<infer T> ? T : never;

const timeOf = (ageMs: number): bigint => BigInt(BASE_MS - ageMs) * 1_000_000n;

function toEvent(tenant: string, v: AnyEvent): AuthEvent {
  return completeEvent({
    event_id: randomUUID(),
    tenant,
    time: timeOf(v.age),
    kind: v.kind,
    phase: v.phase,
    outcome: v.outcome,
    grant_type: v.grant,
    endpoint: 'api',
    resource: [v.service],
    issuer: 'https://as.example',
    subject: { type: v.subject },
    source: { id: v.source },
    error: { oauth_error: v.oauthError, code: v.code },
    http: { status: v.status, duration_ms: v.duration },
    ...(v.mode === '' ? {} : { ext: { validation_mode: v.mode } }),
  });
}

const HOW = {
  issued: { kind: 'token_issued', role: 'issued', status: 200 },
  revoked: { kind: 'token_revoked', role: 'revoked', status: 200 },
  grant_revoked: { kind: 'grant_revoked', role: 'subject', status: 200 },
  accepted: { kind: 'token_validated', role: 'presented', status: null },
  denied: { kind: 'token_rejected', role: 'presented', status: null },
  broken: { kind: 'api_accessed', role: 'presented', status: 500 },
} as const;

function toTokenEvent(tenant: string, v: TokenEvent): AuthEvent {
  const how = HOW[v.what];
  const ref = (name: string): string => exampleRef(`${tenant} token ${v.token} ${name}`);
  const mention = (name: 'old' | 'new', refKind: 'hmac' | 'hmac_next') =>
    ({ role: how.role, type: 'access', ref: ref(name), ref_kind: refKind }) as const;
  const tokens =
    v.names === 'both'
      ? [mention('old', 'hmac'), mention('new', 'hmac_next')]
      : [mention(v.names, 'hmac')];
  const isUse = how.role === 'presented';
  const outcomes = { accepted: 'success', denied: 'failure', broken: 'failure' } as const;
  return completeEvent({
    event_id: randomUUID(),
    tenant,
    time: timeOf(v.age),
    kind: how.kind,
    outcome: isUse ? outcomes[v.what as 'accepted'] : v.outcome,
    endpoint: isUse ? 'api' : 'token',
    resource: isUse ? [v.service] : [],
    // Two tokens share a grant.
    grant_ref: v.what === 'issued' || v.what === 'grant_revoked' ? grantOf(tenant, v.token) : '',
    source: { id: isUse ? 'otlp' : 'keycloak' },
    http: { status: how.status },
    // The revocation of a grant names no token.
    tokens: v.what === 'grant_revoked' ? [] : tokens,
  });
}

function grantOf(tenant: string, token: number): string {
  return exampleRef(`${tenant} grant ${Math.floor(token / 2)}`);
}

const ms = (event: AuthEvent): number => Number(event.time / 1_000_000n);

interface Counted {
  readonly at: number;
  readonly source: string;
  readonly class: string;
}

/** The events of an SLI by their class, from the raw events. */
function classified(slo: SloDefinition, events: readonly AuthEvent[]): Counted[] {
  if (!isClassified(slo)) return [];
  return events.flatMap((e) => {
    const found =
      e.phase === 'attempt'
        ? undefined
        : classOf(slo, {
            kind: e.kind,
            outcome: e.outcome,
            endpoint: e.endpoint,
            grant_type: e.grant_type,
            error_oauth_error: e.error.oauth_error,
            error_code: e.error.code,
            http_status: e.http.status ?? 0,
            mode: e.ext['validation_mode'] ?? '',
            subject_type: e.subject.type,
            http_duration_ms: e.http.duration_ms,
          });
    return found === undefined ? [] : [{ at: ms(e), source: e.source.id, class: found }];
  });
}

/** Each revoked token at each API, from the raw events. */
function propagated(withinMs: number, events: readonly AuthEvent[]): Counted[] {
  const names = (e: AuthEvent): string[] => e.tokens.map((t) => t.ref);
  let groups: Set<string>[] = [];
  for (const event of events) {
    const own = names(event);
    if (own.length === 0) continue;
    const touched = groups.filter((g) => own.some((n) => g.has(n)));
    groups = groups.filter((g) => !touched.includes(g));
    groups.push(new Set([...own, ...touched.flatMap((g) => [...g])]));
  }
  const done = (e: AuthEvent): boolean => e.outcome === 'success' || e.outcome === 'unknown';
  return groups.flatMap((group) => {
    const own = events.filter((e) => names(e).some((n) => group.has(n)));
    const issues = own.filter((e) => e.kind === 'token_issued');
    const issued = Math.min(...issues.map(ms));
    const grants = new Set(issues.map((e) => e.grant_ref));
    const ends = [
      ...own.filter((e) => e.kind === 'token_revoked' && done(e)),
      ...events.filter(
        (e) => e.kind === 'grant_revoked' && done(e) && grants.has(e.grant_ref) && issued <= ms(e),
      ),
    ].map(ms);
    if (ends.length === 0) return [];
    const revoked = Math.min(...ends);
    const uses = own.filter(
      (e) => ms(e) > revoked && (e.kind === 'token_validated' || e.kind === 'token_rejected'),
    );
    return [...new Set(uses.map((e) => e.resource[0]))].map((service) => {
      const there = uses.filter((e) => e.resource[0] === service);
      const late = there.filter((e) => e.kind === 'token_validated' && ms(e) - revoked > withinMs);
      const deciding = late.length > 0 ? late : there;
      return {
        at: Math.floor(Math.min(...deciding.map(ms)) / MINUTE) * MINUTE,
        source: 'otlp',
        class: late.length > 0 ? 'bad' : 'good',
      };
    });
  });
}

function found(slo: SloDefinition, findings: readonly Finding[]): Counted[] {
  if (slo.measure !== 'counted') return [];
  return findings
    .filter((f) => slo.rules.includes(f.rule) && f.state !== 'superseded' && f.age <= 30 * DAY)
    .map((f) => {
      const last = f.dispositions.at(-1) ?? 'true_positive';
      const counts = last === 'true_positive' && f.severity !== 'medium';
      return { at: BASE_MS - f.age, source: '', class: counts ? 'bad' : 'excluded' };
    });
}

function recount(
  slo: SloDefinition,
  history: {
    events: readonly AuthEvent[];
    findings: readonly Finding[];
    corrections: readonly Correction[];
  },
): Record<string, unknown> {
  const { events } = history;
  const counted = [
    ...classified(slo, events),
    ...(slo.measure === 'propagation' ? propagated(slo.withinSeconds * 1_000, events) : []),
    ...found(slo, history.findings),
  ];
  const newest = Math.max(...events.map(ms));
  const fed = new Set(
    counted
      .filter((c) => c.source !== '' && Math.floor(c.at / MINUTE) * MINUTE >= newest - 30 * DAY)
      .map((c) => c.source),
  );
  const feed = events.filter((e) => fed.size === 0 || fed.has(e.source.id));
  const watermark = Math.max(...feed.map(ms)) - slo.latenessSeconds * 1_000;
  const end = Math.floor(watermark / MINUTE) + 1;
  const start = end - 43_200;
  const corrected = new Set<number>();
  for (const c of history.corrections) {
    if (c.isWithdrawn || (c.slo !== 'all' && c.slo !== slo.id)) continue;
    const [from, to] = correctionSeconds(c);
    for (let m = Math.floor(from / 60); m * 60 < to; m += 1) corrected.add(m);
  }
  const minute = (c: Counted): number => Math.floor(c.at / MINUTE);
  const count = (names: string[], minutes: number, isOut: boolean): number =>
    counted.filter(
      (c) =>
        names.includes(c.class) &&
        minute(c) < end &&
        minute(c) >= end - minutes &&
        corrected.has(minute(c)) === isOut,
    ).length;
  const heard = new Set(feed.map((e) => Math.floor(ms(e) / MINUTE)));
  const first = Math.max(start, Math.min(...heard));
  let [missing, run, out] = [0, 0, 0];
  for (let m = first; m <= end; m += 1) {
    if (m < end && corrected.has(m)) out += 1;
    if (m < end && !heard.has(m) && !corrected.has(m)) run += 1;
    else {
      if (run >= 10) missing += run;
      run = 0;
    }
  }
  const expected = end - first - out;
  const windows = Object.fromEntries(
    SLO_WINDOW_NAMES.map((w) => {
      const minutes = SLO_WINDOWS[w] / 60;
      return [w, { good: count(['good'], minutes, false), bad: count(['bad'], minutes, false) }];
    }),
  );
  const coverage = expected <= 0 ? 0 : (expected - missing) / expected;
  const { good = 0, bad = 0 } = windows['30d'] ?? {};
  return {
    id: slo.id,
    watermark,
    end: end * MINUTE,
    windows,
    excluded: count(['excluded'], 43_200, false),
    unclassified: count(['unclassified'], 43_200, false),
    corrected: count(['good', 'bad'], 43_200, true),
    correctedMinutes: [...corrected].filter((m) => m >= start && m < end).length,
    coverage,
    budget:
      isBudgeted(slo) && coverage >= 0.9 && good + bad > 0
        ? 1 - bad / (good + bad) / (1 - slo.objective)
        : undefined,
  };
}

function told(state: SloState): Record<string, unknown> {
  return {
    id: state.slo.id,
    watermark: state.watermarkMs,
    end: state.endMs,
    windows: state.windows,
    excluded: state.excluded,
    unclassified: state.unclassified,
    corrected: state.correctedEvents,
    correctedMinutes: state.correctedMinutes,
    coverage: state.coverage,
    budget: state.budgetRemaining,
  };
}

/** Seconds since the epoch. */
function correctionSeconds(c: Correction): [from: number, to: number] {
  const from = Math.floor((BASE_MS - c.age) / 1_000);
  return [from, from + Math.ceil(c.length / 1_000)];
}

async function insertFindings(tenant: string, findings: readonly Finding[]): Promise<void> {
  const rows = findings.map((f, i) => ({
    finding_id: exampleRef(`${tenant} finding ${i}`),
    tenant,
    rule_id: f.rule,
    severity: f.severity,
    state: f.state,
    first_event_time: clickHouseMs(BASE_MS - f.age),
    last_event_time: clickHouseMs(BASE_MS - f.age),
    version: 1,
  }));
  await store.insertRows('grantscope.findings', rows);
  await store.insertRows(
    'grantscope.dispositions',
    findings.flatMap((f, i) =>
      f.dispositions.map((disposition, n) => ({
        tenant,
        disposition_id: randomUUID(),
        finding_id: exampleRef(`${tenant} finding ${i}`),
        disposition,
        decided_at: clickHouseMs(BASE_MS + n * 1_000),
      })),
    ),
  );
}

async function insertCorrections(
  tenant: string,
  corrections: readonly Correction[],
): Promise<void> {
  await store.insertRows(
    'grantscope.slo_corrections',
    corrections.map((c) => {
      const [from, to] = correctionSeconds(c);
      return {
        tenant,
        correction_id: randomUUID(),
        slo_id: c.slo,
        from_time: from,
        to_time: to,
        reason: 'maintenance of the datastore',
        approver: 'sre-lead',
        withdrawn_at: clickHouseMs(c.isWithdrawn ? BASE_MS : 0),
        updated_at: clickHouseMs(BASE_MS),
      };
    }),
  );
}

it('every number of every SLI is that of a recount of the raw events', async () => {
  let tenants = 0;
  const history = fc.record({
    events: fc.array(anyEvent, { minLength: 100, maxLength: 160 }),
    tokens: fc.array(anyTokenEvent, { minLength: 20, maxLength: 50 }),
    findings: fc.array(anyFinding, { maxLength: 8 }),
    corrections: fc.array(anyCorrection, { maxLength: 4 }),
  });
  await fc.assert(
    fc.asyncProperty(history, async (drawn) => {
      const tenant = `recount_${(tenants += 1)}`;
      const all = [
        ...drawn.events.map((v) => ({ isLate: v.isLate, event: toEvent(tenant, v) })),
        ...drawn.tokens.map((v) => ({ isLate: v.isLate, event: toTokenEvent(tenant, v) })),
      ];
      const part = (isLate: boolean): AuthEvent[] =>
        all.filter((e) => e.isLate === isLate).map((e) => e.event);
      const judge = new UnitJudge(store, tenant);
      await insertEvents(store, part(false), `${tenant} on time`);
      await insertFindings(tenant, drawn.findings);
      await judge.round(slos, Date.now());
      // Twice, as after a lost acknowledgement; and judged again, since the late ones may change any verdict.
      await insertEvents(store, part(true), `${tenant} late`);
      await insertEvents(store, part(true), `${tenant} late`);
      await insertCorrections(tenant, drawn.corrections);
      await judge.round(slos, Date.now());
      const states = await computeSlos(store, tenant, slos, BASE_MS);
      const events = all.map((e) => e.event);
      const { findings, corrections } = drawn;
      expect(states.map(told)).toEqual(
        slos.map((slo) => recount(slo, { events, findings, corrections })),
      );
    }),
    { numRuns: RUNS },
  );
});
