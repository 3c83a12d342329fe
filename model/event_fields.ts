import { AuthEvent, TokenMention } from './auth_event.ts';

interface Shaped {
  readonly shape: Readonly<Record<string, unknown>>;
}

function isShaped(schema: unknown): schema is Shaped {
  return typeof schema === 'object' && schema !== null && 'shape' in schema;
}

function pathsOf(shaped: Shaped, prefix: string): readonly string[] {
  return Object.entries(shaped.shape).flatMap(([name, schema]) => {
    const path = `${prefix}${name}`;
    return isShaped(schema) ? pathsOf(schema, `${path}.`) : [path];
  });
}

/**
 * Every field of an AuthEvent by its path, for instance `client.id`, `net.network`, `tokens.ref`: what a
 * detector may name as needed and a source as provided. `ext` stands for all of its entries.
 */
export const AUTH_EVENT_FIELDS: ReadonlySet<string> = new Set([
  ...pathsOf(AuthEvent, ''),
  ...pathsOf(TokenMention, 'tokens.'),
]);
