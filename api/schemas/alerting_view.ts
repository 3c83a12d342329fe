import { z } from 'zod';
import { SILENCE_STATES, SilenceMatcher } from '../../model/silence.ts';
import { Time } from './primitives.ts';

export const SilenceView = z
  .object({
    silence_id: z.string(),
    state: z.enum(SILENCE_STATES),
    matchers: z.array(SilenceMatcher),
    starts_at: Time,
    ends_at: Time,
    created_by: z.string(),
    created_at: Time,
    reason: z.string(),
    /** '' while nobody withdrew it. */
    withdrawn_at: z.string(),
    withdrawn_by: z.string(),
    withdrawn_reason: z.string(),
    /** Id in Alertmanager; '' where it does not have it. */
    alertmanager_id: z.string(),
    /** Why it is not in force; '' where nothing is wrong. */
    error: z.string(),
    /** Labels of the alerts that it mutes at present. */
    mutes: z.array(z.record(z.string(), z.string())),
  })
  .meta({ id: 'Silence' });

export type SilenceView = z.infer<typeof SilenceView>;

export const SilenceList = z.object({ items: z.array(SilenceView) }).meta({ id: 'SilenceList' });

export type SilenceList = z.infer<typeof SilenceList>;

export const SentAlertList = z
  .object({
    items: z.array(
      z.object({
        alertname: z.string(),
        kind: z.string(),
        severity: z.string(),
        slo: z.string(),
        client_id: z.string(),
        receiver: z.string(),
        summary: z.string(),
        finding_ids: z.array(z.string()),
        starts_at: Time,
        /** '' where only its end was told. */
        sent_at: z.string(),
        last_sent_at: Time,
        /** '' where its end was not told. */
        resolved_at: z.string(),
      }),
    ),
  })
  .meta({ id: 'SentAlertList' });
export type SentAlertList = z.infer<typeof SentAlertList>;

export const CorrectionView = z
  .object({
    correction_id: z.string(),
    /** `all` for every service level. */
    slo_id: z.string(),
    from: Time,
    to: Time,
    reason: z.string(),
    approver: z.string(),
    created_at: Time,
    /** '' while nobody withdrew it. */
    withdrawn_at: z.string(),
    withdrawn_by: z.string(),
    withdrawn_reason: z.string(),
  })
  .meta({ id: 'SloCorrection' });

export const CorrectionList = z
  .object({ items: z.array(CorrectionView) })
  .meta({ id: 'SloCorrectionList' });
export type CorrectionList = z.infer<typeof CorrectionList>;
