import { AUTH_EVENT_FIELDS } from '../model/event_fields.ts';
import type { BoundDetector, Detector } from '../model/define_detector.ts';
import { GrantscopeError } from '../runtime/errors.ts';
import { loadDefinitions } from '../runtime/registry.ts';
import { BLIND_RULE, BlindParameters } from './blind.ts';

function isDetector(candidate: unknown): candidate is Detector {
  return (
    typeof candidate === 'object' &&
    candidate !== null &&
    'bind' in candidate &&
    typeof candidate.bind === 'function'
  );
}

/** What every rule must have; the start fails on one that lacks it. */
function checkDetector(candidate: unknown): Detector {
  if (!isDetector(candidate)) throw new TypeError('default export must come from defineDetector');
  const unknown = candidate.needs.filter((n) => !AUTH_EVENT_FIELDS.has(n));
  if (unknown.length > 0)
    throw new TypeError(`needs: ${unknown.join(', ')} are no fields of AuthEvent`);
  if (candidate.references.length === 0) throw new TypeError('references: at least one is needed');
  const fires = candidate.examples.some((e) => e.expect.length > 0);
  const isSilent = candidate.examples.some((e) => e.expect.length === 0);
  if (!fires || !isSilent)
    throw new TypeError('examples: one that fires and one that stays silent are needed');
  return candidate;
}

/** All rules of detectors/rules, sorted by id. Throws `definition_invalid`. */
export function loadDetectors(): Promise<readonly Detector[]> {
  return loadDefinitions(new URL('./rules/', import.meta.url), checkDetector);
}

/**
 * Sets the parameters of all rules from `detectors:` of grantscope.yaml. Throws `config_invalid` with each
 * wrong key's path and what is allowed, so that a misspelt threshold stops the start instead of being ignored.
 */
export function bindDetectors(
  detectors: readonly Detector[],
  overrides: Readonly<Record<string, Readonly<Record<string, unknown>>>>,
): readonly BoundDetector[] {
  const ids = [...detectors.map((d) => d.id), BLIND_RULE.id];
  const problems = Object.keys(overrides)
    .filter((id) => !ids.includes(id))
    .map((id) => `detectors.${id}: unknown rule; allowed: ${ids.join(', ')}`);
  problems.push(...blindProblems(overrides[BLIND_RULE.id]));
  const bound: BoundDetector[] = [];
  for (const detector of detectors) {
    const result = detector.bind(overrides[detector.id] ?? {});
    if (result.ok) bound.push(result.detector);
    else problems.push(...result.problems.map((p) => describeProblem(detector, p)));
  }
  if (problems.length > 0)
    throw new GrantscopeError('config_invalid', problems.join('; '), { stage: 'starting' });
  return bound;
}

function blindProblems(overrides: Readonly<Record<string, unknown>> | undefined): string[] {
  const parsed = BlindParameters.safeParse(overrides ?? {});
  if (parsed.success) return [];
  const allowed = Object.keys(BlindParameters.shape).join(', ');
  return parsed.error.issues.map((issue) => {
    const path = ['detectors', BLIND_RULE.id, ...issue.path].join('.');
    return `${path}: ${issue.message}; allowed parameters: ${allowed}`;
  });
}

function describeProblem(detector: Detector, problem: { path: string; message: string }): string {
  const path = ['detectors', detector.id, problem.path].filter((p) => p !== '').join('.');
  return `${path}: ${problem.message}; allowed parameters: ${parameterNames(detector).join(', ')}`;
}

/** Names of a rule's parameters, in their order. */
export function parameterNames(detector: Detector): readonly string[] {
  const defaults = detector.bind({});
  return defaults.ok ? Object.keys(defaults.detector.params) : [];
}

/** The rule of that id; throws `invalid_argument` with the known ones. */
export function detectorById(detectors: readonly Detector[], id: string): Detector {
  const found = detectors.find((d) => d.id === id);
  if (found === undefined)
    throw new GrantscopeError(
      'invalid_argument',
      `rule ${JSON.stringify(id.slice(0, 100))} is unknown; allowed: ${detectors.map((d) => d.id).join(', ')}`,
    );
  return found;
}
