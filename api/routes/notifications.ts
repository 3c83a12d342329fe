import { createHash, timingSafeEqual } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { z } from 'zod';
import { isUuid } from '../../model/ids.ts';
import { GrantscopeError } from '../../runtime/errors.ts';
import {
  listSentAlerts,
  writeAlertNotices,
  type AlertNotice,
} from '../../store/queries/alert_notices.ts';
import { defineRoutes, jsonRoute, rawRoute } from '../define_route.ts';
import { SentAlertList } from '../schemas/alerting_view.ts';
import { Identifier, PageLimit, Reference } from '../schemas/primitives.ts';

/** Alerts of one notice; `max_alerts` of the generated receivers keeps Alertmanager below it. */
const NOTICE_ALERTS_MAX = 200;
/** Longest label, group key or summary that is kept, characters. */
const TEXT_LENGTH_MAX = 1_000;
/** Shortest token that is taken: a shorter one can be guessed. */
const TOKEN_LENGTH_MIN = 16;

const Texts = z.record(z.string(), z.string());

/** Version 4 of the message of Alertmanager's webhooks; fields that it adds later are let through. */
const Webhook = z.object({
  version: z.literal('4'),
  groupKey: z.string().min(1),
  receiver: z.string().min(1).max(200),
  alerts: z
    .array(
      z.object({
        status: z.enum(['firing', 'resolved']),
        labels: Texts,
        annotations: Texts,
        startsAt: z.iso.datetime({ offset: true }),
        fingerprint: z.string().regex(/^[0-9a-f]{1,32}$/, 'must be hexadecimal digits'),
      }),
    )
    .max(NOTICE_ALERTS_MAX),
});
type Webhook = z.infer<typeof Webhook>;

/** Throws `config_invalid` without a usable file, `unauthenticated` for a wrong token. The file is read anew, so that it may be replaced. */
function checkToken(file: string | undefined, header: string | undefined): void {
  if (file === undefined)
    throw new GrantscopeError(
      'config_invalid',
      'GRANTSCOPE_ALERTMANAGER_TOKEN_FILE is not set, so nobody may tell what was sent',
    );
  let token: string;
  try {
    token = readFileSync(file, 'utf8').trim();
  } catch {
    throw new GrantscopeError(
      'config_invalid',
      'GRANTSCOPE_ALERTMANAGER_TOKEN_FILE: the file cannot be read',
    );
  }
  if (token.length < TOKEN_LENGTH_MIN)
    throw new GrantscopeError(
      'config_invalid',
      `GRANTSCOPE_ALERTMANAGER_TOKEN_FILE: the token must have at least ${TOKEN_LENGTH_MIN} characters`,
    );
  const digest = (text: string): Buffer => createHash('sha256').update(text).digest();
  if (timingSafeEqual(digest(header ?? ''), digest(`Bearer ${token}`))) return;
  throw new GrantscopeError(
    'unauthenticated',
    'header.authorization: not the token of GRANTSCOPE_ALERTMANAGER_TOKEN_FILE; allowed: Bearer and that token',
  );
}

function noticesOf(message: Webhook): AlertNotice[] {
  const cut = (text: string | undefined): string => (text ?? '').slice(0, TEXT_LENGTH_MAX);
  return message.alerts.map(({ status, labels, annotations, startsAt, fingerprint }) => ({
    group_key: cut(message.groupKey),
    fingerprint,
    starts_at_ms: Date.parse(startsAt),
    receiver: message.receiver,
    status,
    alertname: cut(labels['alertname']),
    kind: cut(labels['kind']),
    severity: cut(labels['severity']),
    slo: cut(labels['slo']),
    client_id: cut(labels['client_id']),
    summary: cut(annotations['summary']),
    finding_ids: (annotations['finding_ids'] ?? '').split(' ').filter(isUuid),
  }));
}

export default defineRoutes({
  id: 'notifications',
  description: 'Which alerts Alertmanager sent to whom, and when.',
  routes: [
    jsonRoute({
      method: 'get',
      path: '/api/v1/notifications',
      operationId: 'listNotifications',
      summary: 'Alerts that were sent, last sent first.',
      query: z.strictObject({
        finding_id: Reference.optional(),
        slo: Identifier.optional(),
        limit: PageLimit,
      }),
      response: SentAlertList,
      handle: async ({ scope }, { query }) => {
        const { finding_id, slo, limit } = query;
        return { items: await listSentAlerts(scope, { findingId: finding_id, slo, limit }) };
      },
    }),
    rawRoute({
      method: 'post',
      path: '/api/v1/alertmanager/notifications',
      operationId: 'takeNotification',
      summary:
        'Takes what Alertmanager sent, as a webhook of each of its receivers; asks for a token.',
      body: Webhook,
      produces: 'application/json',
      problems: [401, 413, 415, 422],
      write: async ({ scope, runtime }, { body }, { request, response }) => {
        checkToken(runtime.config.alertmanagerTokenFile, request.headers.authorization);
        const notices = noticesOf(body);
        await writeAlertNotices(scope, notices, runtime.clock.nowMs());
        response.setHeader('content-type', 'application/json');
        response.end(JSON.stringify({ stored: notices.length }));
      },
    }),
  ],
});
