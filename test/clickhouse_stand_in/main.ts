import { mkdtempSync, rmSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { createRequire } from 'node:module';
import type { AddressInfo, Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import type * as ChdbConnection from 'chdb/connection';
import { Random } from '../simulation/random.ts';
import type { Command, Fault, Reply } from './faults.ts';

// A stand-in for a ClickHouse server: its HTTP interface as far as @clickhouse/client uses it, in front of the
// embedded engine, so that rows are real. It runs in a process of its own, fails as it is told to, and can be
// killed. Arguments: data directory, port (0 = any).

const [dataDir = '', portText = '0'] = process.argv.slice(2);
const { createChdbConnection } = createRequire(import.meta.url)(
  'chdb/connection',
) as typeof ChdbConnection;
const connection = createChdbConnection({ path: dataDir });
const scratch = mkdtempSync(join(tmpdir(), 'grantscope-stand-in-'));
const VERSION = '26.7.1.1';

let faults: readonly Fault[] = [];
let probability = 0;
let random = new Random(1);
const met: Record<string, number> = {};
const sockets = new Set<Socket>();
let bodies = 0;

class QueryError extends Error {
  readonly code: string;
  readonly type: string;

  constructor(code: string, type: string, message: string) {
    super(message);
    this.code = code;
    this.type = type;
  }

  /** As the server words it. */
  get text(): string {
    return `Code: ${this.code}. DB::Exception: ${this.message} (${this.type}) (version ${VERSION} (official build))\n`;
  }
}

interface Statement {
  readonly query: string;
  readonly params: Readonly<Record<string, string>>;
  readonly format: string;
  readonly body: Buffer | undefined;
}

const server = createServer({ maxHeaderSize: 1_048_576 }, (request, response) => {
  handle(request, response).catch((error: unknown) => {
    process.stderr.write(`stand-in: ${String(error)}\n`);
    response.destroy();
  });
});
server.on('connection', (socket) => {
  sockets.add(socket);
  socket.on('close', () => sockets.delete(socket));
});

async function handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const url = new URL(request.url ?? '/', 'http://127.0.0.1');
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  const fault = nextFault();
  if (fault === 'reset_before') {
    request.socket.destroy();
    return;
  }
  if (fault === 'unavailable') {
    response.writeHead(503, { 'Content-Type': 'text/html' }).end('<h1>Service Unavailable</h1>');
    return;
  }
  if (url.pathname === '/ping') {
    response.writeHead(200).end('Ok.\n');
    return;
  }
  const queryId = url.searchParams.get('query_id') ?? '';
  const memory = new QueryError('241', 'MEMORY_LIMIT_EXCEEDED', 'Memory limit (total) exceeded.');
  if (fault === 'exception') {
    refuse(response, memory, queryId);
    return;
  }
  if (fault === 'lying_200') {
    response.writeHead(200, { 'X-ClickHouse-Query-Id': queryId }).end(memory.text);
    return;
  }
  let result: Buffer;
  try {
    result = await execute(readStatement(url, request, Buffer.concat(chunks)));
  } catch (error) {
    if (!(error instanceof QueryError)) throw error;
    refuse(response, error, queryId);
    return;
  }
  if (fault === 'no_answer') return;
  if (fault === 'reset_after') {
    request.socket.destroy();
    return;
  }
  if (fault === 'half_closed') {
    request.socket.end();
    return;
  }
  if (fault === 'slow') await new Promise((resolve) => setTimeout(resolve, random.int(50, 1_500)));
  answer(request, response, result, queryId, fault === 'cut_answer');
}

function nextFault(): Fault | undefined {
  if (!random.chance(probability)) return undefined;
  const fault = random.pick(faults);
  met[fault] = (met[fault] ?? 0) + 1;
  return fault;
}

function answer(
  request: IncomingMessage,
  response: ServerResponse,
  result: Buffer,
  queryId: string,
  isCut: boolean,
): void {
  const wantsGzip = request.headers['accept-encoding']?.includes('gzip') === true;
  const body = wantsGzip ? gzipSync(result) : result;
  response.writeHead(200, {
    'Content-Type': 'text/tab-separated-values; charset=UTF-8',
    'X-ClickHouse-Server-Display-Name': 'stand-in',
    'X-ClickHouse-Query-Id': queryId,
    'X-ClickHouse-Timezone': 'UTC',
    'X-ClickHouse-Summary': '{"read_rows":"0","written_rows":"0","elapsed_ns":"1"}',
    ...(wantsGzip ? { 'Content-Encoding': 'gzip' } : {}),
    ...(isCut ? { 'Content-Length': String(body.length + 1) } : {}),
  });
  if (!isCut) {
    response.end(body);
    return;
  }
  response.write(body.subarray(0, Math.floor(body.length / 2)), () => request.socket.destroy());
}

function refuse(response: ServerResponse, error: QueryError, queryId: string): void {
  response.writeHead(error.type === 'UNKNOWN_TABLE' ? 404 : 500, {
    'X-ClickHouse-Query-Id': queryId,
    'X-ClickHouse-Exception-Code': error.code,
    'Content-Type': 'text/plain; charset=UTF-8',
  });
  response.end(error.text);
}

/** The query is the body, or the address holds it and the body is data, or both are parts of a form. */
function readStatement(url: URL, request: IncomingMessage, body: Buffer): Statement {
  const params: Record<string, string> = {};
  const take = (entries: Iterable<readonly [string, string]>): void => {
    for (const [name, value] of entries)
      if (name.startsWith('param_')) params[name.slice('param_'.length)] = value;
  };
  take(url.searchParams);
  const format = url.searchParams.get('default_format') ?? 'TabSeparated';
  const inAddress = url.searchParams.get('query');
  if (inAddress !== null) return { query: inAddress, params, format, body };
  const boundary = /^multipart\/form-data; boundary=(.+)$/.exec(
    request.headers['content-type'] ?? '',
  )?.[1];
  if (boundary === undefined)
    return { query: body.toString('utf8'), params, format, body: undefined };
  const parts = partsOf(body.toString('utf8'), boundary);
  take(parts);
  return { query: parts.get('query') ?? '', params, format, body: undefined };
}

function partsOf(text: string, boundary: string): Map<string, string> {
  const parts = new Map<string, string>();
  for (const part of text.split(`--${boundary}`)) {
    const found = /^\r\nContent-Disposition: form-data; name="([^"]+)"\r\n\r\n([^]*)\r\n$/.exec(
      part,
    );
    if (found !== null) parts.set(found[1]!, found[2]!);
  }
  return parts;
}

const INSERT_WITH_BODY = /^\s*(INSERT INTO\s+(\S+)\s*\(([^)]*)\)[^]*?)\s+FORMAT\s+(\w+)\s*$/;

async function execute({ query, params, format, body }: Statement): Promise<Buffer> {
  if (body === undefined) return run(query, params, format);
  const insert = INSERT_WITH_BODY.exec(query);
  if (insert === null)
    throw new QueryError('62', 'SYNTAX_ERROR', 'the stand-in knows no such insert');
  const [, head = '', table = '', columns = '', bodyFormat = ''] = insert;
  if (body.length === 0) return Buffer.alloc(0);
  // The engine in a process takes data from a file.
  bodies += 1;
  const file = join(scratch, `${bodies}.data`);
  await writeFile(file, body, { mode: 0o600 });
  try {
    const structure =
      bodyFormat === 'Native'
        ? ''
        : `, '${(await structureOf(table, columns)).replaceAll("'", "\\'")}'`;
    return await run(
      `${head} SELECT ${columns} FROM file('${file}', '${bodyFormat}'${structure})`,
      params,
      format,
    );
  } finally {
    rmSync(file, { force: true });
  }
}

async function structureOf(table: string, columns: string): Promise<string> {
  const [database = '', name = ''] = table.replaceAll('`', '').split('.');
  const text = await run(
    `SELECT name, type FROM system.columns WHERE database = '${database}' AND table = '${name}'`,
    {},
    'TSVRaw',
  );
  const types = new Map(
    text
      .toString('utf8')
      .trim()
      .split('\n')
      .map((line) => line.split('\t') as [string, string]),
  );
  return columns
    .split(',')
    .map((column) => column.trim().replaceAll('`', ''))
    .map((column) => `\`${column}\` ${types.get(column) ?? 'String'}`)
    .join(', ');
}

async function run(
  query: string,
  params: Readonly<Record<string, string>>,
  format: string,
): Promise<Buffer> {
  const query_params = Object.fromEntries(
    Object.entries(params).map(([name, value]) => [name, bound(name, value, query)]),
  );
  try {
    const { stream } = await connection.query({
      query,
      query_params,
      clickhouse_settings: { default_format: format } as Record<string, string>,
    });
    const chunks: Buffer[] = [];
    for await (const chunk of stream) chunks.push(chunk as Buffer);
    return Buffer.concat(chunks);
  } catch (error) {
    const { code, type, message } = error as { code?: string; type?: string; message?: string };
    throw new QueryError(code ?? '1002', type ?? 'UNKNOWN_EXCEPTION', message ?? String(error));
  }
}

const ESCAPES: Readonly<Record<string, string>> = {
  '0': '\0',
  b: '\b',
  f: '\f',
  n: '\n',
  r: '\r',
  t: '\t',
};

/**
 * A parameter arrives as the server reads it: text escaped as in TabSeparated, lists of quoted texts. The
 * engine's binding writes them again, from values.
 */
function bound(name: string, text: string, query: string): string | string[] {
  if (!query.includes(`{${name}:Array(`)) return unescaped(text);
  return [...text.matchAll(/'((?:[^'\\]|\\[^])*)'/g)].map(([, item]) => unescaped(item!));
}

function unescaped(text: string): string {
  return text.replace(/\\([^])/g, (_all, c: string) => ESCAPES[c] ?? c);
}

function reply(): void {
  const { port } = (server.address() as AddressInfo | null) ?? { port: lastPort };
  lastPort = port;
  process.send?.({ port, met } satisfies Reply);
}

let lastPort = Number(portText);
process.on('message', (command: Command) => {
  if (command.do === 'fault') {
    ({ faults, probability } = command);
    random = new Random(command.seed);
    reply();
  } else if (command.do === 'away') {
    server.close(() => reply());
    for (const socket of sockets) socket.destroy();
  } else server.listen(lastPort, '127.0.0.1', reply);
});
process.on('disconnect', () => {
  rmSync(scratch, { recursive: true, force: true });
  process.exit(0);
});
server.listen(lastPort, '127.0.0.1', reply);
