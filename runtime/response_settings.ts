import { z } from 'zod';
import { SEVERITIES } from '../model/finding.ts';
import { isLoopback } from './loopback.ts';

const Id = z.string().regex(/^[a-z0-9][a-z0-9_-]{0,62}$/, 'must be 1-63 of a-z, 0-9, _ and -');

/** Findings leave this machine only encrypted. */
const Url = z
  .url({ protocol: /^https?$/, error: 'must be an https URL' })
  .superRefine((text, c) => {
    const url = new URL(text);
    if (url.username !== '' || url.password !== '')
      c.addIssue({ code: 'custom', message: 'must hold no user or password; use token_file' });
    if (url.protocol === 'http:' && !isLoopback(url.hostname.replace(/^\[|\]$/g, '')))
      c.addIssue({ code: 'custom', message: 'must be https; http is allowed on loopback only' });
  });

const http = {
  url: Url,
  /** File with the token for `Authorization: Bearer`, read at start. */
  token_file: z.string().min(1).optional(),
  /** PEM file of certificate authorities that are trusted instead of the system's. */
  ca_file: z.string().min(1).optional(),
};
const what = {
  /** Names it in logs and in grantscope.deliveries: a new name begins a new queue. */
  id: Id,
  /** This severity and above. */
  severity_min: z.enum(SEVERITIES).default('medium'),
};

/** OCSF Detection Findings (class 2004), one JSON object each, into a file or to a webhook. */
const OcsfSink = z
  .strictObject({
    ...what,
    ...http,
    url: Url.optional(),
    /** Appended to, one line each. */
    file: z.string().min(1).optional(),
    /** Suppressed and inhibited findings, too, with that status. */
    include_hidden: z.boolean().default(false),
  })
  .superRefine((s, c) => {
    if ((s.file === undefined) === (s.url === undefined))
      c.addIssue({ code: 'custom', path: ['url'], message: 'set either file or url' });
  });
export type OcsfSettings = z.infer<typeof OcsfSink>;

/** Security event tokens (RFC 8417) of the OpenID CAEP 1.0, pushed (RFC 8935). */
const CaepSink = z
  .strictObject({
    ...what,
    ...http,
    severity_min: z.enum(SEVERITIES).default('high'),
    /** `iss` of the tokens: a URL that the receiver knows this transmitter by. */
    issuer: z.url(),
    audience: z.string().min(1),
    /** PKCS #8 PEM file of the private key that signs. */
    key_file: z.string().min(1),
    key_id: z.string().min(1).max(200),
    algorithm: z.enum(['ES256', 'ES384', 'RS256', 'PS256', 'EdDSA']).default('ES256'),
    events: z
      .array(z.enum(['risk-level-change', 'session-revoked']))
      .min(1)
      .default(['risk-level-change']),
    /**
     * Rules, or `rule:verdict`, upon whose findings the receiver is told that the sessions are revoked. No rule by default: it
     * signs people out.
     */
    revoke_upon: z.array(z.string().regex(/^[a-z0-9_]+(:[a-z0-9_]+)?$/)).default([]),
  })
  .superRefine((s, c) => {
    if (s.events.includes('session-revoked') && s.revoke_upon.length === 0)
      c.addIssue({
        code: 'custom',
        path: ['revoke_upon'],
        message: 'names at least one rule where events has session-revoked',
      });
  });
export type CaepSettings = z.infer<typeof CaepSink>;

const hasDistinctIds = (sinks: readonly { readonly id: string }[]): boolean =>
  new Set(sinks.map((s) => s.id)).size === sinks.length;

/** `response` of grantscope.yaml: whom findings are told, besides Alertmanager. Nobody by default. */
export const ResponseSettings = z.strictObject({
  ocsf: z.array(OcsfSink).refine(hasDistinctIds, 'ids must differ').default([]),
  caep: z.array(CaepSink).refine(hasDistinctIds, 'ids must differ').default([]),
});
export type ResponseSettings = z.infer<typeof ResponseSettings>;
