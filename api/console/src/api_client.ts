import { useEffect, useRef, useState } from 'preact/hooks';
import type { ReadonlySignal } from '@preact/signals';

/** An answer that is no success, in words for the reader. */
export class ApiError extends Error {
  readonly status: number;

  constructor(status: number, detail: string) {
    super(detail);
    this.status = status;
  }
}

async function call(path: string, init: RequestInit): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(path, { credentials: 'same-origin', ...init });
  } catch (error) {
    if (error instanceof DOMException && error.name === 'AbortError') throw error;
    throw new ApiError(0, 'The server does not answer. Is it running?');
  }
  if (response.ok) return response;
  const problem = (await response.json().catch(() => ({}))) as { detail?: unknown };
  throw new ApiError(
    response.status,
    typeof problem.detail === 'string' ? problem.detail : `The server answered ${response.status}.`,
  );
}

export async function getJson<T>(path: string, signal?: AbortSignal): Promise<T> {
  const response = await call(path, signal === undefined ? {} : { signal });
  return (await response.json()) as T;
}

export async function getText(path: string, signal?: AbortSignal): Promise<string> {
  return (await call(path, signal === undefined ? {} : { signal })).text();
}

export async function postJson<T>(path: string, body: unknown): Promise<T> {
  const response = await call(path, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  });
  return (await response.json()) as T;
}

export interface Loaded<T> {
  readonly data: T | undefined;
  readonly error: ApiError | undefined;
}

/**
 * What an address gives, read again whenever `tick` changes. While it is read again the old data stays, so
 * that nothing flickers; another address starts empty.
 */
export function useLoaded<T>(
  path: string,
  tick?: ReadonlySignal<number>,
  read: (path: string, signal: AbortSignal) => Promise<T> = getJson,
): Loaded<T> {
  const [state, setState] = useState<Loaded<T> & { readonly path: string }>({
    path,
    data: undefined,
    error: undefined,
  });
  const reader = useRef(read);
  const version = tick?.value ?? 0;
  useEffect(() => {
    const abort = new AbortController();
    reader
      .current(path, abort.signal)
      .then((data) => setState({ path, data, error: undefined }))
      .catch((error: unknown) => {
        if (abort.signal.aborted) return;
        const shown = error instanceof ApiError ? error : new ApiError(0, String(error));
        setState((old) => ({
          path,
          data: old.path === path && shown.status !== 404 ? old.data : undefined,
          error: shown,
        }));
      });
    return () => abort.abort();
  }, [path, version]);
  return state.path === path ? state : { data: undefined, error: undefined };
}
