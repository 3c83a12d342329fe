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
import { addressOf, type Address } from './enrich.ts';
import { NOTHING_KNOWN, type NetworkLookup } from './network_facts.ts';
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

/** The authentication method of public clients (RFC 7591 section 2), where elsewhere `none` says that there is no value. */
const NO_CLIENT_AUTH = 'none';

export interface RedactContext {
  readonly source: SourceDefinition;
  readonly tenant: string;
  /** The collector's clock, ns. */
  readonly receivedAt: bigint;
  readonly keyRing: KeyRing;
  readonly scrubber: Scrubber;
  /** `redaction.client_ip` of the configuration. */
  readonly clientIp: 'keep' | 'truncate' | 'hash';
  /** Databases of networks; absent where none is configured. */
  readonly networks?: NetworkLookup | undefined;
}

/** A redacted event and what happened on the way. */
export interface Redacted {
  readonly event: AuthEvent;
  /** Fields that reached a limit and were cut: for the counter of the caller. */
  readonly cut: readonly string[];
}

/**
 * Makes the stored event of a draft, under an id (UUID text): field by field, so that nothing passes that is
 * not named here. Every text is scrubbed and cut; people, sessions, grants and tokens become references.
 */
export function redact(draft: AuthEventDraft, context: RedactContext, eventId: string): Redacted {
  const redaction = new Redaction(context);
  const event = redaction.event(draft, eventId);
  return { event, cut: redaction.cut };
}

/** Texts that are remembered as clean, of each way of cleaning; a full memory is emptied. */
const CLEAN_TEXTS_MAX = 8_192;
/** Longer texts are not remembered. Below every limit of a field, so that a remembered text is never cut. */
const CLEAN_TEXT_LENGTH_MAX = 200;

/**
 * What one scrubber left as it was: most texts of an event are names that recur in nearly every event.
 * One look-up then takes the place of normalising and scrubbing.
 */
class CleanTexts {
  readonly names = new Set<string>();
  readonly texts = new Set<string>();
  readonly uris = new Set<string>();
  readonly issuers = new Set<string>();
  /** Lists of scopes as they came, joined, to the sorted set that they are; shared by events. */
  readonly scopes = new Map<string, string[]>();

  static readonly #ofScrubber = new WeakMap<Scrubber, CleanTexts>();

  static of(scrubber: Scrubber): CleanTexts {
    let known = CleanTexts.#ofScrubber.get(scrubber);
    if (known === undefined) {
      known = new CleanTexts();
      CleanTexts.#ofScrubber.set(scrubber, known);
    }
    return known;
  }
}

function remember(known: Set<string>, text: string): void {
  if (text.length > CLEAN_TEXT_LENGTH_MAX) return;
  if (known.size >= CLEAN_TEXTS_MAX) known.clear();
  known.add(text);
}

class Redaction {
  readonly #context: RedactContext;
  readonly #clean: CleanTexts;
  readonly #fields: string[] = [];
  readonly cut: string[] = [];
  #upstream = false;
  #relatedName = '';
  #relatedRef: Ref = '';

  constructor(context: RedactContext) {
    this.#context = context;
    this.#clean = CleanTexts.of(context.scrubber);
  }

  #note(field: string): void {
    if (!this.#fields.includes(field)) this.#fields.push(field);
  }

  #noteCut(field: string): void {
    if (!this.cut.includes(field)) this.cut.push(field);
  }

  event(draft: AuthEventDraft, eventId: string): AuthEvent {
    const { tenant, receivedAt } = this.#context;
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
        auth_method: this.#authMethod(draft.client?.auth_method),
      },
      requested_client_id: this.#name('requested_client_id', draft.requested_client_id),
      subject: this.#principal('subject.ref', draft.subject),
      actor: this.#principal('actor.ref', draft.actor),
      issuer: this.#issuer(draft.issuer),
      audience: this.#uris('audience', draft.audience),
      resource: this.#uris('resource', draft.resource),
      scopes_requested: this.#scopes('scopes_requested', draft.scopes_requested),
      scopes_granted: this.#scopes('scopes_granted', draft.scopes_granted),
      redirect_uri: this.#uri('redirect_uri', draft.redirect_uri, true),
      pkce: draft.pkce ?? 'unknown',
      binding: draft.binding ?? 'unknown',
      binding_thumbprint: this.#name('binding_thumbprint', draft.binding_thumbprint),
      tokens: this.#tokens(draft.tokens),
      session_ref: this.#reference('session_ref', 'session', draft.session),
      grant_ref: this.#reference('grant_ref', 'grant', draft.grant),
      net: this.#net(draft.net),
      http: this.#http(draft.http),
      policy: this.#policy(draft.policy),
      key: this.#key(draft.key),
      risk: this.#text('risk', draft.risk),
      acr: this.#name('acr', draft.acr),
      amr: this.#names('amr', draft.amr),
      corr: this.#corr(draft.corr),
      ext: this.#ext(withDroppedParts(draft)),
      redaction: {
        fields: [],
        upstream: false,
        key_id:
          this.#name('redaction.key_id', draft.reference_key_id) || this.#context.keyRing.currentId,
      },
    };
    event.redaction.fields = this.#fields.sort();
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

  #http(http: AuthEventDraft['http']): AuthEvent['http'] {
    return {
      method: this.#name('http.method', http?.method),
      route: this.#uri('http.route', http?.route, true),
      status: http?.status ?? null,
      duration_ms: http?.duration_ms ?? null,
    };
  }

  #policy(policy: AuthEventDraft['policy']): AuthEvent['policy'] {
    return {
      decision_id: this.#name('policy.decision_id', policy?.decision_id),
      path: this.#text('policy.path', policy?.path),
      decision: this.#text('policy.decision', policy?.decision),
      bundle_revision: this.#name('policy.bundle_revision', policy?.bundle_revision),
    };
  }

  #key(key: AuthEventDraft['key']): AuthEvent['key'] {
    return {
      kid: this.#name('key.kid', key?.kid),
      operation: this.#text('key.operation', key?.operation),
      store: this.#text('key.store', key?.store),
    };
  }

  #corr(corr: AuthEventDraft['corr']): AuthEvent['corr'] {
    return {
      trace_id: this.#hexId('corr.trace_id', corr?.trace_id, 32),
      span_id: this.#hexId('corr.span_id', corr?.span_id, 16),
      request_id: this.#name('corr.request_id', corr?.request_id),
      transaction_id: this.#name('corr.transaction_id', corr?.transaction_id),
    };
  }

  /** Free text. */
  #text(field: string, value: string | undefined, max = NAME_LENGTH_MAX): string {
    if (value === undefined || value === '') return '';
    if (this.#clean.texts.has(value)) return value;
    const text = normaliseText(value);
    if (text === '') return '';
    const result = this.#context.scrubber.scrubText(text, max);
    if (result.text === value) remember(this.#clean.texts, value);
    return this.#noted(field, text, result, max);
  }

  /** A field made for ids: random-looking text is its purpose. */
  #name(field: string, value: string | undefined, max = NAME_LENGTH_MAX): string {
    if (value === undefined || value === '') return '';
    if (this.#clean.names.has(value)) return value;
    const text = normaliseText(value);
    if (text === '') return '';
    const result = this.#context.scrubber.scrubIdentifier(text, max);
    if (result.text === value) remember(this.#clean.names, value);
    return this.#noted(field, text, result, max);
  }

  #authMethod(value: string | undefined): string {
    return value === NO_CLIENT_AUTH ? value : this.#name('client.auth_method', value);
  }

  #noted(field: string, before: string, result: ScrubResult, max: number): string {
    if (result.changed) {
      this.#note(field);
      if (before.length > max && result.text.length >= max - 1) this.#noteCut(field);
    }
    return result.text;
  }

  /** A URL loses userinfo, query and fragment; other names (an audience may be one) stay names. */
  #uri(field: string, value: string | undefined, always = false): string {
    if (value === undefined || value === '') return '';
    if (this.#clean.uris.has(value)) return value;
    const text = normaliseText(value);
    if (text === '') return '';
    if (!always && !text.includes('://')) return this.#name(field, text, URI_LENGTH_MAX);
    const bare = this.#context.scrubber.scrubUrl(text);
    if (bare === value) remember(this.#clean.uris, value);
    return this.#bounded(field, text, bare);
  }

  /** An issuer's path keeps what looks random: two pools of one provider differ in nothing else. */
  #issuer(value: string | undefined): string {
    if (value === undefined || value === '') return '';
    if (this.#clean.issuers.has(value)) return value;
    const text = normaliseText(value);
    if (!text.includes('://')) return this.#name('issuer', text, URI_LENGTH_MAX);
    const bare = this.#context.scrubber.scrubIssuer(text);
    if (bare === value) remember(this.#clean.issuers, value);
    return this.#bounded('issuer', text, bare);
  }

  #bounded(field: string, before: string, uri: string): string {
    if (uri !== before) this.#note(field);
    if (uri.length > URI_LENGTH_MAX) this.#noteCut(field);
    return uri.slice(0, URI_LENGTH_MAX);
  }

  #names(field: string, values: readonly string[] | undefined, max = NAME_LENGTH_MAX): string[] {
    if (values === undefined || values.length === 0) return [];
    const names = this.#upToLimit(field, values).map((v) => this.#name(field, v, max));
    return names.filter((v) => v !== '');
  }

  #uris(field: string, values: readonly string[] | undefined): string[] {
    if (values === undefined || values.length === 0) return [];
    const uris = this.#upToLimit(field, values).map((v) => this.#uri(field, v));
    return uris.filter((v) => v !== '');
  }

  #upToLimit(field: string, values: readonly string[]): readonly string[] {
    if (values.length <= LIST_ITEMS_MAX) return values;
    this.#noteCut(field);
    this.#note(field);
    return values.slice(0, LIST_ITEMS_MAX);
  }

  #scopes(field: string, values: readonly string[] | undefined): string[] {
    if (values === undefined || values.length === 0) return [];
    const key = values.join('\n');
    const known = this.#clean.scopes.get(key);
    if (known !== undefined) return known;
    const noted = this.#fields.length;
    // Scrubbed before it is parted: the words around a secret are what gives it away.
    const whole = this.#names(field, values, SCOPES_LENGTH_MAX);
    const scopes = this.#names(field, normaliseScopes(whole));
    if (this.#fields.length === noted && key.length <= CLEAN_TEXT_LENGTH_MAX) {
      if (this.#clean.scopes.size >= CLEAN_TEXTS_MAX) this.#clean.scopes.clear();
      this.#clean.scopes.set(key, scopes);
    }
    return scopes;
  }

  #hexId(field: string, value: string | undefined, digits: number): string {
    if (value === undefined || value === '') return '';
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
    this.#note(field);
    if (!isMaskedLiteral(id)) return this.#context.keyRing.ref(domain, id);
    this.#upstream = true;
    return '';
  }

  #tokens(drafts: readonly TokenDraft[] | undefined): TokenMention[] {
    if (drafts === undefined) return [];
    if (drafts.length > TOKENS_MAX) {
      this.#noteCut('tokens');
      this.#note('tokens');
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
    if (identity === undefined) return '';
    const { vendor_id: name, secret, jti, ref } = identity;
    const isNamed = name !== undefined && (secret ?? jti ?? ref) === undefined;
    if (!isNamed) return this.#identified(field, identity).ref;
    // The tokens of one event are of one family: its name is hashed once.
    if (name !== this.#relatedName) {
      this.#relatedRef = this.#identified(field, identity).ref;
      this.#relatedName = name;
    }
    if (this.#relatedRef !== '') this.#note(field);
    return this.#relatedRef;
  }

  #identified(field: string, identity: TokenIdentity): IdentifiedToken {
    const found = identifyToken(this.#context.keyRing, identity);
    if (found.masked) this.#upstream = true;
    // A reference that came as one was hashed where it was made, not here.
    if (found.ref !== '' && identity.ref === undefined) this.#note(field);
    return found;
  }

  #net(draft: AuthEventDraft['net']): AuthEvent['net'] {
    const address = addressOf(draft?.client_ip ?? '');
    const { client_ip, network } = this.#address(address);
    const { networks } = this.#context;
    const facts = networks === undefined ? NOTHING_KNOWN : networks.of(address.client_ip);
    return {
      client_ip,
      network,
      asn: facts.asn,
      as_org: facts.as_org,
      ip_role: draft?.ip_role ?? 'unknown',
      country: this.#name('net.country', draft?.country) || facts.country,
      latitude: facts.latitude,
      longitude: facts.longitude,
      flags: facts.flags,
      user_agent: this.#text('net.user_agent', draft?.user_agent, USER_AGENT_LENGTH_MAX),
      ua_family: '',
      ja4: this.#name('net.ja4', draft?.ja4),
    };
  }

  /** With `hash` the network is keyed too: events still compare by network, and nobody can read it. */
  #address(address: Address): { readonly client_ip: string; readonly network: string } {
    const { client_ip: ip, network } = address;
    if (ip === '' || this.#context.clientIp === 'keep') return address;
    this.#note('net.client_ip');
    if (this.#context.clientIp === 'truncate') {
      return { client_ip: network.slice(0, network.indexOf('/')), network };
    }
    this.#note('net.network');
    const { keyRing } = this.#context;
    return { client_ip: keyRing.ref('text', ip), network: keyRing.ref('text', network) };
  }

  #ext(ext: AuthEventDraft['ext']): Record<string, string> {
    if (ext === undefined) return {};
    const { scrubber } = this.#context;
    const entries = Object.entries(ext);
    if (entries.length > EXT_ENTRIES_MAX) {
      this.#noteCut('ext');
      this.#note('ext');
    }
    const kept = entries.slice(0, EXT_ENTRIES_MAX).map(([rawKey, value]): [string, string] => {
      const key = scrubber.scrubText(rawKey, EXT_KEY_LENGTH_MAX).text;
      if (scrubber.isSecretKey(rawKey) && value !== '') {
        this.#note(`ext.${key}`);
        return [key, '[redacted]'];
      }
      if (value === NO_CLIENT_AUTH && key === 'token_endpoint_auth_method') return [key, value];
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
