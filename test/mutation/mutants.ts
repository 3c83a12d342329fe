import ts from 'typescript';

/** One small change to a rule's source. */
export interface Mutant {
  /** Where and what, in a form that holds when other lines change: `evaluate: a < b -> a <= b`. */
  readonly name: string;
  /** 1-based. */
  readonly line: number;
  readonly before: string;
  readonly after: string;
  readonly start: number;
  readonly end: number;
  /** False where the change reaches the rule's `evaluate` alone: then no database is needed to judge it. */
  readonly needsEngine: boolean;
  /** True where a comparison with undefined changed or went away: types may depend on it. */
  readonly mayBreakTypes: boolean;
}

/** Properties of a definition that decide what a backtest finds. */
const EXACT_PARTS = ['parameters', 'lookbackMs', 'facts', 'follow'];
/**
 * Queries that may give too much, since `evaluate` decides: for them only a change that gives less is a fault.
 */
const GENEROUS_PARTS = ['candidates', 'history'];
const ENGINE_PARTS = [...EXACT_PARTS, ...GENEROUS_PARTS];
const LOGIC_PARTS = [...ENGINE_PARTS, 'evaluate'];

/**
 * Text for people, and figures beside it, that examples don't state: `confidence`, `summary`, `reasons`. And what findings,
 * and problems of parameters, point to.
 */
const UNSTATED = ['confidence', 'summary', 'reasons', 'events', 'tokenRefs', 'path'];

/** A rule's source with a mutant's change. */
export function changed(source: string, mutant: Mutant): string {
  return source.slice(0, mutant.start) + mutant.after + source.slice(mutant.end);
}

/** All mutants of a rule, in the order of its source. */
export function mutantsOf(fileName: string, source: string): Mutant[] {
  const file = ts.createSourceFile(fileName, source, ts.ScriptTarget.ES2022, true);
  const { logic, engine, exact } = reach(file);
  const mutants: Mutant[] = [];
  for (const root of logic) {
    const mayWiden = exact.has(root);
    const unstated = unstatedNames(root);
    const visit = (node: ts.Node): void => {
      if (isUnstated(node) || ts.isTypeNode(node)) return;
      if (isLimit(node)) return;
      if (ts.isVariableDeclaration(node) && unstated.has(node.name.getText())) return;
      for (const { target, text, label } of changesOf(node, mayWiden)) {
        const start = target.getStart(file);
        const before = source.slice(start, target.end);
        if (text === before) continue;
        const line = file.getLineAndCharacterOfPosition(start).line + 1;
        const name = `${nameOf(root)}: ${label ?? shownChange(source, root, target, text)}`;
        const at = { name, line, before, after: text, start, end: target.end };
        const mayBreakTypes =
          !ts.isTemplateLiteral(target) && / undefined\b/.test(target.getText());
        mutants.push({ ...at, mayBreakTypes, needsEngine: engine.has(root) });
      }
      ts.forEachChild(node, visit);
    };
    visit(root);
  }
  return numbered(mutants.sort((a, b) => a.start - b.start || a.end - b.end));
}

/** Gives each mutant a name of its own: the second of one name is called `... (2)`. */
function numbered(mutants: readonly Mutant[]): Mutant[] {
  const seen = new Map<string, number>();
  return mutants.map((mutant) => {
    const n = (seen.get(mutant.name) ?? 0) + 1;
    seen.set(mutant.name, n);
    return n === 1 ? mutant : { ...mutant, name: `${mutant.name} (${n})` };
  });
}

/** What is declared at a root: a function, a constant, a property of the definition. */
function nameOf(root: ts.Node): string {
  const isNamed =
    ts.isFunctionDeclaration(root) ||
    ts.isVariableDeclaration(root) ||
    ts.isPropertyAssignment(root) ||
    ts.isShorthandPropertyAssignment(root) ||
    ts.isMethodDeclaration(root);
  return isNamed ? (root.name?.getText() ?? '') : '';
}

/** Characters shown on either side of a change, in its line. */
const CONTEXT = 30;

/** The changed place with a little of its surroundings, on one line. */
function shownChange(source: string, root: ts.Node, target: ts.Node, after: string): string {
  const start = target.getStart();
  const before = target.getText();
  let head = 0;
  while (head < before.length && before[head] === after[head]) head += 1;
  let tail = 0;
  const shorter = Math.min(before.length, after.length) - head;
  while (tail < shorter && before.at(-1 - tail) === after.at(-1 - tail)) tail += 1;
  const from = start + head;
  const to = start + before.length - tail;
  // From a word's begin to a word's end.
  const left = source.slice(Math.max(root.getStart(), from - CONTEXT), from).replace(/^\S*\s/, '');
  const right = source.slice(to, Math.min(root.end, to + CONTEXT)).replace(/\s\S*$/, '');
  const old = source.slice(from, to);
  const now = after.slice(head, after.length - tail);
  const shown = `${left}[${old} -> ${now}]${right}`.replace(/\s+/g, ' ').trim();
  return shown.length > 140 ? `${shown.slice(0, 137)}...` : shown;
}

function isUnstated(node: ts.Node): boolean {
  return (
    (ts.isPropertyAssignment(node) || ts.isShorthandPropertyAssignment(node)) &&
    ts.isIdentifier(node.name) &&
    UNSTATED.includes(node.name.text)
  );
}

/** How much is read or shown at most, how sure a verdict is, and the two answers of a comparison for sorting: no conditions. */
function isLimit(node: ts.Node): boolean {
  if (ts.isVariableDeclaration(node)) return /_(MAX|SHOWN)$|^CONFIDENCE$/.test(node.name.getText());
  if (!ts.isNumericLiteral(node)) return false;
  const { parent } = node;
  if (ts.isPrefixUnaryExpression(parent) || ts.isConditionalExpression(parent)) return true;
  return (
    ts.isCallExpression(parent) &&
    ts.isPropertyAccessExpression(parent.expression) &&
    ['slice', 'toFixed'].includes(parent.expression.name.text)
  );
}

/** Local names that only texts for people are made of. */
function unstatedNames(root: ts.Node): ReadonlySet<string> {
  const uses = new Map<string, ts.Identifier[]>();
  const locals = new Set<string>();
  const visit = (node: ts.Node): void => {
    if (node !== root && ts.isVariableDeclaration(node)) locals.add(node.name.getText());
    if (ts.isIdentifier(node) && isReference(node))
      uses.set(node.text, [...(uses.get(node.text) ?? []), node]);
    ts.forEachChild(node, visit);
  };
  visit(root);
  const names = new Set<string>();
  for (let before = -1; before !== names.size;) {
    before = names.size;
    for (const name of locals)
      if ((uses.get(name) ?? []).every((use) => isInText(use, root, names))) names.add(name);
  }
  return names;
}

function isInText(node: ts.Node, root: ts.Node, names: ReadonlySet<string>): boolean {
  for (let at = node; at !== root; at = at.parent)
    if (isUnstated(at) || (ts.isVariableDeclaration(at) && names.has(at.name.getText())))
      return true;
  return false;
}

/** True where an identifier stands for a value, not for the name of a property or of what is declared. */
function isReference(node: ts.Identifier): boolean {
  const { parent } = node;
  if (ts.isPropertyAccessExpression(parent)) return parent.expression === node;
  if (ts.isPropertyAssignment(parent)) return parent.initializer === node;
  if (ts.isVariableDeclaration(parent)) return parent.initializer === node;
  return !ts.isPropertySignature(parent) && !ts.isBindingElement(parent);
}

/** Names that are declared inside of a node, and so hide what the file declares. */
function namesWithin(root: ts.Node): ReadonlySet<string> {
  const names = new Set<string>();
  const visit = (node: ts.Node): void => {
    const isOwn =
      ts.isVariableDeclaration(node) || ts.isParameter(node) || ts.isBindingElement(node);
    if (node !== root && isOwn && ts.isIdentifier(node.name)) names.add(node.name.text);
    ts.forEachChild(node, visit);
  };
  visit(root);
  return names;
}

/** Top-level statements and definition properties that logic is made of, and those that queries depend on. */
function reach(file: ts.SourceFile): {
  readonly logic: ReadonlySet<ts.Node>;
  readonly engine: ReadonlySet<ts.Node>;
  readonly exact: ReadonlySet<ts.Node>;
} {
  const declared = new Map<string, ts.Node>();
  let definition: ts.ObjectLiteralExpression | undefined;
  for (const statement of file.statements) {
    if (ts.isFunctionDeclaration(statement) && statement.name !== undefined)
      declared.set(statement.name.text, statement);
    else if (ts.isVariableStatement(statement))
      for (const d of statement.declarationList.declarations)
        if (ts.isIdentifier(d.name)) declared.set(d.name.text, d);
    if (ts.isExportAssignment(statement) && ts.isCallExpression(statement.expression)) {
      const [argument] = statement.expression.arguments;
      if (argument !== undefined && ts.isObjectLiteralExpression(argument)) definition = argument;
    }
  }
  const collect = (parts: readonly string[]): Set<ts.Node> => {
    const found = new Set<ts.Node>();
    const take = (node: ts.Node): void => {
      if (found.has(node)) return;
      found.add(node);
      const own = namesWithin(node);
      const visit = (inner: ts.Node): void => {
        const isUse = ts.isIdentifier(inner) && isReference(inner) && !own.has(inner.text);
        const next = isUse ? declared.get(inner.text) : undefined;
        if (next !== undefined) take(next);
        ts.forEachChild(inner, visit);
      };
      visit(node);
    };
    for (const property of definition?.properties ?? [])
      if (property.name !== undefined && ts.isIdentifier(property.name))
        if (parts.includes(property.name.text)) take(property);
    return found;
  };
  return {
    logic: collect(LOGIC_PARTS),
    engine: collect(ENGINE_PARTS),
    exact: collect(EXACT_PARTS),
  };
}

interface Change {
  readonly target: ts.Node;
  readonly text: string;
  /** Absent: before and after are shown. */
  readonly label?: string;
}

const COMPARISONS: Readonly<Partial<Record<ts.SyntaxKind, readonly string[]>>> = {
  [ts.SyntaxKind.LessThanToken]: ['<=', '>='],
  [ts.SyntaxKind.LessThanEqualsToken]: ['<', '>'],
  [ts.SyntaxKind.GreaterThanToken]: ['>=', '<='],
  [ts.SyntaxKind.GreaterThanEqualsToken]: ['>', '<'],
  [ts.SyntaxKind.EqualsEqualsEqualsToken]: ['!=='],
  [ts.SyntaxKind.ExclamationEqualsEqualsToken]: ['==='],
};

function changesOf(node: ts.Node, mayWiden: boolean): Change[] {
  if (ts.isBinaryExpression(node)) return binaryChanges(node);
  if (ts.isPrefixUnaryExpression(node) && node.operator === ts.SyntaxKind.ExclamationToken)
    return [{ target: node, text: node.operand.getText() }];
  if (ts.isConditionalExpression(node))
    return [{ target: node.condition, text: `!(${node.condition.getText()})` }];
  if (ts.isIfStatement(node) && !ts.isBinaryExpression(node.expression))
    return [{ target: node.expression, text: `!(${node.expression.getText()})` }];
  if (ts.isNumericLiteral(node)) return numberChanges(node);
  if (ts.isArrayLiteralExpression(node)) return memberChanges(node);
  if (ts.isPropertyAccessExpression(node)) return methodChanges(node);
  if (ts.isNoSubstitutionTemplateLiteral(node) || ts.isTemplateExpression(node))
    return sqlChanges(node, mayWiden);
  return [];
}

function binaryChanges(node: ts.BinaryExpression): Change[] {
  const { left, right, operatorToken } = node;
  const kind = operatorToken.kind;
  const isJoined =
    kind === ts.SyntaxKind.AmpersandAmpersandToken || kind === ts.SyntaxKind.BarBarToken;
  if (isJoined && isAbsence(left) && isAbsence(right)) return [];
  if (isJoined)
    return [
      { target: node, text: `(${left.getText()})` },
      { target: node, text: `(${right.getText()})` },
    ];
  // What is compared with undefined mostly narrows a type; it is no condition of the rule.
  if (isAbsence(node)) return [];
  return (COMPARISONS[kind] ?? []).map((text) => ({ target: operatorToken, text }));
}

/** A comparison with undefined. */
function isAbsence(node: ts.Expression): boolean {
  return ts.isBinaryExpression(node) && node.right.getText() === 'undefined';
}

function numberChanges(node: ts.NumericLiteral): Change[] {
  const value = Number(node.text.replaceAll('_', ''));
  if (!Number.isInteger(value) || isBound(node)) return [];
  return [
    { target: node, text: String(value + 1) },
    { target: node, text: `(${value - 1})` },
  ];
}

/** What a parameter may be set to at most is no condition: `min` and `max` of a schema. */
function isBound(node: ts.Node): boolean {
  let call = node.parent;
  while (ts.isBinaryExpression(call)) call = call.parent;
  if (!ts.isCallExpression(call) || !ts.isPropertyAccessExpression(call.expression)) return false;
  const inSchema = call.expression.expression.getText().startsWith('z');
  return inSchema && ['min', 'max', 'length'].includes(call.expression.name.text);
}

function memberChanges(node: ts.ArrayLiteralExpression): Change[] {
  const members = node.elements;
  if (!members.every((m) => ts.isStringLiteral(m))) return [];
  const rest = (i: number): string =>
    members
      .filter((_, j) => j !== i)
      .map((m) => m.getText())
      .join(', ');
  return members.map((m, i) => ({
    target: node,
    text: `[${rest(i)}]`,
    label: `without ${m.getText()}`,
  }));
}

const METHODS: Readonly<Record<string, string>> = {
  some: 'every',
  every: 'some',
  find: 'findLast',
  findLast: 'find',
  min: 'max',
  max: 'min',
};

function methodChanges(node: ts.PropertyAccessExpression): Change[] {
  const other = METHODS[node.name.text];
  if (other === undefined || !ts.isCallExpression(node.parent)) return [];
  if (['min', 'max'].includes(node.name.text) && node.expression.getText() !== 'Math') return [];
  return [{ target: node.name, text: other }];
}

type Swap = readonly [RegExp, string];

const NARROWING: readonly Swap[] = [
  [/ OR /g, ' AND '],
  [/ >= /g, ' > '],
  [/ <= /g, ' < '],
  [/ = '/g, " != '"],
  [/ != '/g, " = '"],
  [/ NOT IN /g, ' IN '],
];
const WIDENING: readonly Swap[] = [
  [/ AND /g, ' OR '],
  [/ > /g, ' >= '],
  [/ < /g, ' <= '],
  [/\bmin\(/g, 'max('],
  [/\bmax\(/g, 'min('],
  [/\bminIf\(/g, 'maxIf('],
  [/\bmaxIf\(/g, 'minIf('],
];

function sqlChanges(
  node: ts.TemplateExpression | ts.NoSubstitutionTemplateLiteral,
  mayWiden: boolean,
): Change[] {
  const tag = node.parent;
  if (!ts.isTaggedTemplateExpression(tag) || tag.tag.getText() !== 'sql') return [];
  const text = node.getText();
  const swaps = mayWiden ? [...NARROWING, ...WIDENING] : NARROWING;
  return swaps.flatMap(([pattern, swap]) =>
    [...text.matchAll(pattern)]
      // Joins and the tenant are plumbing of every query; what is in a substitution is visited for itself.
      .filter((m) => !isInSubstitution(text, m.index) && !/tenant = $/.test(text.slice(0, m.index)))
      .map((m) => ({
        target: node,
        text: text.slice(0, m.index) + swap + text.slice(m.index + m[0].length),
      })),
  );
}

/** Whether a position of a template's text lies between `${` and `}`. */
function isInSubstitution(text: string, at: number): boolean {
  let depth = 0;
  for (let i = 0; i < at; i += 1) {
    if (text.startsWith('${', i)) depth += 1;
    else if (text[i] === '}' && depth > 0) depth -= 1;
  }
  return depth > 0;
}
