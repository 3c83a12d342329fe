import { z } from 'zod';
import { KafkaSettings } from './kafka_settings.ts';
import { isLoopback } from './loopback.ts';

/** What whoever pushes records of a source has to show. */
const PushToken = z.strictObject({
  /** File with the token; each line is one that is allowed, so that two hold while one replaces the other. Read at start. */
  file: z.string().min(1),
  /** Header that carries it: as it is, or behind a scheme (`Bearer TOKEN`). */
  header: z
    .string()
    .regex(/^[A-Za-z][A-Za-z0-9-]{0,63}$/, 'must be the name of a header')
    .default('Authorization'),
});
export type PushToken = z.infer<typeof PushToken>;

/** Credentials go out only encrypted. */
const VendorUrl = z
  .url({ protocol: /^https?$/, error: 'must be an https URL' })
  .superRefine((text, c) => {
    const url = new URL(text);
    if (url.username !== '' || url.password !== '' || url.search !== '' || url.hash !== '')
      c.addIssue({ code: 'custom', message: 'must hold no user, password or query' });
    if (url.protocol === 'http:' && !isLoopback(url.hostname.replace(/^\[|\]$/g, '')))
      c.addIssue({ code: 'custom', message: 'must be https; http is allowed on loopback only' });
  });

const polling = {
  /** Address of the vendor's tenant, for instance https://example.okta.com. */
  url: VendorUrl,
  /** Pause after the last page, seconds. */
  interval_seconds: z.number().min(0.05).max(3_600).default(10),
  /** How far back the first run begins, hours. */
  start_hours_ago: z.number().min(0).max(2_160).default(24),
};

const OktaSystemLog = z.strictObject({
  ...polling,
  /** File with an API token (SSWS). */
  token_file: z.string().min(1),
});
export type OktaSystemLogSettings = z.infer<typeof OktaSystemLog>;

const Auth0Logs = z.strictObject({
  ...polling,
  /** Application that may `read:logs` of the Management API. */
  client_id: z.string().min(1),
  client_secret_file: z.string().min(1),
  /** Audience of the Management API; by default `{url}/api/v2/`. */
  audience: z.string().min(1).optional(),
});
export type Auth0LogsSettings = z.infer<typeof Auth0Logs>;

/** `collector` of grantscope.yaml: who may push, and where the collector itself fetches records. */
export const CollectorSettings = z.strictObject({
  /** Tokens that pushes must carry, by source id. A source that is not listed takes what comes. */
  push_tokens: z.record(z.string(), PushToken).default({}),
  /** Logs that are fetched from the vendor. None by default. */
  pull: z
    .strictObject({
      okta_system_log: OktaSystemLog.optional(),
      auth0_logs: Auth0Logs.optional(),
    })
    .prefault({}),
  /** Topics that vendors and shippers write records to. None by default. */
  kafka: KafkaSettings.optional(),
});
export type CollectorSettings = z.infer<typeof CollectorSettings>;
