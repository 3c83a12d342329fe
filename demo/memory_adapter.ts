import type { Adapter, AdapterPayload } from 'oidc-provider';
import type { SecretKind, SecretLedger } from './secret_ledger.ts';

/** Entries kept; beyond it the oldest are dropped and counted. */
export const AUTHORIZATION_SERVER_ENTRIES_MAX = 200_000;

/** Models whose id IS the credential. */
const SECRET_OF_MODEL: Readonly<Record<string, SecretKind>> = {
  AccessToken: 'access_token',
  ClientCredentials: 'access_token',
  RefreshToken: 'refresh_token',
  AuthorizationCode: 'authorization_code',
  DeviceCode: 'device_code',
  Session: 'cookie',
  Interaction: 'cookie',
  PushedAuthorizationRequest: 'request_uri',
  RegistrationAccessToken: 'registration_access_token',
};

interface Entry {
  readonly payload: AdapterPayload;
  readonly expiresAt: number;
}

export interface AdapterStorage {
  readonly adapter: (model: string) => Adapter;
  /** Entries dropped because of the limit. */
  readonly dropped: () => number;
}

/**
 * Storage of the demo's authorization server: in memory, bounded, and it writes every credential to the
 * ledger. The built-in one of oidc-provider keeps 1,000 entries only, which live traffic outgrows.
 */
export function createAdapterStorage(ledger: SecretLedger): AdapterStorage {
  const storage = new Storage();
  return {
    dropped: () => storage.dropped,
    adapter: (model) => adapterOf(model, storage, ledger),
  };
}

/** Entries by `Model:id`, with the three look-ups that oidc-provider needs. */
class Storage {
  readonly #entries = new Map<string, Entry>();
  readonly #byGrant = new Map<string, Set<string>>();
  readonly byUid = new Map<string, string>();
  readonly byUserCode = new Map<string, string>();
  dropped = 0;

  put(key: string, model: string, payload: AdapterPayload, expiresInS: number): void {
    this.remove(key);
    const expiresAt = expiresInS > 0 ? Date.now() + expiresInS * 1_000 : Number.POSITIVE_INFINITY;
    this.#entries.set(key, { payload, expiresAt });
    const { grantId, uid, userCode } = payload;
    if (grantId !== undefined) {
      this.#byGrant.set(grantId, (this.#byGrant.get(grantId) ?? new Set()).add(key));
    }
    if (model === 'Session' && uid !== undefined) this.byUid.set(uid, key);
    if (userCode !== undefined) this.byUserCode.set(userCode, key);
    if (this.#entries.size <= AUTHORIZATION_SERVER_ENTRIES_MAX) return;
    const oldest = this.#entries.keys().next();
    if (oldest.done !== true) this.remove(oldest.value);
    this.dropped += 1;
  }

  find(key: string | undefined): AdapterPayload | undefined {
    const entry = key === undefined ? undefined : this.#entries.get(key);
    if (entry === undefined || key === undefined) return undefined;
    if (entry.expiresAt > Date.now()) return entry.payload;
    this.remove(key);
    return undefined;
  }

  remove(key: string): void {
    const entry = this.#entries.get(key);
    if (entry === undefined) return;
    this.#entries.delete(key);
    const { grantId, uid, userCode } = entry.payload;
    if (grantId !== undefined) {
      const members = this.#byGrant.get(grantId);
      members?.delete(key);
      if (members?.size === 0) this.#byGrant.delete(grantId);
    }
    if (uid !== undefined && this.byUid.get(uid) === key) this.byUid.delete(uid);
    if (userCode !== undefined) this.byUserCode.delete(userCode);
  }

  ofGrant(grantId: string): readonly string[] {
    return [...(this.#byGrant.get(grantId) ?? [])];
  }
}

function adapterOf(model: string, storage: Storage, ledger: SecretLedger): Adapter {
  const keyOf = (id: string): string => `${model}:${id}`;
  const kind = SECRET_OF_MODEL[model];
  return {
    upsert(id, payload, expiresIn = 0) {
      if (kind !== undefined) ledger.add(kind, id);
      ledger.add('user_code', payload.userCode);
      storage.put(keyOf(id), model, payload, expiresIn);
      return Promise.resolve();
    },
    find: (id) => Promise.resolve(storage.find(keyOf(id))),
    findByUid: (uid) => Promise.resolve(storage.find(storage.byUid.get(uid))),
    findByUserCode: (code) => Promise.resolve(storage.find(storage.byUserCode.get(code))),
    consume(id) {
      const payload = storage.find(keyOf(id));
      if (payload !== undefined) payload.consumed = Math.floor(Date.now() / 1_000);
      return Promise.resolve();
    },
    destroy(id) {
      storage.remove(keyOf(id));
      return Promise.resolve();
    },
    revokeByGrantId(grantId) {
      for (const key of storage.ofGrant(grantId)) {
        if (key.startsWith(`${model}:`)) storage.remove(key);
      }
      return Promise.resolve();
    },
  };
}
