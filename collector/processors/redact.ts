import { droppedUrlParts } from '../../model/dropped_url_parts.ts';
import type { AuthEvent, TokenMention } from '../../model/auth_event.ts';
import type { SourceDefinition } from '../../model/define_source.ts';
import type {
  AuthEventDraft,
  PrincipalDraft,
  TokenDraft,
  TokenIdentity,
} from '../../model/draft.ts';
import { isUuid, type Ref, type RefDomain } from '../../model/ids.ts';
import type { KeyRing } from '../../runtime/keyring.ts';
import { identifyToken, isMaskedLiteral, type IdentifiedToken } from './canonical_token.ts';
import { networkOf, normaliseIp } from './enrich.ts';
import { isPlausibleTime, LIST_ITEMS_MAX, normaliseScopes, normaliseText } from './normalise.ts';
import type { Scrubber, ScrubResult } from './scrubber.ts';

/** Ids, names and codes are cut here, UTF-16 units. */
export const NAME_LENGTH_MAX = 256;
/** A list of scopes as one text. */
export const SCOPES_LENGTH_MAX = 8_192;
/** Free text of errors. */
export const DETAIL_LENGTH_MAX = 1_024;
/** Redirect URIs, issuers, audiences, routes. */
export const URI_LENGTH_MAX = 2_048;
export const USER_AGENT_LENGTH_MAX = 512;
/** Token mentions in one event. */
export const TOKENS_MAX = 50;
/** Entries of `ext`. */
export const EXT_ENTRIES_MAX = 50;
export const EXT_KEY_LENGTH_MAX = 64;
export const EXT_VALUE_LENGTH_MAX = 2_048;

export interface RedactContext {
  readonly source: SourceDefinition;
  readonly tenant: string;
  /** The collector's clock, ns. */
  readonly receivedAt: bigint;
  /** UUID text. */
  readonly eventId: string;
  readonly keyRing: KeyRing;
  readonly scrubber: Scrubber;
  /** `redaction.client_ip` of the configuration. */
  readonly clientIp: 'keep' | 'truncate' | 'hash';
}

/** A redacted event and what happened on the way. */
export interface Redacted {
  readonly event: AuthEvent;
  /** Fields that reached a limit and were cut: for the counter of the caller. */
  readonly cut: readonly string[];
}

/**
 * Makes the stored event of a draft: field by field, so that nothing passes that is not named here. Every
 * text is scrubbed and cut; people, sessions, grants and tokens become references.
 */
export function redact(draft: AuthEventDraft, context: RedactContext): Redacted {
  const redaction = new Redaction(context);
  const event = redaction.event(draft);
  return { event, cut: [...redaction.cut] };
}

class Redaction {
  readonly #context: RedactContext;
  readonly #fields = new Set<string>();
  readonly cut = new Set<string>();
  #upstream = false;

  constructor(context: RedactContext) {
    this.#context = context;
  }

  event(draft: AuthEventDraft): AuthEvent {
    const { tenant, eventId, receivedAt } = this.#context;
    const observed = draft.observed_time ?? receivedAt;
    const event: AuthEvent = {
      event_id: eventId,
      tenant,
      time: draft.time,
      observed_time: isPlausibleTime(observed) ? observed : receivedAt,
      source: this.#source(draft),
      kind: draft.kind,
      phase: draft.phase ?? 'single',
      outcome: draft.outcome ?? 'unknown',
      error: {
        code: this.#text('error.code', draft.error?.code),
        oauth_error: this.#text('error.oauth_error', draft.error?.oauth_error),
        detail: this.#text('error.detail', draft.error?.detail, DETAIL_LENGTH_MAX),
      },
      grant_type: this.#name('grant_type', draft.grant_type),
      response_type: this.#name('response_type', draft.response_type),
      endpoint: this.#name('endpoint', draft.endpoint),
      client: {
        id: this.#name('client.id', draft.client?.id),
        name: this.#text('client.name', draft.client?.name),
        auth_method: this.#name('client.auth_method', draft.client?.auth_method),
      },
      requested_client_id: this.#name('requested_client_id', draft.requested_client_id),
      subject: this.#principal('subject.ref', draft.subject),
      actor: this.#principal('actor.ref', draft.actor),
      issuer: this.#uri('issuer', draft.issuer),
      audience: this.#list('audience', draft.audience, (f, v) => this.#uri(f, v)),
      resource: this.#list('resource', draft.resource, (f, v) => this.#uri(f, v)),
      scopes_requested: this.#scopes('scopes_requested', draft.scopes_requested),
      scopes_granted: this.#scopes('scopes_granted', draft.scopes_granted),
      redirect_uri: this.#uri('redirect_uri', draft.redirect_uri, true),
      pkce: draft.pkce ?? 'unknown',
      binding: draft.binding ?? 'unknown',
      binding_thumbprint: this.#name('binding_thumbprint', draft.binding_thumbprint),
      tokens: this.#tokens(draft.tokens),
      session_ref: this.#reference('session_ref', 'session', draft.session),
      grant_ref: this.#reference('grant_ref', 'grant', draft.grant),
      ...this.#surroundings(draft),
      ext: this.#ext(withDroppedParts(draft)),
      redaction: {
        fields: [],
        upstream: false,
        key_id:
          this.#name('redaction.key_id', draft.reference_key_id) || this.#context.keyRing.currentId,
      },
    };
    event.redaction.fields = [...this.#fields].sort();
    event.redaction.upstream = this.#upstream || draft.upstream_redaction === true;
    return event;
  }

  #source(draft: AuthEventDraft): AuthEvent['source'] {
    const { source } = this.#context;
    return {
      id: source.id,
      vendor: source.vendor,
      product: source.product,
      instance: this.#name('source.instance', draft.instance),
      tenant: this.#name('source.tenant', draft.source_tenant),
      raw_type: this.#text('source.raw_type', draft.raw_type),
    };
  }

  #surroundings(
    d: AuthEventDraft,
  ): Pick<AuthEvent, 'net' | 'http' | 'policy' | 'key' | 'risk' | 'acr' | 'amr' | 'corr'> {
    return {
      net: this.#net(d.net),
      http: {
        method: this.#name('http.method', d.http?.method),
        route: this.#uri('http.route', d.http?.route, true),
        status: d.http?.status ?? null,
        duration_ms: d.http?.duration_ms ?? null,
      },
      policy: {
        decision_id: this.#name('policy.decision_id', d.policy?.decision_id),
        path: this.#text('policy.path', d.policy?.path),
        decision: this.#text('policy.decision', d.policy?.decision),
        bundle_revision: this.#name('policy.bundle_revision', d.policy?.bundle_revision),
      },
      key: {
        kid: this.#name('key.kid', d.key?.kid),
        operation: this.#text('key.operation', d.key?.operation),
        store: this.#text('key.store', d.key?.store),
      },
      risk: this.#text('risk', d.risk),
      acr: this.#name('acr', d.acr),
      amr: this.#list('amr', d.amr, (f, v) => this.#name(f, v)),
      corr: {
        trace_id: this.#hexId('corr.trace_id', d.corr?.trace_id, 32),
        span_id: this.#hexId('corr.span_id', d.corr?.span_id, 16),
        request_id: this.#name('corr.request_id', d.corr?.request_id),
        transaction_id: this.#name('corr.transaction_id', d.corr?.transaction_id),
      },
    };
  }

  /** Free text. */
  #text(field: string, value: string | undefined, max = NAME_LENGTH_MAX): string {
    const text = normaliseText(value);
    return text === ''
      ? ''
      : this.#noted(field, text, this.#context.scrubber.scrubText(text, max), max);
  }

  /** A field made for ids: random-looking text is its purpose. */
  #name(field: string, value: string | undefined, max = NAME_LENGTH_MAX): string {
    const text = normaliseText(value);
    if (text === '') return '';
    return this.#noted(field, text, this.#context.scrubber.scrubIdentifier(text, max), max);
  }

  #noted(field: string, before: string, result: ScrubResult, max: number): string {
    if (result.changed) {
      this.#fields.add(field);
      if (before.length > max && result.text.length >= max - 1) this.cut.add(field);
    }
    return result.text;
  }

  /** A URL loses userinfo, query and fragment; other names (an audience may be one) stay names. */
  #uri(field: string, value: string | undefined, always = false): string {
    const text = normaliseText(value);
    if (text === '') return '';
    if (!always && !text.includes('://')) return this.#name(field, text, URI_LENGTH_MAX);
    const bare = this.#context.scrubber.scrubUrl(text);
    if (bare !== text) this.#fields.add(field);
    if (bare.length > URI_LENGTH_MAX) this.cut.add(field);
    return bare.slice(0, URI_LENGTH_MAX);
  }

  #list(
    field: string,
    values: readonly string[] | undefined,
    one: (field: string, value: string) => string,
  ): string[] {
    if (values === undefined || values.length === 0) return [];
    if (values.length > LIST_ITEMS_MAX) {
      this.cut.add(field);
      this.#fields.add(field);
    }
    return values
      .slice(0, LIST_ITEMS_MAX)
      .map((v) => one(field, v))
      .filter((v) => v !== '');
  }

  #scopes(field: string, values: readonly string[] | undefined): string[] {
    // Scrubbed before it is parted: the words around a secret are what gives it away.
    const whole = this.#list(field, values, (f, v) => this.#name(f, v, SCOPES_LENGTH_MAX));
    return this.#list(field, normaliseScopes(whole), (f, v) => this.#name(f, v));
  }

  #hexId(field: string, value: string | undefined, digits: number): string {
    const text = normaliseText(value).toLowerCase();
    if (text.length === digits && /^[0-9a-f]+$/.test(text)) return /^0+$/.test(text) ? '' : text;
    return this.#name(field, text);
  }

  #principal(field: string, principal: PrincipalDraft | undefined): AuthEvent['subject'] {
    const domain: RefDomain = 'subject';
    return {
      ref: this.#reference(field, domain, principal),
      type: principal?.type ?? 'unknown',
    };
  }

  #reference(field: string, domain: RefDomain, value: { id?: string; ref?: Ref } | undefined): Ref {
    if (value?.ref !== undefined) return isUuid(value.ref) ? value.ref.toLowerCase() : '';
    const id = normaliseText(value?.id);
    if (id === '') return '';
    this.#fields.add(field);
    if (!isMaskedLiteral(id)) return this.#context.keyRing.ref(domain, id);
    this.#upstream = true;
    return '';
  }

  #tokens(drafts: readonly TokenDraft[] | undefined): TokenMention[] {
    if (drafts === undefined) return [];
    if (drafts.length > TOKENS_MAX) {
      this.cut.add('tokens');
      this.#fields.add('tokens');
    }
    return drafts.slice(0, TOKENS_MAX).map((t) => this.#token(t));
  }

  #token(draft: TokenDraft): TokenMention {
    const { ref, ref_kind } = this.#identified('tokens.ref', draft);
    return {
      role: draft.role,
      type: draft.type,
      ref,
      ref_kind,
      family_ref: this.#related('tokens.family_ref', draft.family),
      parent_ref: this.#related('tokens.parent_ref', draft.parent),
      counter: counterOf(draft.counter),
      issued_at: timeOf(draft.issued_at),
      expires_at: timeOf(draft.expires_at),
      kid: this.#name('tokens.kid', draft.kid),
      alg: this.#name('tokens.alg', draft.alg),
    };
  }

  #related(field: string, identity: TokenIdentity | undefined): Ref {
    return identity === undefined ? '' : this.#identified(field, identity).ref;
  }

  #identified(field: string, identity: TokenIdentity): IdentifiedToken {
    const found = identifyToken(this.#context.keyRing, identity);
    if (found.masked) this.#upstream = true;
    // A reference that came as one was hashed where it was made, not here.
    if (found.ref !== '' && identity.ref === undefined) this.#fields.add(field);
    return found;
  }

  #net(draft: AuthEventDraft['net']): AuthEvent['net'] {
    const ip = normaliseIp(draft?.client_ip ?? '');
    return {
      ...this.#address(ip),
      ip_role: draft?.ip_role ?? 'unknown',
      country: this.#name('net.country', draft?.country),
      user_agent: this.#text('net.user_agent', draft?.user_agent, USER_AGENT_LENGTH_MAX),
      ua_family: '',
      ja4: this.#name('net.ja4', draft?.ja4),
    };
  }

  /** With `hash` the network is keyed too: events still compare by network, and nobody can read it. */
  #address(ip: string): { client_ip: string; network: string } {
    const network = networkOf(ip);
    if (ip === '' || this.#context.clientIp === 'keep') return { client_ip: ip, network };
    this.#fields.add('net.client_ip');
    if (this.#context.clientIp === 'truncate') {
      return { client_ip: network.slice(0, network.indexOf('/')), network };
    }
    this.#fields.add('net.network');
    const { keyRing } = this.#context;
    return { client_ip: keyRing.ref('text', ip), network: keyRing.ref('text', network) };
  }

  #ext(ext: AuthEventDraft['ext']): Record<string, string> {
    if (ext === undefined) return {};
    const { scrubber } = this.#context;
    const entries = Object.entries(ext);
    if (entries.length > EXT_ENTRIES_MAX) {
      this.cut.add('ext');
      this.#fields.add('ext');
    }
    const kept = entries.slice(0, EXT_ENTRIES_MAX).map(([rawKey, value]): [string, string] => {
      const key = scrubber.scrubText(rawKey, EXT_KEY_LENGTH_MAX).text;
      if (scrubber.isSecretKey(rawKey) && value !== '') {
        this.#fields.add(`ext.${key}`);
        return [key, '[redacted]'];
      }
      return [key, this.#text(`ext.${key}`, value, EXT_VALUE_LENGTH_MAX)];
    });
    // fromEntries defines own properties, so `__proto__` is a name like any other.
    return Object.fromEntries(kept);
  }
}

function counterOf(counter: number | undefined): number | null {
  return counter !== undefined && Number.isSafeInteger(counter) && counter >= 0 ? counter : null;
}

function timeOf(time: bigint | undefined): bigint | null {
  return time !== undefined && isPlausibleTime(time) ? time : null;
}

/** Adds what the redirect URI is about to lose, unless the source has said it (see `droppedUrlParts`). */
function withDroppedParts(draft: AuthEventDraft): AuthEventDraft['ext'] {
  const dropped = droppedUrlParts(draft.redirect_uri ?? '');
  return dropped.length === 0 ? draft.ext : { redirect_uri_had: dropped.join(' '), ...draft.ext };
}
