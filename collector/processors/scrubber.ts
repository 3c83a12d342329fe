/** What stands where a secret stood. */
export const REDACTED = '[redacted]';

/**
 * The redaction primitives. All are pure and linear in the length of their input; scrubbed text scrubs
 * to itself.
 */
export interface Scrubber {
  /**
   * Replaces every secret in free text by `[redacted]`: JWTs, credentials, secret parameters of URLs, forms
   * and JSON however nested and encoded, keys of known shape, private keys, e-mail addresses, long random
   * text. `maxLength` (UTF-16 units) cuts the result; a cut counts as a change.
   */
  scrubText(text: string, maxLength?: number): ScrubResult;
  /**
   * The same for a field whose purpose is to hold an id (client id, key id, thumbprint): without the
   * e-mail rule and the fence against random text, which would take such ids for secrets.
   */
  scrubIdentifier(text: string, maxLength?: number): ScrubResult;
  /** Scheme, host, port and path of a URL: no userinfo, query, fragment; the path is scrubbed as text. */
  scrubUrl(url: string): string;
  /**
   * The same for the URL of an issuer, which keeps what looks random in its path: pools, tenants and authorization
   * servers are told apart by nothing else. Everything with a secret's name or shape goes as elsewhere.
   */
  scrubIssuer(url: string): string;
  /** True where the key's value is a secret whatever it is. */
  isSecretKey(key: string): boolean;
  /** OpenTelemetry attributes, keys and values; see `scrubAttributeMap`. */
  scrubAttributes(
    attributes: Readonly<Record<string, unknown>>,
    options?: AttributeOptions,
  ): ScrubbedAttributes;
}

export interface ScrubResult {
  readonly text: string;
  /** True where something was replaced or cut. */
  readonly changed: boolean;
}

/** What an attribute map becomes. */
export interface ScrubbedAttributes {
  /** Text for every attribute; nested values as JSON. */
  readonly attributes: Record<string, string>;
  /** Names (scrubbed) of the attributes whose value was changed or dropped. */
  readonly redacted: string[];
  /** Attributes of which a limit left out a part: of the value, its nesting or its key. */
  readonly cut: number;
}

export interface AttributeOptions {
  /** Cuts each value, UTF-16 units; default 32,768. */
  readonly maxLength?: number;
  /**
   * Makes a reference of an identifier of a person or session (`enduser.id`, `user.email`, `session.id`).
   * Without it such values are dropped.
   */
  readonly pseudonymise?: (value: string, kind: 'subject' | 'session') => string;
}
