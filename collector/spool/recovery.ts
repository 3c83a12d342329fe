import { join } from 'node:path';
import { GrantscopeError } from '../../runtime/errors.ts';
import { settle, writeWhole, type Disk } from './disk.ts';
import {
  decodeJournal,
  formatOf,
  JOURNAL_FORMAT,
  type JournalContent,
  type JournalFrame,
  type TableExtent,
} from './journal.ts';
import {
  dataFile,
  doneFile,
  isGood,
  journalFile,
  readOrEmpty,
  removeData,
  SEGMENT_TABLES,
  SealedSegment,
  shortName,
  type Damage,
  type SealedTable,
  type SegmentTable,
} from './segment.ts';

/** A segment on its way back from the disk. */
interface Found {
  readonly id: string;
  readonly journal: JournalContent;
  readonly journalLength: number;
  readonly frames: readonly JournalFrame[];
  /** Something behind the frames was written by halves. */
  readonly isTorn: boolean;
}

/** What a start found wrong in a segment that an earlier process left. */
export interface RecoveryDamage {
  readonly segment: string;
  /** Undefined where the journal itself is damaged. */
  readonly table: SegmentTable | undefined;
  readonly bytes: number;
  /** Known rows; a stretch that no journal frame describes counts none. */
  readonly rows: number;
}

export interface Recovered {
  /** Oldest first. */
  readonly segments: readonly SealedSegment[];
  readonly damage: readonly RecoveryDamage[];
  /** Bytes of torn ends, most likely never acknowledged, that were put into quarantine. */
  readonly tornBytes: number;
}

/** The journals in a folder, of segments that wait (`journal`) and that are stored (`done`), sorted by age. */
export function idsIn(files: readonly string[], ending: '.journal' | '.done'): readonly string[] {
  return files.filter((f) => f.endsWith(ending)).map((f) => f.slice(0, -ending.length));
}

/** The content hashes in the journal of a stored segment. */
export async function requestsOfDone(
  disk: Disk,
  folder: string,
  id: string,
): Promise<readonly string[]> {
  const { frames } = decodeJournal(await disk.read(doneFile(folder, id)));
  return frames.flatMap((f) => f.requests);
}

/**
 * Takes over the segments that an earlier process left.
 *
 * - Bytes behind the last good frame were never acknowledged and are cut off. So is the last frame when a block
 *   of it is not what it says: its fsyncs did not all end, and its requests must not be taken for known. What
 *   is cut off behind half a frame or with one is kept in quarantine, because a flipped byte looks the same.
 * - The last frame of a segment may be of a commit that failed: its requests were refused, yet its bytes reached
 *   the disk. When a request of it was acknowledged later (it is in another segment, or `isStored`), the frame
 *   is dropped: none of its requests was acknowledged in it.
 * - A block whose checksum is wrong goes to quarantine, and the rest goes on.
 * - What counts is fsynced: a process that was killed may have written it and not come to that.
 *
 * Throws `spool_corrupt` for a format of a later version, before it changes anything.
 */
export async function recoverSegments(
  disk: Disk,
  folder: string,
  quarantine: string,
  isStored: (hash: string) => boolean,
): Promise<Recovered> {
  const files = await disk.list(folder);
  const found: Found[] = [];
  for (const id of idsIn(files, '.journal')) found.push(await readJournal(disk, folder, id));
  await removeOrphans(disk, folder, files);
  const segments: SealedSegment[] = [];
  const damage: RecoveryDamage[] = [];
  let tornBytes = 0;
  for (const f of withoutFailedCommits(found, isStored)) {
    const { segment, ...rest } = await recover(disk, folder, quarantine, f);
    damage.push(...rest.damage);
    tornBytes += rest.tornBytes;
    if (segment.tables.length === 0 && segment.requests.length === 0) await segment.discard();
    else segments.push(segment);
  }
  return { segments, damage, tornBytes };
}

async function readJournal(disk: Disk, folder: string, id: string): Promise<Found> {
  const bytes = await disk.read(journalFile(folder, id));
  const format = formatOf(bytes);
  if (format > JOURNAL_FORMAT) {
    throw new GrantscopeError(
      'spool_corrupt',
      `${journalFile(folder, id)} has format ${format}, and this version reads up to ${JOURNAL_FORMAT}: start the version that wrote it until the durable buffer is empty, or move the folder away`,
      { stage: 'starting' },
    );
  }
  const journal = decodeJournal(bytes);
  const { frames, notes } = journal;
  if (frames.some((f) => f.extents.some((e) => e.table >= SEGMENT_TABLES.length))) {
    throw new GrantscopeError(
      'spool_corrupt',
      `${journalFile(folder, id)} has rows of a table that this version does not know: start the version that wrote it until the durable buffer is empty, or move the folder away`,
      { stage: 'starting' },
    );
  }
  // Once a segment has notes it was handed to the writer, and its frames are settled.
  const isHalf = notes.length === 0 && !(await isLastWhole(disk, folder, id, frames));
  return {
    id,
    journal,
    journalLength: bytes.length,
    frames: isHalf ? frames.slice(0, -1) : frames,
    isTorn: isHalf || bytes.length > journal.end,
  };
}

/** True where the blocks of the last frame are what it says. */
async function isLastWhole(
  disk: Disk,
  folder: string,
  id: string,
  frames: readonly JournalFrame[],
): Promise<boolean> {
  for (const extent of frames.at(-1)?.extents ?? []) {
    const table = SEGMENT_TABLES[extent.table];
    if (table === undefined) return false;
    const content = await readOrEmpty(disk, dataFile(folder, id, table));
    const bytes = content.subarray(extent.offset, extent.offset + extent.length);
    if (!isGood({ extent, bytes })) return false;
  }
  return true;
}

/** Data is created after its journal and removed after it: without one it is stored, or empty. */
async function removeOrphans(disk: Disk, folder: string, files: readonly string[]): Promise<void> {
  const known = new Set(idsIn(files, '.journal'));
  const orphans = files.filter((f) => f.includes('.native')).map((f) => f.split('.')[0] ?? '');
  for (const id of new Set(orphans)) if (!known.has(id)) await removeData(disk, folder, id);
  for (const file of files.filter((f) => f.endsWith('.native.kept')))
    await disk.remove(join(folder, file));
}

function withoutFailedCommits(
  found: readonly Found[],
  isStored: (hash: string) => boolean,
): readonly Found[] {
  /** Request to the segments that hold it, oldest first. */
  const holders = new Map<string, string[]>();
  for (const { id, frames } of found) {
    for (const hash of frames.flatMap((f) => f.requests)) {
      const ids = holders.get(hash);
      if (ids === undefined) holders.set(hash, [id]);
      else ids.push(id);
    }
  }
  return found.map((segment) => {
    const last = segment.frames.at(-1);
    const isElsewhere = (hash: string): boolean =>
      isStored(hash) || holders.get(hash)?.at(-1) !== segment.id;
    // Once a segment has notes it was handed to the writer, and its frames are settled.
    const isFailed =
      segment.journal.notes.length === 0 && last?.requests.some(isElsewhere) === true;
    return isFailed ? { ...segment, frames: segment.frames.slice(0, -1) } : segment;
  });
}

async function recover(
  disk: Disk,
  folder: string,
  quarantine: string,
  found: Found,
): Promise<{
  segment: SealedSegment;
  damage: readonly RecoveryDamage[];
  tornBytes: number;
}> {
  const { id, journal, frames } = found;
  const damage: RecoveryDamage[] = [];
  let tornBytes = 0;
  if (journal.damagedBytes > 0)
    damage.push({ segment: id, table: undefined, bytes: journal.damagedBytes, rows: 0 });
  const tables: SealedTable[] = [];
  for (const table of SEGMENT_TABLES) {
    const recovered = await recoverTable(disk, folder, quarantine, found, table);
    if (recovered.table !== undefined) tables.push(recovered.table);
    tornBytes += recovered.tornBytes;
    if (recovered.lostBytes > 0)
      damage.push({ segment: id, table, bytes: recovered.lostBytes, rows: 0 });
  }
  const length = frames.length < journal.frames.length ? lengthOf(found) : journal.end;
  await settle(disk, journalFile(folder, id), found.journalLength > length ? length : undefined);
  const segment = new SealedSegment({
    id,
    folder,
    disk,
    tables,
    requests: frames.flatMap((f) => f.requests),
    journalBytes: length,
    isScreened: journal.notes.some((n) => n.kind === 'screened'),
  });
  for (const bad of await segment.leaveOutDamaged()) {
    await writeWhole(disk, join(quarantine, damagedName(id, bad)), bad.bytes);
    damage.push({ segment: id, table: bad.table, bytes: bad.bytes.length, rows: bad.rows });
  }
  return { segment, damage, tornBytes };
}

/** Cuts a table's file to what its journal says; what is cut although it may count goes to quarantine. */
async function recoverTable(
  disk: Disk,
  folder: string,
  quarantine: string,
  found: Found,
  table: SegmentTable,
): Promise<{ table: SealedTable | undefined; tornBytes: number; lostBytes: number }> {
  const { id, journal, frames } = found;
  const index = SEGMENT_TABLES.indexOf(table);
  const path = dataFile(folder, id, table);
  const notes = journal.notes.filter((n) => n.table === index);
  if (notes.some((n) => n.kind === 'quarantined')) {
    if ((await disk.size(path)) !== undefined)
      await disk.rename(path, join(quarantine, `${id}.${shortName(table)}.native`));
    return { table: undefined, tornBytes: 0, lostBytes: 0 };
  }
  const extents = frames.flatMap((f) => f.extents.filter((e) => e.table === index));
  const content = await readOrEmpty(disk, path);
  const end = extents.reduce((max, e) => Math.max(max, e.offset + e.length), 0);
  const putAside = async (from: number, to: number): Promise<number> => {
    const bytes = content.subarray(from, to);
    const name = `${id}.${shortName(table)}.${from}.stray`;
    if (bytes.length > 0) await writeWhole(disk, join(quarantine, name), bytes);
    return bytes.length;
  };
  const gaps = gapsIn(extents);
  let lostBytes = 0;
  for (const [from, to] of gaps) lostBytes += await putAside(from, to);
  const tornBytes = found.isTorn ? await putAside(end, content.length) : 0;
  if (content.length > 0) await settle(disk, path, content.length > end ? end : undefined);
  if (extents.length === 0) return { table: undefined, tornBytes, lostBytes };
  const skipped = notes.flatMap((n) => n.rows);
  const isWhole = skipped.length === 0 && gaps.length === 0;
  return { table: { table, extents, skipped, isWhole }, tornBytes, lostBytes };
}

/** Where the damaged block of a segment is put. */
export function damagedName(id: string, { table, offset }: Damage): string {
  return `${id}.${shortName(table)}.${offset}.damaged`;
}

/** Where the journal ends without its last frame: a journal with notes never loses one. */
function lengthOf({ journal, frames }: Found): number {
  return journal.frameEnds[frames.length - 1] ?? 0;
}

/** Stretches between extents: their frame was damaged. */
function gapsIn(extents: readonly TableExtent[]): readonly (readonly [number, number])[] {
  let end = 0;
  return extents.flatMap((e) => {
    const gap = [end, e.offset] as const;
    end = e.offset + e.length;
    return gap[1] > gap[0] ? [gap] : [];
  });
}
