import type { AuthEvent } from '../model/auth_event.ts';
import { completeEvent } from '../model/complete_event.ts';
import {
  EXAMPLE_START_MS,
  type Detector,
  type DetectorExample,
  type ExpectedFinding,
} from '../model/define_detector.ts';
import { exampleRef } from '../model/example_ref.ts';
import { GrantscopeError } from '../runtime/errors.ts';
import type { Store } from '../store/client.ts';
import { insertEvents } from '../store/insert.ts';
import { backtest } from './backtest.ts';
import { findingId, type FindingContent } from './finding_identity.ts';

const NS_PER_MS = 1_000_000n;
const ALL_TIME = { from: 0n, to: 4_102_444_800_000_000_000n };

/** The events of an example, in its order. */
export function exampleEvents(example: DetectorExample, tenant: string): AuthEvent[] {
  return example.events.map(({ t, id, ...event }, i) =>
    completeEvent({
      ...event,
      tenant,
      event_id: exampleRef(`event ${id ?? i}`),
      time: BigInt(EXAMPLE_START_MS + Math.round(t * 1_000)) * NS_PER_MS,
    }),
  );
}

/** What an example says about findings, in the form that `shownFinding` gives. */
export function shownExpectation(
  detector: Detector,
  tenant: string,
  expected: ExpectedFinding,
): Record<string, unknown> {
  return {
    finding_id: findingId(detector.id, detector.version, tenant, expected.entity, expected.episode),
    ...expected,
  };
}

export function shownFinding(finding: FindingContent): Record<string, unknown> {
  return {
    finding_id: finding.finding_id,
    entity: finding.entity_ref,
    episode: finding.episode,
    verdict: finding.verdict,
    severity: finding.severity,
    evidence: finding.evidence,
  };
}

export interface ExampleResult {
  readonly rule_id: string;
  readonly example: string;
  readonly passed: boolean;
  readonly expected: readonly Record<string, unknown>[];
  readonly actual: readonly Record<string, unknown>[];
}

/** The rule of an example with the example's parameters; throws `definition_invalid` where they are wrong. */
export function bindExample(detector: Detector, example: DetectorExample) {
  const bound = detector.bind(example.parameters ?? {});
  if (!bound.ok) {
    const problems = bound.problems.map((p) => `${p.path}: ${p.message}`).join('; ');
    throw new GrantscopeError(
      'definition_invalid',
      `${detector.id}: example ${JSON.stringify(example.name)}: parameters: ${problems}`,
    );
  }
  return bound.detector;
}

/** Stores an example's events under a tenant of its own and runs the rule over them on the real engine. */
export async function runExample(
  store: Store,
  detector: Detector,
  example: DetectorExample,
  tenant: string,
): Promise<ExampleResult> {
  await insertEvents(store, exampleEvents(example, tenant));
  const { findings } = await backtest({
    store,
    tenant,
    detectors: [bindExample(detector, example)],
    clients: example.clients ?? [],
    range: ALL_TIME,
  });
  const byId = (a: Record<string, unknown>, b: Record<string, unknown>): number =>
    String(a['finding_id']) < String(b['finding_id']) ? -1 : 1;
  const expected = example.expect.map((e) => shownExpectation(detector, tenant, e)).sort(byId);
  const actual = findings.map(shownFinding).sort(byId);
  return {
    rule_id: detector.id,
    example: example.name,
    passed: canonical(expected) === canonical(actual),
    expected,
    actual,
  };
}

/** JSON with sorted keys, so that two equal values have one text. */
export function canonical(value: unknown): string {
  return JSON.stringify(value, (_key, v: unknown) =>
    typeof v === 'object' && v !== null && !Array.isArray(v)
      ? Object.fromEntries(Object.entries(v).sort(([a], [b]) => (a < b ? -1 : 1)))
      : v,
  );
}
