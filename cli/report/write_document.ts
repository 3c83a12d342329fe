import { writeFileSync } from 'node:fs';
import { GrantscopeError, messageOf } from '../../runtime/errors.ts';

/** Writes a document where `--out` says, readable by its owner alone, else to standard output. */
export function writeDocument(text: string, file: string | undefined): void {
  if (file === undefined) {
    process.stdout.write(text);
    return;
  }
  try {
    writeFileSync(file, text, { mode: 0o600 });
  } catch (error) {
    throw new GrantscopeError('invalid_argument', `--out ${file}: ${messageOf(error)}`);
  }
}

/** A value as `--format json` prints it. */
export function jsonText(value: unknown): string {
  return `${JSON.stringify(value, null, 2)}\n`;
}
