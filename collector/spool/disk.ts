import {
  open,
  mkdir,
  readdir,
  readFile,
  rename,
  rm,
  stat,
  type FileHandle,
} from 'node:fs/promises';

/**
 * The file system as the durable buffer uses it, so that a simulation can lose power, tear a write or run
 * full at any call. Durability is the caller's matter: bytes of a file are safe after `datasync`, its name,
 * a rename or a removal after `syncFolder`.
 */
export interface DiskFile {
  /** Writes at a position; may write less than asked, as write(2) does on a full disk. Returns how much. */
  write(bytes: Uint8Array, position: number): Promise<number>;
  datasync(): Promise<void>;
  truncate(length: number): Promise<void>;
  close(): Promise<void>;
}

export interface Disk {
  /** `create` fails where the file exists; `replace` empties it; `edit` needs it to exist. */
  open(path: string, how: 'create' | 'replace' | 'edit'): Promise<DiskFile>;
  /** Throws (ENOENT) where the file does not exist. */
  read(path: string): Promise<Buffer>;
  /** Names of the files and folders in a folder, sorted. */
  list(folder: string): Promise<readonly string[]>;
  size(path: string): Promise<number | undefined>;
  rename(from: string, to: string): Promise<void>;
  /** Does nothing where the file does not exist. */
  remove(path: string): Promise<void>;
  makeFolder(path: string): Promise<void>;
  syncFolder(path: string): Promise<void>;
}

class NodeFile implements DiskFile {
  readonly #handle: FileHandle;

  constructor(handle: FileHandle) {
    this.#handle = handle;
  }

  async write(bytes: Uint8Array, position: number): Promise<number> {
    return (await this.#handle.write(bytes, 0, bytes.length, position)).bytesWritten;
  }

  datasync(): Promise<void> {
    return this.#handle.datasync();
  }

  truncate(length: number): Promise<void> {
    return this.#handle.truncate(length);
  }

  close(): Promise<void> {
    return this.#handle.close();
  }
}

const OPEN_FLAGS = { create: 'wx', replace: 'w', edit: 'r+' } as const;

/** The real file system. Files are readable by their owner alone. */
export const nodeDisk: Disk = {
  open: async (path, how) => new NodeFile(await open(path, OPEN_FLAGS[how], 0o600)),
  read: (path) => readFile(path),
  list: async (folder) => (await readdir(folder)).sort(),
  size: async (path) => {
    try {
      return (await stat(path)).size;
    } catch (error) {
      if (isMissing(error)) return undefined;
      throw error;
    }
  },
  rename: (from, to) => rename(from, to),
  remove: (path) => rm(path, { force: true }),
  makeFolder: async (path) => {
    await mkdir(path, { recursive: true, mode: 0o700 });
  },
  syncFolder: async (path) => {
    const handle = await open(path, 'r');
    try {
      await handle.sync();
    } finally {
      await handle.close();
    }
  },
};

export function isMissing(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'ENOENT';
}

/** Writes all of `bytes`: a full disk takes a part first and says so only at the next call. */
export async function writeAll(file: DiskFile, bytes: Uint8Array, position: number): Promise<void> {
  for (let done = 0; done < bytes.length;) {
    const written = await file.write(done === 0 ? bytes : bytes.subarray(done), position + done);
    if (written <= 0) throw new Error('the disk took no bytes');
    done += written;
  }
}

/** Makes a file of these bytes durable, whether it existed or not; its name needs `syncFolder`. */
export async function writeWhole(disk: Disk, path: string, bytes: Uint8Array): Promise<void> {
  const file = await disk.open(path, 'replace');
  try {
    await writeAll(file, bytes, 0);
    await file.datasync();
  } finally {
    await file.close();
  }
}

/** Cuts a file to `length`, where that is given, and makes it durable as it is then. */
export async function settle(disk: Disk, path: string, length?: number): Promise<void> {
  const file = await disk.open(path, 'edit');
  try {
    if (length !== undefined) await file.truncate(length);
    await file.datasync();
  } finally {
    await file.close();
  }
}
