import { z } from 'zod';
import type { ErasedInput, Route } from './define_route.ts';
import { RequestProblem, type ProblemField } from './problems.ts';

/**
 * What a handler gets: path, query and body, checked by the route's schemas. Throws a 400 problem that
 * lists every wrong field; a parameter that the route does not know is wrong too.
 */
export function readInput(
  route: Route,
  request: { readonly originalUrl: string; readonly params: unknown; readonly body?: unknown },
): ErasedInput {
  const problems: ProblemField[] = [];
  const search = new URL(request.originalUrl, 'http://localhost').searchParams;
  const input = {
    params: parse('path', route.params, request.params, problems),
    query: parse('query', route.query, readQuery(route.query, search), problems),
    body: parse('body', route.body, request.body, problems),
  };
  const [first] = problems;
  if (first !== undefined)
    throw new RequestProblem('invalid_argument', `${first.path}: ${first.message}`, problems);
  return input;
}

/** Parameters by name; a list parameter is written with commas. */
function readQuery(
  fields: z.ZodObject | undefined,
  search: URLSearchParams,
): Record<string, string | string[]> {
  const lists = listNames(fields);
  // fromEntries makes `__proto__` a name like any other, so that it is refused as unknown.
  return Object.fromEntries(
    [...new Set(search.keys())].map((name) => {
      const values = search.getAll(name);
      const [only = ''] = values;
      if (lists.has(name)) return [name, values.flatMap((v) => v.split(','))];
      return [name, values.length === 1 ? only : values];
    }),
  );
}

function listNames(fields: z.ZodObject | undefined): ReadonlySet<string> {
  const isList = (field: unknown): boolean =>
    field instanceof z.ZodArray ||
    ((field instanceof z.ZodOptional || field instanceof z.ZodDefault) && isList(field.unwrap()));
  return new Set(
    Object.entries(fields?.shape ?? {})
      .filter(([, field]) => isList(field))
      .map(([name]) => name),
  );
}

/** Adds what is wrong to `problems`; a part without a schema takes nothing. */
function parse(
  part: 'path' | 'query' | 'body',
  schema: z.ZodType | undefined,
  value: unknown,
  problems: ProblemField[],
): unknown {
  if (schema === undefined) {
    const names = part === 'query' ? Object.keys(value as object) : [];
    problems.push(
      ...names.map((n) => ({ path: `query.${n}`, message: 'unknown parameter', allowed: 'none' })),
    );
    return undefined;
  }
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const known = 'shape' in schema ? Object.keys(schema.shape as object).join(', ') : undefined;
  problems.push(...parsed.error.issues.flatMap((issue) => fieldsOf(part, issue, known)));
  return undefined;
}

/** One wrong field per entry; values are never repeated. */
function fieldsOf(
  part: string,
  issue: z.core.$ZodIssue,
  known: string | undefined,
): ProblemField[] {
  const path = [part, ...issue.path.map(String)].join('.');
  if (issue.code === 'unrecognized_keys')
    return issue.keys.map((key) => ({
      path: `${path}.${key.slice(0, 100)}`,
      message: 'unknown parameter',
      ...(known === undefined ? {} : { allowed: known }),
    }));
  if (issue.code === 'invalid_value')
    return [
      { path, message: 'is not one of the allowed values', allowed: issue.values.join(', ') },
    ];
  return [{ path, message: issue.message }];
}
