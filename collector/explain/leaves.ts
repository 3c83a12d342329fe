import { Secret } from '../../model/secret.ts';

/** Fields looked at in one record; the rest is counted. */
export const LEAVES_MAX = 500;

/** A value that is no object or list (or an empty one), and the way to it. */
export interface Leaf {
  readonly path: readonly string[];
  readonly value: unknown;
}

/** All leaves of a JSON value in order, at most `LEAVES_MAX`, and how many more there are. */
export function leavesOf(value: unknown): { leaves: Leaf[]; more: number } {
  const leaves: Leaf[] = [];
  let more = 0;
  const visit = (path: readonly string[], inner: unknown): void => {
    const isNested = typeof inner === 'object' && inner !== null && Object.keys(inner).length > 0;
    if (isNested) {
      for (const [key, member] of Object.entries(inner)) visit([...path, key], member);
    } else if (leaves.length < LEAVES_MAX) leaves.push({ path, value: inner });
    else more += 1;
  };
  visit([], value);
  return { leaves, more };
}

/** The value with another one at the path; everything beside the way is shared. */
export function withLeaf(value: unknown, path: readonly string[], leaf: unknown): unknown {
  const [first, ...rest] = path;
  if (first === undefined) return leaf;
  if (Array.isArray(value)) {
    const list = value as readonly unknown[];
    return list.map((item, i) => (String(i) === first ? withLeaf(item, rest, leaf) : item));
  }
  if (typeof value !== 'object' || value === null) return value;
  const entries = Object.entries(value).map(([k, v]): [string, unknown] =>
    k === first ? [k, withLeaf(v, rest, leaf)] : [k, v],
  );
  return Object.fromEntries(entries);
}

/** Other values of a leaf's type: whoever reads the leaf comes to another result for one of them. */
export function variantsOf(value: unknown): unknown[] {
  if (typeof value === 'string') return [`${value}x`, `${value}1`, ''];
  if (typeof value === 'number') return [value + 1, value + 1_000];
  if (typeof value === 'boolean') return [!value];
  return ['x', 1];
}

/** A draft or event as texts by path: what differs between two of them is what a leaf decides. */
export function textsOf(value: unknown): Map<string, string> {
  const texts = new Map<string, string>();
  const visit = (path: string, inner: unknown): void => {
    if (inner === undefined) return;
    if (inner instanceof Secret) texts.set(path, inner.reveal());
    else if (typeof inner === 'object' && inner !== null) {
      for (const [key, member] of Object.entries(inner))
        visit(path === '' ? key : `${path}.${key}`, member);
    } else texts.set(path, scalarOf(inner));
  };
  visit('', value);
  return texts;
}

/** A scalar as text; '' for anything else. */
export function scalarOf(value: unknown): string {
  switch (typeof value) {
    case 'string':
      return value;
    case 'number':
    case 'boolean':
    case 'bigint':
      return String(value);
    default:
      return '';
  }
}
