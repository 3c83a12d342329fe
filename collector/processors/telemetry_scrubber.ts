import { isIP } from 'node:net';
import type { KeyRing } from '../../runtime/keyring.ts';
import { isMaskedLiteral } from './canonical_token.ts';
import { networkOf, normaliseIp } from './enrich.ts';
import { normaliseText } from './normalise.ts';
import type { Scrubber, ScrubbedAttributes, ScrubResult } from './scrubber.ts';

/** What OpenTelemetry's spans and log records are redacted with. */
export interface TelemetryScrubber {
  scrubText(text: string, maxLength?: number): ScrubResult;
  scrubAttributes(attributes: Readonly<Record<string, unknown>>): ScrubbedAttributes;
}

const ADDRESS =
  /(?<![\w.:])(?:\d{1,3}(?:\.\d{1,3}){3}|(?:[0-9a-f]{0,4}:){2,8}(?:\d{1,3}(?:\.\d{1,3}){3}|[0-9a-f]{0,4}))(?![\w.])/gi;
/** Four numbers in a version are no address. */
const VERSION_KEY = /(?:^|[._-])version$/i;

/**
 * The scrubber for spans and log records: people and sessions become the references that auth events have, so that both join
 * (`enduser.id` of a span, `subject.ref` of an event), and addresses follow `redaction.client_ip` wherever they stand.
 */
export function telemetryScrubber(
  scrubber: Scrubber,
  keyRing: KeyRing,
  clientIp: 'keep' | 'truncate' | 'hash',
): TelemetryScrubber {
  const pseudonymise = (value: string, kind: 'subject' | 'session'): string => {
    const name = normaliseText(value);
    // "***" would make strangers one person.
    return name === '' || isMaskedLiteral(name) ? '' : keyRing.ref(kind, name);
  };
  const addressless = (text: string): string =>
    text.replace(ADDRESS, (found) => {
      if (isIP(found) === 0) return found;
      const ip = normaliseIp(found);
      const network = networkOf(ip);
      return clientIp === 'hash' ? keyRing.ref('text', ip) : network.slice(0, network.indexOf('/'));
    });
  return {
    scrubText: (text, maxLength) => {
      const result = scrubber.scrubText(text, maxLength);
      if (clientIp === 'keep') return result;
      const without = addressless(result.text);
      return { text: without, changed: result.changed || without !== result.text };
    },
    scrubAttributes: (attributes) => {
      const result = scrubber.scrubAttributes(attributes, { pseudonymise });
      return clientIp === 'keep' ? result : withoutAddresses(result, addressless);
    },
  };
}

function withoutAddresses(
  result: ScrubbedAttributes,
  addressless: (text: string) => string,
): ScrubbedAttributes {
  const redacted = new Set(result.redacted);
  const entries = Object.entries(result.attributes).map(([key, value]): [string, string] => {
    const text = VERSION_KEY.test(key) ? value : addressless(value);
    const name = addressless(key);
    if (text !== value || name !== key) redacted.add(name);
    return [name, text];
  });
  // fromEntries defines own properties, so `__proto__` is a name like any other.
  return { attributes: Object.fromEntries(entries), redacted: [...redacted], cut: result.cut };
}
