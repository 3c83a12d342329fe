import type { AuthEventDraft, TokenDraft, TokenIdentity } from '../../model/draft.ts';
import { NEXT_EXT_PREFIX, type NextExtName } from '../../model/next_references.ts';

/** What an adapter reads of a token mention in the stored form. */
interface StoredMention {
  readonly ref?: string | null | undefined;
  readonly ref_kind?: string | null | undefined;
  readonly family_ref?: string | null | undefined;
  readonly parent_ref?: string | null | undefined;
}

/** Whether an event in the stored form was made while keys were changing (model/next_references.ts). */
export function hasNextNames(ext: Readonly<Record<string, unknown>> | null | undefined): boolean {
  return ext?.[`${NEXT_EXT_PREFIX}key_id`] !== undefined;
}

/**
 * The draft of such an event with the next names where a draft has them: second mentions of tokens are taken
 * in by the mention before, instead of becoming tokens of their own. `mentions` are the draft's tokens as
 * they were read, one to one.
 */
export function withNextNames(
  draft: AuthEventDraft,
  mentions: readonly StoredMention[],
): AuthEventDraft {
  const name = (of: NextExtName): string | undefined => draft.ext?.[`${NEXT_EXT_PREFIX}${of}`];
  const tokens: TokenDraft[] = [];
  for (const [i, token] of (draft.tokens ?? []).entries()) {
    const second = mentions[i];
    const first = tokens.at(-1);
    if (second?.ref_kind !== 'hmac_next' || first === undefined) tokens.push(token);
    else tokens[tokens.length - 1] = named(first, second);
  }
  return {
    ...draft,
    tokens,
    ...(draft.subject && { subject: { ...draft.subject, next_ref: name('subject_ref') } }),
    ...(draft.actor && { actor: { ...draft.actor, next_ref: name('actor_ref') } }),
    ...(draft.session && { session: { ...draft.session, next_ref: name('session_ref') } }),
    ...(draft.grant && { grant: { ...draft.grant, next_ref: name('grant_ref') } }),
    next_reference_key_id: name('key_id'),
  };
}

function named(first: TokenDraft, second: StoredMention): TokenDraft {
  const related = (identity: TokenIdentity, ref: string | null | undefined): TokenIdentity => ({
    ...identity,
    next_ref: ref ?? undefined,
  });
  return {
    ...first,
    next_ref: second.ref ?? undefined,
    ...(first.family && { family: related(first.family, second.family_ref) }),
    ...(first.parent && { parent: related(first.parent, second.parent_ref) }),
  };
}
