import { z } from 'zod';
import { PROBLEMS, type ProblemCode } from './problems.ts';
import type { Route, RouteGroup } from './define_route.ts';

type Json = Record<string, unknown>;

/** Media type of error answers (RFC 9457). */
export const PROBLEM_MEDIA_TYPE = 'application/problem+json';

/** An error answer, as the document describes it. */
export const ProblemView = z
  .object({
    /** Relative address of a page about this kind of error. */
    type: z.string(),
    title: z.string(),
    status: z.number().int(),
    detail: z.string(),
    code: z.enum(Object.keys(PROBLEMS) as [ProblemCode, ...ProblemCode[]]),
    /** The wrong fields. */
    errors: z
      .array(z.object({ path: z.string(), message: z.string(), allowed: z.string().optional() }))
      .optional(),
    request_id: z.string(),
  })
  .meta({ id: 'Problem' });
export type ProblemView = z.infer<typeof ProblemView>;

/**
 * The OpenAPI 3.1 document, made from the very schemas that check requests. Schemas with an id become
 * components.
 */
export function buildOpenApi(groups: readonly RouteGroup[], version: string): Json {
  const components: Json = {};
  const paths: Record<string, Json> = {};
  for (const group of groups) {
    for (const route of group.routes) {
      (paths[route.path] ??= {})[route.method] = operation(group, route, components);
    }
  }
  schema(ProblemView, 'output', components);
  return {
    openapi: '3.1.0',
    info: {
      title: 'Grantscope',
      version,
      description: 'Findings, investigations, service levels and look-ups of OAuth telemetry.',
      license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
    },
    servers: [{ url: '/' }],
    tags: groups.map((g) => ({ name: g.id, description: g.description })),
    paths,
    components: {
      schemas: components,
      responses: {
        Problem: {
          description: 'An error (RFC 9457).',
          content: { [PROBLEM_MEDIA_TYPE]: { schema: { $ref: '#/components/schemas/Problem' } } },
        },
      },
    },
  };
}

function operation(group: RouteGroup, route: Route, components: Json): Json {
  const statuses = [400, ...(route.problems ?? []), 429, 500, 503];
  const problems = Object.fromEntries(
    statuses.map((s) => [String(s), { $ref: '#/components/responses/Problem' }]),
  );
  return {
    operationId: route.operationId,
    tags: [group.id],
    summary: route.summary,
    ...(route.description === undefined ? {} : { description: route.description }),
    parameters: [
      ...parameters('path', route.params, components),
      ...parameters('query', route.query, components),
    ],
    ...(route.body === undefined
      ? {}
      : {
          requestBody: {
            required: true,
            content: { 'application/json': { schema: schema(route.body, 'input', components) } },
          },
        }),
    responses: {
      '200': {
        description: 'The answer.',
        content:
          route.answer.form === 'json'
            ? { 'application/json': { schema: schema(route.answer.schema, 'output', components) } }
            : { [route.answer.mediaType]: { schema: { type: 'string' } } },
      },
      ...problems,
    },
  };
}

function parameters(
  where: 'path' | 'query',
  fields: z.ZodObject | undefined,
  components: Json,
): Json[] {
  if (fields === undefined) return [];
  return Object.entries(fields.shape).map(([name, field]) => {
    const text = schema(field as z.ZodType, 'input', components);
    const { description, ...rest } = text;
    return {
      name,
      in: where,
      required: where === 'path' || !(field as z.ZodType).safeParse(undefined).success,
      ...(typeof description === 'string' ? { description } : {}),
      // Lists are written with commas.
      ...(where === 'query' ? { style: 'form', explode: false } : {}),
      schema: rest,
    };
  });
}

/** JSON Schema of a zod schema; what has an id moves to the components. */
function schema(type: z.ZodType, io: 'input' | 'output', components: Json): Json {
  const made = z.toJSONSchema(type, { io, target: 'draft-2020-12', unrepresentable: 'any' });
  const text = JSON.stringify(made).replaceAll('#/$defs/', '#/components/schemas/');
  const whole = JSON.parse(text) as Json;
  // zod writes the id into the schema as well, where JSON Schema has another meaning for it.
  for (const [name, definition] of Object.entries((whole['$defs'] ?? {}) as Record<string, Json>))
    components[name] = without(definition, ['id']);
  const id = whole['id'];
  const own = without(whole, ['$schema', '$defs', 'id']);
  if (typeof id !== 'string') return own;
  components[id] = own;
  return { $ref: `#/components/schemas/${id}` };
}

function without(object: Json, names: readonly string[]): Json {
  return Object.fromEntries(Object.entries(object).filter(([name]) => !names.includes(name)));
}
