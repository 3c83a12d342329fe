import { open, type FileHandle } from 'node:fs/promises';
import type { SourceDefinition } from '../../model/define_source.ts';
import { GrantscopeError } from '../../runtime/errors.ts';
import { isGzip, isWholeDocument, readBytes } from '../analyze/read_pieces.ts';
import { FINGERPRINT_BYTES, type FileIdentity } from './import_state.ts';

/** Bytes that tell whether a file is lines or one document. */
const SNIFFED_BYTES = 64 * 1024;

/** A file as it lies there now. */
export interface FoundFile extends FileIdentity {
  /** Bytes, as packed. */
  readonly size: number;
  readonly isGzip: boolean;
}

/** Looks at a file. Throws `invalid_argument` where it cannot be read or is no file. */
export async function identify(path: string): Promise<FoundFile> {
  try {
    const handle = await open(path, 'r');
    try {
      return await identifyOpen(path, handle);
    } finally {
      await handle.close();
    }
  } catch (error) {
    if (error instanceof GrantscopeError) throw error;
    const code = (error as NodeJS.ErrnoException).code ?? 'unreadable';
    throw new GrantscopeError('invalid_argument', `${path}: cannot be read (${code})`);
  }
}

export async function identifyOpen(path: string, handle: FileHandle): Promise<FoundFile> {
  const stat = await handle.stat();
  if (!stat.isFile())
    throw new GrantscopeError(
      'invalid_argument',
      `${path}: is no file; allowed: files, and - for standard input`,
    );
  const begin = await readAt(handle, 0, FINGERPRINT_BYTES);
  const { dev, ino, size } = stat;
  const packed = isGzip(begin);
  return {
    path,
    dev,
    ino,
    size,
    isGzip: packed,
    begin: packed ? await unpackedBegin(path) : begin,
  };
}

/** True where a file has to be read as a whole: one JSON document over several lines, or an array. */
export async function isDocument(handle: FileHandle, source: SourceDefinition): Promise<boolean> {
  const begin = await readAt(handle, 0, SNIFFED_BYTES);
  const text = begin.subarray(0, begin.lastIndexOf(0x0a) + 1);
  return text.length > 0 && isWholeDocument(text, source);
}

async function readAt(handle: FileHandle, position: number, length: number): Promise<Buffer> {
  const buffer = Buffer.alloc(length);
  let at = 0;
  while (at < length) {
    const { bytesRead } = await handle.read(buffer, at, length - at, position + at);
    if (bytesRead === 0) break;
    at += bytesRead;
  }
  return buffer.subarray(0, at);
}

async function unpackedBegin(path: string): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of readBytes(path, () => undefined)) {
    chunks.push(chunk);
    bytes += chunk.length;
    if (bytes >= FINGERPRINT_BYTES) break;
  }
  return Buffer.concat(chunks).subarray(0, FINGERPRINT_BYTES);
}
