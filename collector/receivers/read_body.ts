import type { IncomingMessage } from 'node:http';
import { createGunzip } from 'node:zlib';
import { GrantscopeError } from '../../runtime/errors.ts';

/** What a receiver reads at most from one request, and for how long. */
export interface BodyLimits {
  /** Largest body in bytes, counted before and again after decompression. */
  readonly bytesMax: number;
  /** Longest time for the whole body to arrive, ms. */
  readonly deadlineMs: number;
  /** Bytes that all requests share; without it there is no such limit. */
  readonly budget?: BodyBudget;
}

/** Memory for bodies. `take` throws where there is none left, and the request is refused with that error. */
export interface BodyBudget {
  take(bytes: number): void;
  giveBack(bytes: number): void;
  /** Told once, of a body that was read to its end. */
  hasRead(sentBytes: number, decodedBytes: number): void;
}

/**
 * After a refusal the rest of the body is read and thrown away, so that the client, which is still sending,
 * gets to read the answer and the connection can serve its next request. Beyond this many bytes, or after
 * `DISCARD_MS_MAX`, the connection is cut instead.
 */
export const DISCARD_BYTES_MAX = 64 * 1024 * 1024;
export const DISCARD_MS_MAX = 2_000;

/** Inflated output grows in pieces of this size; zlib's default of 16 KiB costs a thread hop each. */
const INFLATE_CHUNK_BYTES = 256 * 1024;

type Coding = 'identity' | 'gzip';

/**
 * Reads a request's body and undoes its Content-Encoding (RFC 9110 section 8.4: `identity`, `gzip`, `x-gzip`).
 * An empty body is an empty buffer, whatever its coding. Memory is bounded by twice `bytesMax`, and over all
 * requests by `budget`; what is taken of that is the caller's to give back once it is done with the body.
 *
 * Fails with `body_too_large` (413: beyond `bytesMax`, as sent or inflated), `unsupported_encoding` (415),
 * `body_timeout` (408: not complete within `deadlineMs`) and `body_unreadable` (400: broken gzip, or the
 * client went away in the middle).
 */
export async function readBody(request: IncomingMessage, limits: BodyLimits): Promise<Buffer> {
  let coding: Coding;
  let raw: Buffer;
  try {
    coding = codingOf(request.headers['content-encoding']);
    refuseDeclaredLength(request.headers['content-length'], limits.bytesMax);
    raw = await readRaw(request, limits);
  } catch (error) {
    discardBody(request);
    throw error;
  }
  const isPlain = coding === 'identity' || raw.length === 0;
  const body = isPlain ? raw : await inflateWithin(raw, limits);
  limits.budget?.hasRead(raw.length, body.length);
  if (!isPlain) limits.budget?.giveBack(raw.length);
  return body;
}

function codingOf(header: string | undefined): Coding {
  const coding = (header ?? '').trim().toLowerCase();
  if (coding === '' || coding === 'identity') return 'identity';
  if (coding === 'gzip' || coding === 'x-gzip') return 'gzip';
  // The header's value is not repeated: it is the client's text.
  throw new GrantscopeError(
    'unsupported_encoding',
    'Content-Encoding: this coding is not supported; allowed: identity, gzip',
    { stage: 'receiving' },
  );
}

/** Refuses before a byte is read where the client says itself that it is too much. */
function refuseDeclaredLength(header: string | undefined, bytesMax: number): void {
  if (header !== undefined && Number(header) > bytesMax) throw tooLarge('body', bytesMax);
}

function tooLarge(what: string, bytesMax: number): GrantscopeError {
  return new GrantscopeError(
    'body_too_large',
    `${what}: larger than allowed; at most ${bytesMax} bytes before and after decompression (GRANTSCOPE_BODY_BYTES_MAX)`,
    { stage: 'receiving' },
  );
}

function unreadable(reason: string): GrantscopeError {
  return new GrantscopeError('body_unreadable', `body: ${reason}`, { stage: 'receiving' });
}

function readRaw(request: IncomingMessage, limits: BodyLimits): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let bytes = 0;
    const settle = (outcome: GrantscopeError | undefined): void => {
      clearTimeout(timer);
      request.off('data', onData).off('end', onEnd).off('close', onClose);
      if (outcome === undefined) resolve(Buffer.concat(chunks, bytes));
      else reject(outcome);
    };
    const onData = (chunk: Buffer): void => {
      bytes += chunk.length;
      if (bytes > limits.bytesMax) settle(tooLarge('body', limits.bytesMax));
      else {
        const refusal = refusalOf(limits, chunk.length);
        if (refusal === undefined) chunks.push(chunk);
        else settle(refusal);
      }
    };
    const onEnd = (): void => settle(undefined);
    // 'close' without 'end': the connection broke. An 'error' is always followed by it.
    const onClose = (): void =>
      settle(unreadable('the connection was closed before the whole body had arrived'));
    const timer = setTimeout(() => {
      const message = `body: not complete after ${limits.deadlineMs} ms`;
      settle(new GrantscopeError('body_timeout', message, { stage: 'receiving' }));
    }, limits.deadlineMs);
    // Without a listener an aborted request would bring the process down; 'close' reports it.
    request.on('error', () => undefined);
    if (request.destroyed && !request.readableEnded) onClose();
    else request.on('data', onData).on('end', onEnd).on('close', onClose);
  });
}

/** Takes bytes of the budget; gives the error where there are none left. */
function refusalOf({ budget }: BodyLimits, bytes: number): GrantscopeError | undefined {
  try {
    budget?.take(bytes);
    return undefined;
  } catch (error) {
    if (error instanceof GrantscopeError) return error;
    throw error;
  }
}

const discarding = new WeakSet<IncomingMessage>();

/**
 * Reads the rest of a body that nobody wants and throws it away, within `DISCARD_BYTES_MAX` and
 * `DISCARD_MS_MAX`. For receivers that refuse before they read; harmless on a body that was read.
 */
export function discardBody(request: IncomingMessage): void {
  if (request.destroyed || request.readableEnded || discarding.has(request)) return;
  discarding.add(request);
  let bytes = 0;
  const cut = (): void => {
    request.destroy();
  };
  const timer = setTimeout(cut, DISCARD_MS_MAX);
  timer.unref();
  request.on('error', () => undefined);
  request.on('close', () => clearTimeout(timer));
  request.on('end', () => clearTimeout(timer));
  request.on('data', (chunk: Buffer) => {
    bytes += chunk.length;
    if (bytes > DISCARD_BYTES_MAX) cut();
  });
  request.resume();
}

/** Inflates piece by piece, so that a bomb is stopped by the limits before it is in memory. */
function inflateWithin(raw: Buffer, limits: BodyLimits): Promise<Buffer> {
  const { bytesMax } = limits;
  const chunkSize = Math.max(64, Math.min(INFLATE_CHUNK_BYTES, bytesMax));
  const inflater = createGunzip({ chunkSize });
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let bytes = 0;
    const refuse = (error: GrantscopeError): void => {
      inflater.destroy();
      reject(error);
    };
    inflater.on('data', (chunk: Buffer) => {
      bytes += chunk.length;
      if (bytes > bytesMax) {
        refuse(tooLarge('body after decompression', bytesMax));
        return;
      }
      const refusal = refusalOf(limits, chunk.length);
      if (refusal === undefined) chunks.push(chunk);
      else refuse(refusal);
    });
    inflater.on('end', () => resolve(Buffer.concat(chunks, bytes)));
    inflater.on('error', () =>
      refuse(unreadable('not valid gzip (Content-Encoding: gzip), or cut off')),
    );
    inflater.end(raw);
  });
}
