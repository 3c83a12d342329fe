import { SignJWT, type CryptoKey } from 'jose';
import { z } from 'zod';
import type { Severity } from '../../model/finding.ts';
import type { RiskLevel } from '../../model/risk.ts';
import type { Clock } from '../../runtime/clock.ts';
import { post, POST_TIMEOUT_MS } from './http_post.ts';
import {
  FADE_INTERVAL_MS,
  messageId,
  type Message,
  type Outcome,
  type PendingStep,
  type Sink,
} from './sink.ts';

/** Event types of OpenID CAEP 1.0 (final, 29 August 2025) that are told. */
export const CAEP_EVENTS = ['risk-level-change', 'session-revoked'] as const;
export type CaepEvent = (typeof CAEP_EVENTS)[number];
const EVENT_BASE = 'https://schemas.openid.net/secevent/caep/event-type/';
/** Longest reason that is sent, characters. */
const REASON_LENGTH_MAX = 500;

export interface CaepOptions {
  readonly id: string;
  readonly event: CaepEvent;
  readonly severityMin: Severity;
  readonly url: string;
  readonly issuer: string;
  readonly audience: string;
  readonly key: CryptoKey;
  readonly keyId: string;
  readonly algorithm: string;
  readonly token: string | undefined;
  readonly ca: string | undefined;
  readonly timeoutMs?: number;
  /** `rule` or `rule:verdict`. */
  readonly revokeUpon: readonly string[];
  readonly clock: Clock;
  /** The level of a subject now. */
  readonly levelOf: (subjectRef: string) => Promise<RiskLevel>;
  /** The level that this receiver was told last; undefined where it was told none. */
  readonly toldLevelOf: (sink: string, subjectRef: string) => Promise<RiskLevel | undefined>;
  /** Subjects of which this receiver was told a level above low last. */
  readonly raisedSubjects: (
    sink: string,
  ) => Promise<readonly { readonly subject_ref: string; readonly level: RiskLevel }[]>;
}

/**
 * Tells one CAEP event type as security event tokens (RFC 8417), pushed one by one (RFC 8935). Subjects are opaque
 * identifiers (RFC 9493 section 3.2.4): the references under which Grantscope stores them, since it knows no others; whoever
 * holds the hash key can compute them.
 */
export function caepSink(options: CaepOptions): Sink {
  const id = `caep/${options.id}/${options.event}`;
  return {
    id,
    kind: 'caep',
    severityMin: options.severityMin,
    includeHidden: false,
    prepare: (pending) =>
      options.event === 'risk-level-change'
        ? riskLevelChange(id, options, pending)
        : sessionRevoked(id, options, pending),
    send: (message) => push(options, message),
    ...(options.event === 'risk-level-change' ? { faded: () => fadedRisk(id, options) } : {}),
  };
}

/** Levels that fell while nothing happened: who was signed out for a risk may come back when it has faded. */
async function fadedRisk(sink: string, options: CaepOptions): Promise<readonly Message[]> {
  const messages: Message[] = [];
  const nowMs = options.clock.nowMs();
  for (const { subject_ref, level: told } of await options.raisedSubjects(sink)) {
    const level = await options.levelOf(subject_ref);
    if (level === told) continue;
    const id = messageId(sink, subject_ref, Math.floor(nowMs / FADE_INTERVAL_MS), level);
    const body = await sign(options, id, subject_ref, opaque(subject_ref), {
      event_timestamp: Math.floor(nowMs / 1_000),
      principal: 'USER',
      current_level: level.toUpperCase(),
      previous_level: told.toUpperCase(),
      risk_reason: 'the risk of earlier findings has faded',
    });
    messages.push({ id, body, subjectRef: subject_ref, level });
  }
  return messages;
}

/**
 * CAEP 1.0 section 3.8: `principal` and `current_level` are required, `risk_reason` is recommended; without `previous_level`
 * the receiver takes it for unknown. Nothing to tell where the receiver knows the level already.
 */
async function riskLevelChange(
  sink: string,
  options: CaepOptions,
  { step, finding }: PendingStep,
): Promise<Message | undefined> {
  const subjectRef = finding.subject_ref;
  if (subjectRef === '') return undefined;
  const told = await options.toldLevelOf(sink, subjectRef);
  const level = await options.levelOf(subjectRef);
  if (level === (told ?? 'low')) return undefined;
  const id = messageId(sink, finding.finding_id, step.change_no, level);
  const body = await sign(options, id, finding.finding_id, opaque(subjectRef), {
    event_timestamp: seconds(step.changed_at),
    principal: 'USER',
    current_level: level.toUpperCase(),
    ...(told === undefined ? {} : { previous_level: told.toUpperCase() }),
    risk_reason: `${finding.rule_id}: ${finding.summary}`.slice(0, REASON_LENGTH_MAX),
  });
  return { id, body, subjectRef, level };
}

/** Steps upon which sessions are revoked: what was told once is told again only after it was over. */
const REVOKING: readonly string[] = ['opened', 'reopened', 'escalated', 'released', 'updated'];

/** CAEP 1.0 section 3.1: the event has no claims of its own; the others are those of section 2. */
async function sessionRevoked(
  sink: string,
  options: CaepOptions,
  { step, finding, isKnown }: PendingStep,
): Promise<Message | undefined> {
  const isAsked =
    options.revokeUpon.includes(step.rule_id) ||
    options.revokeUpon.includes(`${step.rule_id}:${step.verdict}`);
  const isNews = !isKnown || step.change === 'reopened';
  if (step.state !== 'open' || step.treatment !== 'active') return undefined;
  if (!isAsked || !isNews || !REVOKING.includes(step.change)) return undefined;
  const session = finding.entity_type === 'session' ? finding.entity_ref : '';
  if (finding.subject_ref === '' && session === '') return undefined;
  const id = messageId(sink, finding.finding_id, step.change_no);
  // A complex subject of the Shared Signals Framework names the session, and the user that it is of.
  const subject =
    session === ''
      ? opaque(finding.subject_ref)
      : {
          format: 'complex',
          session: opaque(session),
          ...(finding.subject_ref === '' ? {} : { user: opaque(finding.subject_ref) }),
        };
  const body = await sign(options, id, finding.finding_id, subject, {
    event_timestamp: seconds(step.changed_at),
    initiating_entity: 'policy',
    reason_admin: { en: `${finding.rule_id}: ${finding.summary}`.slice(0, REASON_LENGTH_MAX) },
  });
  return { id, body, subjectRef: finding.subject_ref, level: '' };
}

const opaque = (id: string) => ({ format: 'opaque', id });
const seconds = (iso: string): number => Math.floor(Date.parse(iso) / 1_000);

/** RFC 8417: no `sub`, no `exp`, an explicit type; `txn` ties what one finding caused together. */
function sign(
  options: CaepOptions,
  jti: string,
  findingId: string,
  subject: Record<string, unknown>,
  event: Record<string, unknown>,
): Promise<string> {
  return new SignJWT({
    sub_id: subject,
    txn: findingId,
    events: { [`${EVENT_BASE}${options.event}`]: event },
  })
    .setProtectedHeader({ alg: options.algorithm, typ: 'secevent+jwt', kid: options.keyId })
    .setIssuer(options.issuer)
    .setAudience(options.audience)
    .setIssuedAt(Math.floor(options.clock.nowMs() / 1_000))
    .setJti(jti)
    .sign(options.key);
}

/** Error codes of RFC 8935 section 2.4. All but the first are about the transmitter, so that every other SET would fail, too. */
const SET_ERRORS = [
  'invalid_request',
  'invalid_key',
  'invalid_issuer',
  'invalid_audience',
  'authentication_failed',
  'access_denied',
] as const;
const SetError = z.object({ err: z.enum(SET_ERRORS) });

async function push(options: CaepOptions, message: Message): Promise<Outcome> {
  const { status, body, retryAfterMs } = await post({
    url: options.url,
    headers: {
      'content-type': 'application/secevent+jwt',
      accept: 'application/json',
      ...(options.token === undefined ? {} : { authorization: `Bearer ${options.token}` }),
    },
    body: message.body,
    ca: options.ca,
    timeoutMs: options.timeoutMs ?? POST_TIMEOUT_MS,
  });
  // RFC 8935 section 2.2: 202 and nothing else says that the receiver has taken it into its care.
  if (status === 202) return { status: 'delivered' };
  if (status !== 400) return { status: 'retrying', error: `http_${status}`, retryAfterMs };
  const parsed = SetError.safeParse(readJson(body));
  if (!parsed.success) return { status: 'refused', error: 'http_400' };
  const { err } = parsed.data;
  return err === 'invalid_request'
    ? { status: 'refused', error: err }
    : { status: 'retrying', error: err };
}

function readJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
