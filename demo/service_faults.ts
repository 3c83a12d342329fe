import { errors } from 'oidc-provider';
import { setTimeout as wait } from 'node:timers/promises';

/** What is wrong with the authorization server as a service, for everybody. */
export type ServiceFault =
  /** Connections break before an answer. */
  | { readonly kind: 'down' }
  /** Every token takes this much longer, ms. */
  | { readonly kind: 'slow'; readonly delayMs: number }
  /** This share of the tokens cannot be stored: server_error (500). */
  | { readonly kind: 'errors'; readonly share: number }
  /** Tokens are refused with 429; where a client is named, to it alone. */
  | { readonly kind: 'rate_limited'; readonly clientId?: string }
  /** Introspection fails: server_error (500). */
  | { readonly kind: 'introspection' };

/**
 * Switch of the demo's authorization server. The faults lie inside of oidc-provider, where its storage and its policies
 * are asked, so that answers, events and telemetry are its own.
 */
export class ServiceFaults {
  #fault: ServiceFault | undefined;
  #tokens = 0;

  get isDown(): boolean {
    return this.#fault?.kind === 'down';
  }

  /** Undefined ends it. */
  set(fault: ServiceFault | undefined): void {
    this.#fault = fault;
    this.#tokens = 0;
  }

  /** Called for each token that is about to be issued. */
  async beforeToken(clientId: string | undefined): Promise<void> {
    const fault = this.#fault;
    if (fault?.kind === 'slow') await wait(fault.delayMs);
    if (fault?.kind === 'rate_limited' && (fault.clientId ?? clientId) === clientId)
      throw new errors.OIDCProviderError(429, 'temporarily_unavailable');
    if (fault?.kind !== 'errors') return;
    this.#tokens += 1;
    // Evenly spread, so that a share is reached exactly and not by luck.
    const before = Math.floor((this.#tokens - 1) * fault.share);
    if (Math.floor(this.#tokens * fault.share) > before)
      throw new TypeError('the storage of tokens does not answer');
  }

  /** Called for each token that is introspected. */
  beforeIntrospection(): void {
    if (this.#fault?.kind === 'introspection')
      throw new TypeError('the storage of tokens does not answer');
  }
}
