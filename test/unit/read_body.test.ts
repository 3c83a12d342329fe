/** `readBody` behind a real server: what arrives over a socket, in whatever state, ends in a buffer or a named error. */
import { once } from 'node:events';
import { createServer, request as httpRequest, type Server } from 'node:http';
import { connect, type AddressInfo, type Socket } from 'node:net';
import { gzipSync } from 'node:zlib';
import { afterEach, describe, expect, test } from 'vitest';
import { httpAnswerOf } from '../../collector/receivers/http_status.ts';
import {
  DISCARD_BYTES_MAX,
  readBody,
  type BodyLimits,
} from '../../collector/receivers/read_body.ts';
import { GrantscopeError } from '../../runtime/errors.ts';

const LIMITS: BodyLimits = { bytesMax: 1_000, deadlineMs: 5_000 };

interface Outcome {
  readonly body?: Buffer;
  readonly code?: string;
  readonly message?: string;
}

interface Running {
  readonly server: Server;
  readonly port: number;
  /** What `readBody` came to, request by request. */
  readonly next: () => Promise<Outcome>;
}

const servers: Server[] = [];
const sockets: Socket[] = [];
afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.destroy();
  for (const server of servers.splice(0)) {
    server.closeAllConnections();
    server.close();
    await once(server, 'close');
  }
});

/** Answers with the length of the body, or with the status of the error. */
async function start(limits: BodyLimits = LIMITS): Promise<Running> {
  const outcomes: Outcome[] = [];
  const waiting: ((outcome: Outcome) => void)[] = [];
  const report = (outcome: Outcome): void => {
    const waiter = waiting.shift();
    if (waiter === undefined) outcomes.push(outcome);
    else waiter(outcome);
  };
  const server = createServer((request, response) => {
    readBody(request, limits).then(
      (body) => {
        report({ body });
        response.end(String(body.length));
      },
      (error: unknown) => {
        if (!(error instanceof GrantscopeError)) throw error;
        report({ code: error.code, message: error.message });
        response.writeHead(httpAnswerOf(error).status).end(error.code);
      },
    );
  });
  servers.push(server);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  return {
    server,
    port,
    next: () =>
      new Promise((resolve) => {
        const outcome = outcomes.shift();
        if (outcome === undefined) waiting.push(resolve);
        else resolve(outcome);
      }),
  };
}

interface Answer {
  readonly status: number;
  readonly text: string;
}

function post(port: number, body: Buffer, headers: Record<string, string> = {}): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const request = httpRequest(
      { host: '127.0.0.1', port, method: 'POST', headers, agent: false },
      (response) => {
        const chunks: Buffer[] = [];
        response.on('data', (c: Buffer) => chunks.push(c));
        response.on('end', () =>
          resolve({ status: response.statusCode ?? 0, text: Buffer.concat(chunks).toString() }),
        );
      },
    );
    request.on('error', reject);
    request.end(body);
  });
}

/** A socket on which the test writes HTTP by hand. */
async function open(port: number): Promise<Socket> {
  const socket = connect({ host: '127.0.0.1', port, allowHalfOpen: true });
  sockets.push(socket);
  socket.on('error', () => undefined);
  await once(socket, 'connect');
  return socket;
}

const GZIP = { 'Content-Encoding': 'gzip' };

describe('codings', () => {
  test.each([
    ['none', {}, Buffer.from('plain')],
    ['identity', { 'Content-Encoding': 'identity' }, Buffer.from('plain')],
    ['gzip', GZIP, gzipSync('plain')],
    ['GZIP in capitals', { 'Content-Encoding': ' GZIP ' }, gzipSync('plain')],
    ['x-gzip', { 'Content-Encoding': 'x-gzip' }, gzipSync('plain')],
    ['two gzip members', GZIP, Buffer.concat([gzipSync('pl'), gzipSync('ain')])],
  ])('%s', async (_name, headers, sent) => {
    const { port, next } = await start();
    expect(await post(port, sent, headers)).toEqual({ status: 200, text: '5' });
    expect((await next()).body?.toString()).toBe('plain');
  });

  test.each(['deflate', 'br', 'zstd', 'gzip, gzip'])('%s is refused with 415', async (coding) => {
    const { port, next } = await start();
    const answer = await post(port, Buffer.from('x'), { 'Content-Encoding': coding });
    expect(answer).toEqual({ status: 415, text: 'unsupported_encoding' });
    expect(await next()).toEqual({
      code: 'unsupported_encoding',
      message: 'Content-Encoding: this coding is not supported; allowed: identity, gzip',
    });
  });

  test.each([
    ['no body', {}],
    ['no body, said to be gzip', GZIP],
  ])('%s is an empty buffer', async (_name, headers) => {
    const { port, next } = await start();
    expect(await post(port, Buffer.alloc(0), headers)).toEqual({ status: 200, text: '0' });
    expect((await next()).body).toEqual(Buffer.alloc(0));
  });

  test.each([
    ['no gzip at all', Buffer.from('plain text')],
    ['cut off', gzipSync('plain text'.repeat(50)).subarray(0, -9)],
    ['a wrong checksum', flipped(gzipSync('plain text'), -6)],
  ])('gzip that is %s is refused with 400', async (_name, sent) => {
    const { port, next } = await start();
    expect(await post(port, sent, GZIP)).toEqual({ status: 400, text: 'body_unreadable' });
    expect((await next()).message).toBe(
      'body: not valid gzip (Content-Encoding: gzip), or cut off',
    );
  });
});

describe('size', () => {
  test('as many bytes as allowed are read, one more is refused', async () => {
    const { port } = await start();
    expect((await post(port, Buffer.alloc(1_000))).status).toBe(200);
    expect(await post(port, Buffer.alloc(1_001))).toEqual({ status: 413, text: 'body_too_large' });
  });

  test('the same after decompression, without and with a declared length', async () => {
    const { port, next } = await start();
    expect((await post(port, gzipSync(Buffer.alloc(1_000)), GZIP)).status).toBe(200);
    await next();
    const chunked = { ...GZIP, 'Transfer-Encoding': 'chunked' };
    expect((await post(port, gzipSync(Buffer.alloc(1_001)), chunked)).status).toBe(413);
    expect((await next()).message).toBe(
      'body after decompression: larger than allowed; at most 1000 bytes before and after decompression (GRANTSCOPE_BODY_BYTES_MAX)',
    );
  });

  test('a body without a declared length is counted as it comes', async () => {
    const { port } = await start();
    const chunked = { 'Transfer-Encoding': 'chunked' };
    expect((await post(port, Buffer.alloc(1_000), chunked)).status).toBe(200);
    expect((await post(port, Buffer.alloc(1_001), chunked)).status).toBe(413);
  });

  test('a gzip bomb of 200 MB costs no more memory than the limit', async () => {
    const bytesMax = 1024 * 1024;
    const { port } = await start({ bytesMax, deadlineMs: 5_000 });
    const bomb = gzipSync(Buffer.alloc(200 * bytesMax));
    const before = process.memoryUsage().arrayBuffers;
    expect(bomb.length).toBeLessThan(bytesMax);
    const answer = await post(port, bomb, GZIP);
    expect(answer).toEqual({ status: 413, text: 'body_too_large' });
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(10 * bytesMax);
  });

  test('a client that sends far too much still gets to read the answer', async () => {
    const { port } = await start();
    const answer = await post(port, Buffer.alloc(8 * 1024 * 1024));
    expect(answer).toEqual({ status: 413, text: 'body_too_large' });
  });

  test('after a refusal the connection serves the next request', async () => {
    const { port } = await start();
    const socket = await open(port);
    socket.write(`POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2000\r\n\r\n${'x'.repeat(2_000)}`);
    socket.write('POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nok');
    const answers = await readUntil(socket, (text) => text.split('HTTP/1.1 ').length === 3);
    expect(answers).toContain('HTTP/1.1 413');
    expect(answers).toContain('HTTP/1.1 200');
  });

  test('a client that never stops sending is cut off', async () => {
    const { port, next } = await start();
    const socket = await open(port);
    socket.write('POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n');
    const chunk = `100000\r\n${'x'.repeat(0x100000)}\r\n`;
    let sent = 0;
    const pump = (): void => {
      while (!socket.destroyed && socket.writable) {
        sent += 0x100000;
        if (!socket.write(chunk)) break;
      }
    };
    socket.on('drain', pump);
    // Not `once`: the reset is an error event first.
    const closed = new Promise((resolve) => socket.on('close', resolve));
    pump();
    expect((await next()).code).toBe('body_too_large');
    await closed;
    // What the socket buffers on its way comes on top of what is discarded.
    expect(sent).toBeLessThan(DISCARD_BYTES_MAX + 64 * 1024 * 1024);
  });
});

describe('slow and broken clients', () => {
  test('a body that does not come within the deadline is 408', async () => {
    const { port, next } = await start({ bytesMax: 1_000, deadlineMs: 100 });
    const socket = await open(port);
    socket.write('POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf');
    expect(await next()).toEqual({
      code: 'body_timeout',
      message: 'body: not complete after 100 ms',
    });
    expect(await readUntil(socket, (text) => text.includes('body_timeout'))).toContain(
      'HTTP/1.1 408 Request Timeout',
    );
  });

  test('a client that trickles is not given more time for it', async () => {
    const { port, next } = await start({ bytesMax: 1_000, deadlineMs: 200 });
    const socket = await open(port);
    socket.write('POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 900\r\n\r\n');
    const trickle = setInterval(() => {
      if (socket.writable) socket.write('x');
    }, 20);
    try {
      expect((await next()).code).toBe('body_timeout');
    } finally {
      clearInterval(trickle);
    }
  });

  test('a client that goes away in the middle is 400, and the server lives on', async () => {
    const { port, next } = await start();
    const socket = await open(port);
    socket.write('POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf');
    socket.destroy();
    expect(await next()).toEqual({
      code: 'body_unreadable',
      message: 'body: the connection was closed before the whole body had arrived',
    });
    expect((await post(port, Buffer.from('ok'))).status).toBe(200);
  });

  test('a half-open connection (the client closed its side in the middle) is 400', async () => {
    const { port, next } = await start();
    const socket = await open(port);
    socket.write('POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf');
    socket.end();
    expect((await next()).code).toBe('body_unreadable');
  });
});

function flipped(bytes: Buffer, offset: number): Buffer {
  const result = Buffer.from(bytes);
  const at = result.length + offset;
  result[at] = (result[at] ?? 0) ^ 0xff;
  return result;
}

function readUntil(socket: Socket, isEnough: (text: string) => boolean): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = '';
    socket.on('data', (chunk: Buffer) => {
      text += chunk.toString('latin1');
      if (isEnough(text)) resolve(text);
    });
    socket.on('close', () => reject(new Error(`closed after: ${text.slice(0, 200)}`)));
  });
}
