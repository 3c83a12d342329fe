import type { z } from 'zod';
import { Finding } from '../../model/finding.ts';

/** A finding as the API gives it: all of it, but for the tenant. */
export const FindingView = Finding.omit({ tenant: true }).meta({ id: 'Finding' });
export type FindingView = z.infer<typeof FindingView>;
