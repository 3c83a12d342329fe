import { signal } from '@preact/signals';
import type { JSX } from 'preact';
import type { HashAnswer, ReferenceView } from '../../../schemas/investigation_view.ts';
import type { ClientList } from '../../../schemas/overview_view.ts';
import { ApiError, getJson, postJson } from '../api_client.ts';
import { go, href } from '../router.ts';
import { placeOf } from './links.tsx';

/** What the last search came to; '' while there is nothing to say. */
const message = signal('');

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;

/** Domains that a pasted value is tried in, after the token. */
const DOMAINS = ['token', 'subject', 'session', 'grant'] as const;

/** The place of a reference that something stored names; undefined where nothing does. */
async function placeOfReference(ref: string): Promise<string | undefined> {
  try {
    const { known_as } = await getJson<ReferenceView>(
      `api/v1/references/${encodeURIComponent(ref)}`,
    );
    const type = known_as[0]?.type;
    if (type === 'finding') return href(['findings', ref]);
    if (type === 'event') return href(['events', ref]);
    return type === undefined ? undefined : placeOf(type, ref);
  } catch (error) {
    if (error instanceof ApiError && error.status === 404) return undefined;
    throw error;
  }
}

/**
 * Where a pasted value leads. The value itself may be a live token: it goes into the body of one request
 * that hashes it, and never into an address, a history or a log.
 */
async function find(value: string): Promise<string | undefined> {
  if (UUID.test(value)) {
    const direct = await placeOfReference(value.toLowerCase());
    if (direct !== undefined) return direct;
  }
  // Client ids are no secrets, but the value may be no client id: compare here, send nothing.
  const clients = await getJson<ClientList>('api/v1/clients?days=90&limit=200');
  if (clients.items.some((c) => c.client_id === value))
    return href(['investigations', 'client', value]);
  for (const domain of DOMAINS) {
    const { references } = await postJson<HashAnswer>('api/v1/hash', { value, domain });
    for (const { ref } of references) {
      const found = await placeOfReference(ref);
      if (found !== undefined) return found;
    }
  }
  return undefined;
}

async function search(field: HTMLInputElement): Promise<void> {
  const value = field.value.trim();
  if (value === '') return;
  message.value = 'Looking\u2026';
  try {
    const to = await find(value);
    field.value = '';
    if (to === undefined) {
      message.value = 'Nothing stored names this value. It was hashed and forgotten.';
      return;
    }
    message.value = '';
    field.blur();
    go(to);
  } catch (error) {
    message.value = error instanceof Error ? error.message : String(error);
  }
}

/** Takes a token, a reference, a client id, or a subject, session or grant id. */
export function SearchBox(): JSX.Element {
  return (
    <form
      class="search"
      role="search"
      onSubmit={(event) => {
        event.preventDefault();
        const field = event.currentTarget.querySelector('input');
        if (field !== null) void search(field);
      }}
    >
      <label>
        <span class="unseen">Search by token, reference or client</span>
        <input
          id="search"
          type="text"
          autocomplete="off"
          autocapitalize="off"
          spellcheck={false}
          placeholder="Paste a token, reference or client id"
          maxLength={32_768}
          onInput={() => {
            message.value = '';
          }}
        />
      </label>
      <kbd aria-hidden="true">/</kbd>
      <p class="search-message" role="status" hidden={message.value === ''}>
        {message.value}
      </p>
    </form>
  );
}
