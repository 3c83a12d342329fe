// How: one suite over the whole registry; a rule that lacks a part of the contract fails by name.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { bindExample } from '../../detectors/examples.ts';
import { parameterDocs, renderDetectorReference } from '../../detectors/reference.ts';
import { loadDetectors, parameterNames } from '../../detectors/registry.ts';
import { AUTH_EVENT_FIELDS } from '../../model/event_fields.ts';
import { EVENT_KINDS } from '../../model/kinds.ts';
import { packageRoot } from '../../runtime/paths.ts';
import { loadDefinitions } from '../../runtime/registry.ts';
import { temporaryFolder } from '../harness.ts';
import { writeFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';

const detectors = await loadDetectors();

it('every rule file is a rule', () => {
  const files = readdirSync(join(packageRoot, 'detectors', 'rules'))
    .filter((f) => !f.startsWith('_'))
    .map((f) => f.replace(/\.ts$/, ''));
  expect(detectors.map((d) => d.id)).toEqual(files.sort());
});

it('a file whose id differs from its name stops the start', async () => {
  const folder = temporaryFolder();
  try {
    writeFileSync(join(folder.path, 'other.js'), "export default { id: 'one' };");
    const url = pathToFileURL(`${folder.path}/`);
    await expect(loadDefinitions(url, (c) => c as { id: string })).rejects.toMatchObject({
      code: 'definition_invalid',
    });
  } finally {
    folder.remove();
  }
});

for (const d of detectors) {
  describe(d.id, () => {
    it('names only real fields and kinds', () => {
      expect(d.needs.filter((n) => !AUTH_EVENT_FIELDS.has(n))).toEqual([]);
      expect(d.kinds.filter((k) => !EVENT_KINDS.includes(k))).toEqual([]);
      expect(d.needs.length).toBeGreaterThan(0);
    });

    it('has references to an RFC and to ATT&CK', () => {
      expect(d.references.some((r) => /^RFC \d+ section \d/.test(r))).toBe(true);
      expect(d.references.some((r) => /^ATT&CK T\d{4}(\.\d{3})?$/.test(r))).toBe(true);
    });

    it('has a runbook with its five parts', () => {
      const file = join(packageRoot, 'alerts', 'runbooks', `${d.id}.md`);
      expect(existsSync(file)).toBe(true);
      const headings = [...readFileSync(file, 'utf8').matchAll(/^## (.+)$/gm)].map((m) => m[1]);
      expect(headings).toEqual(['Meaning', 'Impact', 'Diagnosis', 'Mitigation', 'Afterwards']);
    });

    it('has examples that fire with every verdict, and some that stay silent', () => {
      const verdicts = new Set(d.examples.flatMap((e) => e.expect.map((f) => f.verdict)));
      expect([...verdicts].sort()).toEqual(Object.keys(d.verdicts).sort());
      expect(d.examples.filter((e) => e.expect.length === 0).length).toBeGreaterThan(1);
      expect(new Set(d.examples.map((e) => e.name)).size).toBe(d.examples.length);
    });

    it('documents exactly the evidence that it gives', () => {
      for (const e of d.examples.flatMap((x) => x.expect))
        expect(Object.keys(e.evidence).sort()).toEqual(Object.keys(d.evidence).sort());
    });

    it('has defaults for all parameters, and refuses unknown ones', () => {
      expect(parameterDocs(d).map((p) => p.name)).toEqual(parameterNames(d));
      expect(parameterDocs(d).every((p) => p.default !== undefined)).toBe(true);
      expect(d.bind({ no_such_parameter: 1 }).ok).toBe(false);
      for (const example of d.examples) expect(() => bindExample(d, example)).not.toThrow();
    });

    it('has words for people: description, false positives, evidence', () => {
      expect(d.description.length).toBeGreaterThan(60);
      expect(d.falsePositives.length).toBeGreaterThan(0);
      expect(d.quietMs).toBeGreaterThan(0);
    });
  });
}

it('the reference shows every rule, parameter and verdict', async () => {
  const page = await renderDetectorReference();
  for (const d of detectors) {
    expect(page).toContain(`\`${d.id}\`, version ${d.version}`);
    for (const name of parameterNames(d)) expect(page).toContain(`| \`${name}\` |`);
    for (const verdict of Object.keys(d.verdicts)) expect(page).toContain(`| \`${verdict}\` |`);
  }
  expect(await renderDetectorReference()).toBe(page);
});
