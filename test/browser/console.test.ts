/**
 * The console in a real browser against a real server and the real embedded engine: what it shows, live
 * updates, keyboard, hostile text, accessibility, and screenshots for people to look at.
 */
import { existsSync, readFileSync, mkdtempSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chromium, type Browser, type BrowserContext, type Page } from 'playwright-core';
import { build } from 'vite';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startApi, type Api } from '../../api/main.ts';
import type { Runtime } from '../../runtime/context.ts';
import { packageRoot } from '../../runtime/paths.ts';
import { openTestStore, testRuntime } from '../harness.ts';
import {
  HOSTILE,
  id,
  insertFindings,
  insertSlos,
  makeFinding,
  seedStory,
  STORY,
} from '../api_seed.ts';

const executablePath = [
  process.env['CHROMIUM'],
  '/usr/bin/chromium',
  '/usr/bin/chromium-browser',
  '/usr/bin/google-chrome',
].find((path) => path !== undefined && path !== '' && existsSync(path));

/** Where the pictures go: a folder to look at afterwards. */
const pictures = process.env['SCREENSHOTS'] ?? mkdtempSync(join(tmpdir(), 'grantscope-console-'));
const axeSource = readFileSync(
  createRequire(import.meta.url).resolve('axe-core/axe.min.js'),
  'utf8',
);

const START_MS = Date.now() - 600_000;
const iso = (secondsAgo: number): string => new Date(Date.now() - secondsAgo * 1_000).toISOString();

let opened: Awaited<ReturnType<typeof openTestStore>>;
let runtime: Runtime;
let api: Api;
let browser: Browser;

async function seed(): Promise<void> {
  await seedStory(opened.store, START_MS);
  await insertSlos(opened.store, Date.now() - 5_000);
  await insertFindings(opened.store, [
    makeFinding({
      finding_id: STORY.finding,
      severity: 'critical',
      first_event_time: new Date(START_MS + 4_000).toISOString(),
      last_event_time: new Date(START_MS + 5_000).toISOString(),
      detected_at: new Date(START_MS + 6_000).toISOString(),
    }),
    makeFinding({
      finding_id: id('9', 1),
      rule_id: 'redirect_uri_mismatch',
      title: 'Redirect URI mismatch',
      token_refs: [],
      family: 'redirect_abuse',
      severity: 'high',
      risk: 60,
      entity_type: 'client',
      entity_ref: 'batch/nightly job',
      client_id: 'batch/nightly job',
      verdict: 'probing',
      summary: `Asked for a redirect to ${HOSTILE}`,
      last_event_time: iso(900),
    }),
    makeFinding({
      finding_id: id('9', 2),
      rule_id: 'scope_creep',
      title: 'Scope creep',
      token_refs: [],
      family: 'scope_escalation',
      severity: 'medium',
      risk: 30,
      entity_type: 'network',
      entity_ref: '203.0.113.0/24',
      verdict: '',
      summary: 'A client asked for a scope that it never had.',
      last_event_time: iso(7_200),
    }),
    makeFinding({
      finding_id: id('9', 3),
      title: 'Closed long ago',
      token_refs: [],
      entity_ref: id('f', 9),
      severity: 'low',
      state: 'closed',
      last_event_time: iso(90_000),
    }),
  ]);
}

/** A page whose errors fail the test, whatever it was about. */
async function open(
  hash: string,
  options: Parameters<Browser['newContext']>[0] = {},
): Promise<Page> {
  const context: BrowserContext = await browser.newContext({
    viewport: { width: 1360, height: 900 },
    ...options,
  });
  await context.addInitScript(axeSource);
  const page = await context.newPage();
  page.on('pageerror', (error) => problems.push(`error: ${error.message}`));
  page.on('console', (message) => {
    // A 404 that the page handles is no defect of the page.
    if (message.type() === 'error' && !message.text().includes('404'))
      problems.push(`console: ${message.text()}`);
  });
  page.on('request', (request) => {
    if (!request.url().startsWith(api.url)) problems.push(`foreign request: ${request.url()}`);
  });
  await page.goto(`${api.url}/${hash}`);
  return page;
}
const problems: string[] = [];

async function close(page: Page): Promise<void> {
  await page.context().close();
  expect(problems.splice(0)).toEqual([]);
}

/** Violations of WCAG 2.2 A and AA by axe-core, as `rule: elements`. */
async function violations(page: Page): Promise<string[]> {
  return page.evaluate(async () => {
    const { axe } = globalThis as unknown as {
      axe: {
        run: (
          root: unknown,
          options: object,
        ) => Promise<{
          violations: { id: string; nodes: { html: string; failureSummary: string }[] }[];
        }>;
      };
    };
    const root = (globalThis as unknown as { document: unknown }).document;
    const result = await axe.run(root, {
      runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'],
    });
    return result.violations.map(
      (v) => `${v.id}: ${v.nodes.map((n) => `${n.html} ${n.failureSummary}`).join(' | ')}`,
    );
  });
}

/** Panels ask for their data once they are near what is seen. */
async function seeEveryPanel(page: Page): Promise<void> {
  await page.locator('.board-panel').first().waitFor();
  for (const panel of await page.locator('.board-panel').all()) {
    await panel.scrollIntoViewIfNeeded();
    await panel.locator('.waiting').waitFor({ state: 'detached' });
  }
  // The head that stays while the page is scrolled would lie over links.
  await page.evaluate('scrollTo(0, 0)');
}

const picture = (page: Page, name: string) =>
  page.screenshot({ path: join(pictures, `${name}.png`), fullPage: true });

describe.skipIf(executablePath === undefined)(
  executablePath === undefined
    ? 'console — skipped: chromium not installed (apt-get install chromium)'
    : 'console',
  () => {
    beforeAll(async () => {
      await build({
        configFile: join(packageRoot, 'api/console/vite.config.ts'),
        logLevel: 'error',
      });
      opened = await openTestStore();
      runtime = testRuntime(opened.dataDir);
      await seed();
      api = await startApi(runtime, opened.store);
      browser = await chromium.launch({
        executablePath: executablePath!,
        args: [
          '--headless',
          '--no-sandbox',
          '--disable-gpu',
          '--disable-quic',
          '--no-first-run',
          '--disable-background-networking',
          '--disable-component-update',
          '--disable-sync',
        ],
      });
    }, 120_000);

    afterAll(async () => {
      await browser.close();
      await api.component.stop();
      await opened.close();
    });

    it('shows the state at a glance', async () => {
      const page = await open('');
      await page.getByRole('link', { name: 'Refresh token reuse' }).waitFor();
      const levels = await page.locator('.severities li').allInnerTexts();
      expect(levels.map((t) => t.replace(/\s+/g, ' '))).toEqual([
        '1 critical',
        '1 high',
        '1 medium',
        '0 low',
        '0 info',
      ]);
      const tiles = await page.locator('.tile').allInnerTexts();
      expect(tiles[0]).toContain('unmeasured');
      expect(tiles[1]).toMatch(/breached\n+−100 % overspent of 99.9 % over 30d/);
      expect(tiles[1]).toContain('14.5×');
      expect(await page.getByRole('table', { name: 'Sources' }).innerText()).toMatch(
        /envoy_als 1 instance\s+1\s+(9|1\d) min ago/,
      );
      await page.getByText('live', { exact: true }).waitFor();
      await close(page);
    });

    it('filters findings by the address, and the address by the filters', async () => {
      const page = await open('#/findings?state=open&severity=high');
      await page.getByText('2 findings').waitFor();
      expect(await page.locator('.findings .title').allInnerTexts()).toEqual([
        'Refresh token reuse',
        'Redirect URI mismatch',
      ]);
      await page.getByLabel('Severity').selectOption({ label: 'any' });
      await page.getByText('3 findings').waitFor();
      expect(new URL(page.url()).hash).toBe('#/findings?state=open');
      await page.getByLabel('Text').fill('scope creep');
      await page.getByText('1 finding', { exact: true }).waitFor();
      expect(new URL(page.url()).hash).toBe('#/findings?state=open&q=scope+creep');
      await page.getByLabel('Text').fill('nothing like it');
      await page.getByText('No finding matches').waitFor();
      await page.getByRole('link', { name: 'clear all' }).click();
      await page.getByText('4 findings').waitFor();
      await close(page);
    });

    it('explains a finding, with its events, evidence and ways on', async () => {
      const page = await open(`#/findings/${STORY.finding}`);
      await page.getByRole('heading', { name: 'Refresh token reuse' }).waitFor();
      await page.locator('.event').nth(4).waitFor();
      expect(await page.locator('.lead').innerText()).toBe(
        'A rotated refresh token was presented again from another network.',
      );
      expect(await page.locator('.reasons li').allInnerTexts()).toEqual([
        'presented 1 s after its successor was issued',
        'another network and user agent',
      ]);
      expect(await page.locator('.event.marked .event-kind').allInnerTexts()).toEqual([
        'token refreshed',
        'token request failed',
      ]);
      expect(
        await page.getByRole('link', { name: 'RFC 9700 section 4.14' }).getAttribute('href'),
      ).toBe('https://www.rfc-editor.org/rfc/rfc9700#section-4.14');
      expect(
        await page.getByRole('link', { name: 'Runbook: token compromise' }).getAttribute('href'),
      ).toBe('#/runbooks/token_compromise');
      await page.locator('.facts').getByRole('link', { name: STORY.family }).click();
      await page.getByRole('heading', { name: `family ${STORY.family}` }).waitFor();
      await close(page);
    });

    it('shows hostile text as text', async () => {
      const page = await open(`#/findings/${STORY.finding}`);
      await page.getByRole('row', { name: 'user agent' }).waitFor();
      expect(await page.getByRole('row', { name: 'user agent' }).locator('td').innerText()).toBe(
        HOSTILE,
      );
      await page.locator('.error-text').first().waitFor();
      expect(await page.locator('.error-text').innerText()).toContain('<img src=x onerror=');
      await page.goto(`${api.url}/#/findings`);
      await page.getByText('4 findings').waitFor();
      await page.goto(`${api.url}/#/events/${id('e', 5)}`);
      await page.getByRole('row', { name: 'net_user_agent' }).waitFor();
      expect(await page.locator('img').count()).toBe(0);
      expect(await page.title()).not.toContain('pwned');
      // No page scrolls sideways because of a long word.
      const overflow = await page.evaluate('document.documentElement.scrollWidth - innerWidth');
      expect(overflow).toBeLessThanOrEqual(0);
      await close(page);
    });

    it('follows a token through its family', async () => {
      const page = await open(`#/investigations/token/${STORY.refresh1}`);
      await page.locator('.event').nth(5).waitFor();
      expect(await page.locator('.lead').innerText()).toBe(
        '6 events within 5 s, 1 failure, 2 networks, 1 finding.',
      );
      const rows = await page
        .getByRole('table', { name: 'Lineage' })
        .locator('tbody tr')
        .allInnerTexts();
      expect(
        rows.map(
          (r) => r.split(/\s+/).filter((w) => ['self', 'parent', 'child', 'family'].includes(w))[0],
        ),
      ).toEqual(['parent', 'self', 'family', 'child', 'child']);
      await page.getByRole('button', { name: 'oldest first' }).click();
      await expect
        .poll(() => page.locator('.event-kind').first().innerText())
        .toBe('token revoked');
      await close(page);
    });

    it('finds what was pasted without putting it into an address', async () => {
      const page = await open('');
      const requested: string[] = [];
      page.on('request', (r) => requested.push(r.url()));
      const raw = 'opaque-subject-name';
      const { insertEvents } = await import('../../store/insert.ts');
      const { completeEvent } = await import('../../model/complete_event.ts');
      const subject = runtime.keyRing.ref('subject', raw);
      await insertEvents(opened.store, [
        completeEvent({
          event_id: id('e', 500),
          time: BigInt(START_MS) * 1_000_000n,
          kind: 'login',
          outcome: 'success',
          subject: { ref: subject },
        }),
      ]);
      const box = page.getByLabel('Search by token, reference or client');
      await box.fill(raw);
      await box.press('Enter');
      await page.getByRole('heading', { name: `subject ${subject}` }).waitFor();
      expect(requested.filter((url) => url.includes(raw))).toEqual([]);
      expect(page.url()).not.toContain(raw);
      expect(await box.inputValue()).toBe('');
      await box.fill(STORY.access2.toUpperCase());
      await box.press('Enter');
      await page.getByRole('heading', { name: `token ${STORY.access2}` }).waitFor();
      await box.fill('batch/nightly job');
      await box.press('Enter');
      await page.getByRole('heading', { name: 'client batch/nightly job' }).waitFor();
      await box.fill('nobody knows this');
      await box.press('Enter');
      await page.getByText('Nothing stored names this value').waitFor();
      expect(requested.filter((url) => /nobody/.test(url))).toEqual([]);
      await close(page);
    });

    it('shows a new finding without a reload', async () => {
      const page = await open('#/findings?state=open');
      await page.getByText('3 findings').waitFor();
      await page.getByText('live', { exact: true }).waitFor();
      await page.evaluate('window.stillTheSamePage = true');
      const finding = makeFinding({
        finding_id: id('9', 50),
        title: 'Fresh from the detector',
        updated_at: iso(-1),
        last_event_time: iso(1),
      });
      await insertFindings(opened.store, [finding]);
      runtime.hints.emit('findings_changed', { ids: [finding.finding_id] });
      await page.getByRole('link', { name: 'Fresh from the detector' }).waitFor();
      await page.getByText('4 findings').waitFor();
      expect(await page.locator('tr.fresh .title').allInnerTexts()).toEqual([
        'Fresh from the detector',
      ]);
      expect(await page.evaluate('window.stillTheSamePage')).toBe(true);
      // Closed again, so that the other tests count what they expect.
      await insertFindings(opened.store, [{ ...finding, state: 'superseded' }], 2);
      runtime.hints.emit('findings_changed', { ids: [finding.finding_id] });
      await page.getByText('3 findings').waitFor();
      await close(page);
    });

    it('is worked by keyboard alone', async () => {
      const page = await open('#/findings?state=open');
      await page.getByText('3 findings').waitFor();
      const focused = () => page.evaluate('document.activeElement.textContent');
      await page.keyboard.press('j');
      expect(await focused()).toBe('Refresh token reuse');
      await page.keyboard.press('j');
      expect(await focused()).toBe('Redirect URI mismatch');
      await page.keyboard.press('k');
      await page.keyboard.press('k');
      expect(await focused()).toBe('Refresh token reuse');
      await page.keyboard.press('Enter');
      await page.getByRole('heading', { name: 'Why' }).waitFor();
      await page.keyboard.press('Escape');
      await page.getByRole('heading', { name: 'Findings', exact: true }).waitFor();
      await page.keyboard.press('?');
      await page.getByRole('dialog').waitFor();
      await page.keyboard.press('Escape');
      await page.getByRole('dialog').waitFor({ state: 'hidden' });
      await page.keyboard.press('/');
      expect(await page.evaluate('document.activeElement.id')).toBe('search');
      await page.keyboard.type('jk?');
      expect(await page.getByLabel('Search by token').inputValue()).toBe('jk?');
      await page.keyboard.press('Escape');
      await page.keyboard.press('g');
      await page.keyboard.press('s');
      await page.getByRole('heading', { name: 'Service levels' }).waitFor();
      await close(page);
    });

    it('says what is wrong where something is', async () => {
      const page = await open(`#/findings/${id('1', 1)}`);
      await page.getByText('no finding has this id').waitFor();
      await page.goto(`${api.url}/#/nowhere`);
      await page.getByText('There is no such page').waitFor();
      await page.goto(`${api.url}/#/slos/introspection_latency`);
      await page.getByText('That is unknown, not healthy').waitFor();
      await close(page);
    });

    it('tells a newcomer what to do first', async () => {
      const empty = testRuntime(opened.dataDir, { config: { tenant: 'empty' } });
      const own = await startApi(empty, opened.store);
      const context = await browser.newContext();
      const page = await context.newPage();
      await page.goto(own.url);
      await page.getByText('Waiting for the first event').waitFor();
      await page.getByText('npm run demo', { exact: true }).waitFor();
      await page.getByText('No open findings').waitFor();
      await picture(page, 'empty');
      await context.close();
      await own.component.stop();
    });

    it('keeps the theme that was chosen', async () => {
      const page = await open('', { colorScheme: 'light' });
      const ground = () =>
        page.evaluate('getComputedStyle(document.documentElement).backgroundColor');
      expect(await ground()).toBe('rgb(245, 246, 248)');
      await page.getByRole('button', { name: 'Theme' }).click();
      await page.getByRole('button', { name: 'Theme' }).click();
      expect(await ground()).toBe('rgb(15, 20, 25)');
      await page.reload();
      expect(await ground()).toBe('rgb(15, 20, 25)');
      await close(page);
    });

    it('would notice a violation', async () => {
      const page = await open('#/slos');
      await page.locator('.slos .title').first().waitFor();
      await page.evaluate(
        "document.querySelector('main').append(document.createElement('button'), document.createElement('input'))",
      );
      const found = await violations(page);
      expect(found.map((v) => v.split(':')[0]).sort()).toEqual(['button-name', 'label']);
      await close(page);
    });

    const PAGES: readonly (readonly [string, string, string])[] = [
      ['overview', '', '.tile'],
      ['findings', '#/findings', '.findings .title'],
      ['finding', `#/findings/${STORY.finding}`, '.event'],
      ['investigation', `#/investigations/token/${STORY.refresh1}`, '.event'],
      ['client', `#/investigations/client/${STORY.client}`, '.event'],
      ['slos', '#/slos', '.slos .title'],
      ['slo', '#/slos/token_endpoint_availability', '.figure'],
      ['clients', '#/clients', '[data-row]'],
      ['boards', '#/boards', '[data-row]'],
      ['board_soc', '#/boards/soc', '.graph .node'],
      ['board_on_call', '#/boards/on_call', '.board-panel'],
      ['board_executive', '#/boards/executive', '.board-panel'],
      ['board_debug', '#/boards/debug', '.board-panel'],
      ['board_pipeline', '#/boards/pipeline', '.board-panel'],
      ['event', `#/events/${id('e', 5)}`, '.evidence tr'],
    ];

    it.each(PAGES)(
      '%s has no violation of WCAG A and AA, in any theme or width',
      async (name, hash, ready) => {
        for (const [suffix, options] of [
          ['light', { colorScheme: 'light' }],
          ['dark', { colorScheme: 'dark' }],
          ['narrow', { colorScheme: 'light', viewport: { width: 380, height: 800 } }],
        ] as const) {
          const page = await open(hash, options);
          if (name.startsWith('board_')) await seeEveryPanel(page);
          await page.locator(ready).first().waitFor();
          await page.getByText('live', { exact: true }).waitFor();
          await picture(page, `${name}-${suffix}`);
          expect([suffix, await violations(page)]).toEqual([suffix, []]);
          const overflow = await page.evaluate('document.documentElement.scrollWidth - innerWidth');
          expect([suffix, overflow]).toEqual([suffix, 0]);
          await close(page);
        }
      },
    );
  },
);
