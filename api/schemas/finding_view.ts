import { z } from 'zod';
import { Finding } from '../../model/finding.ts';
import { NextCursor } from './primitives.ts';

/** A finding as the API gives it: all of it, but for the tenant. */
export const FindingView = Finding.omit({ tenant: true }).meta({ id: 'Finding' });
export type FindingView = z.infer<typeof FindingView>;

export const FindingList = z
  .object({
    items: z.array(FindingView),
    /** Findings that match the filters, over all pages. */
    total: z.number().int(),
    next_cursor: NextCursor,
  })
  .meta({ id: 'FindingList' });
export type FindingList = z.infer<typeof FindingList>;
