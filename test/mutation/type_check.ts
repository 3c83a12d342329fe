import { readFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';

const CONFIG = fileURLToPath(new URL('../../tsconfig.json', import.meta.url));

/** What is declared and not used (any more) is no type error. */
const UNUSED = [6133, 6192, 6196, 6198];

/**
 * Tells whether a changed source passes the compiler. What does not is stopped before any example: mostly a guard without
 * which a value could be undefined. Takes about a second a source.
 */
export class TypeCheck {
  readonly #file: string;
  readonly #service: ts.LanguageService;
  #text = '';
  #version = 0;

  constructor(file: string) {
    this.#file = file;
    const { config } = ts.readConfigFile(CONFIG, (path) => readFileSync(path, 'utf8')) as {
      config: unknown;
    };
    const { options } = ts.parseJsonConfigFileContent(config, ts.sys, dirname(CONFIG));
    this.#service = ts.createLanguageService({
      getCompilationSettings: () => ({ ...options, noEmit: true }),
      getScriptFileNames: () => [file],
      getScriptVersion: (name) => (name === file ? String(this.#version) : '0'),
      getScriptSnapshot: (name) => {
        if (name === file) return ts.ScriptSnapshot.fromString(this.#text);
        const text = ts.sys.readFile(name);
        return text === undefined ? undefined : ts.ScriptSnapshot.fromString(text);
      },
      getCurrentDirectory: () => dirname(CONFIG),
      getDefaultLibFileName: (o) => ts.getDefaultLibFilePath(o),
      fileExists: (name) => ts.sys.fileExists(name),
      readFile: (name) => ts.sys.readFile(name),
      directoryExists: (name) => ts.sys.directoryExists(name),
      getDirectories: (name) => ts.sys.getDirectories(name),
    });
  }

  passes(text: string): boolean {
    this.#text = text;
    this.#version += 1;
    const problems = this.#service.getSemanticDiagnostics(this.#file);
    return problems.every((p) => UNUSED.includes(p.code));
  }
}
