import type { ServerResponse, IncomingMessage } from 'node:http';
import type { z } from 'zod';
import type { Runtime } from '../runtime/context.ts';
import type { Scope } from '../store/queries/scope.ts';
import type { EventStream } from './event_stream.ts';
import type { RateLimitName } from './limits.ts';

/** What handlers work with. */
export interface ApiContext {
  readonly runtime: Runtime;
  /** The store with the tenant of this installation: the only way to a query. */
  readonly scope: Scope;
  readonly stream: EventStream;
}

/** Statuses that a route may answer beside 200 and those that every route may (400, 403, 405, 429, 500, 503). */
export type ProblemStatus = 401 | 404 | 413 | 415 | 422;

/** Answers are made of rows that nobody changes. */
type DeepReadonly<T> = T extends readonly (infer Item)[]
  ? readonly DeepReadonly<Item>[]
  : T extends object
    ? { readonly [K in keyof T]: DeepReadonly<T[K]> }
    : T;

interface Described {
  readonly method: 'get' | 'post';
  /** OpenAPI form: `/api/v1/findings/{id}`. */
  readonly path: string;
  readonly operationId: string;
  /** One line. */
  readonly summary: string;
  readonly description?: string;
  readonly problems?: readonly ProblemStatus[];
  /** Default: read. */
  readonly rateLimit?: RateLimitName;
}

/** An empty shape: a route without these parameters. */
type NoFields = z.ZodObject<Record<string, never>, z.core.$strict>;
type Fields = z.ZodObject<z.ZodRawShape, z.core.$strict>;

export interface RouteInput<P extends Fields, Q extends Fields, B extends z.ZodType> {
  readonly params: z.infer<P>;
  readonly query: z.infer<Q>;
  readonly body: z.infer<B>;
}

/** A route that answers JSON: `response` checks nothing at run time, but describes it and is held by a test. */
export interface JsonRoute<
  P extends Fields,
  Q extends Fields,
  B extends z.ZodType,
  R extends z.ZodType,
> extends Described {
  readonly params?: P;
  readonly query?: Q;
  readonly body?: B;
  readonly response: R;
  readonly handle: (
    context: ApiContext,
    input: RouteInput<P, Q, B>,
  ) => Promise<DeepReadonly<z.infer<R>>>;
}

/** A route that writes its answer itself (a stream, a text). */
export interface RawRoute<
  P extends Fields,
  Q extends Fields,
  B extends z.ZodType,
> extends Described {
  readonly params?: P;
  readonly query?: Q;
  readonly body?: B;
  /** Media type of the answer. */
  readonly produces: string;
  readonly write: (
    context: ApiContext,
    input: RouteInput<P, Q, B>,
    exchange: { readonly request: IncomingMessage; readonly response: ServerResponse },
  ) => Promise<void>;
}

/** A route whose types were checked where it was defined; the server only needs this much. */
export interface Route extends Described {
  readonly params: z.ZodObject | undefined;
  readonly query: z.ZodObject | undefined;
  readonly body: z.ZodType | undefined;
  readonly answer:
    | {
        readonly form: 'json';
        readonly schema: z.ZodType;
        readonly handle: (context: ApiContext, input: ErasedInput) => Promise<unknown>;
      }
    | {
        readonly form: 'raw';
        readonly mediaType: string;
        readonly write: (
          context: ApiContext,
          input: ErasedInput,
          exchange: { readonly request: IncomingMessage; readonly response: ServerResponse },
        ) => Promise<void>;
      };
}

/** Parsed by the route's own schemas. */
export interface ErasedInput {
  readonly params: unknown;
  readonly query: unknown;
  readonly body: unknown;
}

/** Routes of one subject: one file in `api/routes/`, this as its default export; `id` = file name. */
export interface RouteGroup {
  readonly id: string;
  /** What the group is about, for the OpenAPI document. */
  readonly description: string;
  readonly routes: readonly Route[];
}

/** Declares a route that answers JSON. */
export function jsonRoute<
  R extends z.ZodType,
  P extends Fields = NoFields,
  Q extends Fields = NoFields,
  B extends z.ZodType = z.ZodUndefined,
>(route: JsonRoute<P, Q, B, R>): Route {
  const { handle, response, params, query, body, ...described } = route;
  return {
    ...described,
    params,
    query,
    body,
    answer: {
      form: 'json',
      schema: response,
      handle: (context, input) => handle(context, input as RouteInput<P, Q, B>),
    },
  };
}

/** Declares a route that writes its answer itself. */
export function rawRoute<
  P extends Fields = NoFields,
  Q extends Fields = NoFields,
  B extends z.ZodType = z.ZodUndefined,
>(route: RawRoute<P, Q, B>): Route {
  const { write, produces, params, query, body, ...described } = route;
  return {
    ...described,
    params,
    query,
    body,
    answer: {
      form: 'raw',
      mediaType: produces,
      write: (context, input, exchange) => write(context, input as RouteInput<P, Q, B>, exchange),
    },
  };
}

/** Declares a group of routes. One file in `api/routes/` with this as its default export. */
export function defineRoutes(group: RouteGroup): RouteGroup {
  return Object.freeze(group);
}
