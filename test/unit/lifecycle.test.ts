import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { describe, expect, it } from 'vitest';
import { ECHO_MS, Lifecycle } from '../../runtime/lifecycle.ts';
import { createLog } from '../../runtime/log.ts';

const silent = createLog({ level: 'silent' });

describe('Lifecycle', () => {
  it('stops in reverse order, once, and goes on where one component fails', async () => {
    const stopped: string[] = [];
    const lifecycle = new Lifecycle(silent);
    for (const name of ['store', 'broken', 'api']) {
      lifecycle.add({
        name,
        stop: () => {
          stopped.push(name);
          return name === 'broken' ? Promise.reject(new Error('no')) : Promise.resolve();
        },
      });
    }
    expect(lifecycle.isStopping).toBe(false);
    await Promise.all([lifecycle.stop(), lifecycle.stop()]);
    expect(stopped).toEqual(['api', 'broken', 'store']);
    expect(lifecycle.isStopping).toBe(true);
  });

  it('tells the strains of its parts by name, and leaves out parts without', () => {
    const lifecycle = new Lifecycle(silent);
    let strains: string[] = [];
    lifecycle.add({ name: 'plain', stop: () => Promise.resolve() });
    lifecycle.add({ name: 'detectors', stop: () => Promise.resolve(), strains: () => strains });
    expect(lifecycle.strains).toEqual({});
    strains = ['a rule waits'];
    expect(lifecycle.strains).toEqual({ detectors: ['a rule waits'] });
  });

  it('drains on the first SIGTERM and ends at once on the second', async () => {
    const script = `
      import { Lifecycle } from ${JSON.stringify(new URL('../../runtime/lifecycle.ts', import.meta.url).href)};
      import { createLog } from ${JSON.stringify(new URL('../../runtime/log.ts', import.meta.url).href)};
      const lifecycle = new Lifecycle(createLog({ level: 'silent' }));
      lifecycle.add({ name: 'slow', stop: () => { process.stdout.write('draining'); return new Promise(() => {}); } });
      lifecycle.handleSignals(() => {});
      setInterval(() => {}, 1000);
      process.stdout.write('ready');`;
    const child = spawn(
      process.execPath,
      ['--import', 'tsx', '--input-type=module', '-e', script],
      { stdio: ['ignore', 'pipe', 'inherit'] },
    );
    await once(child.stdout, 'data');
    child.kill('SIGTERM');
    const [text] = (await once(child.stdout, 'data')) as [Buffer];
    expect(text.toString()).toBe('draining');
    // At once: npm's echo of the same Ctrl-C, which must not cut the drain short.
    child.kill('SIGTERM');
    const closed = once(child, 'exit') as Promise<[number]>;
    const again = setInterval(() => child.kill('SIGTERM'), ECHO_MS / 5);
    const began = performance.now();
    const [code] = await closed;
    clearInterval(again);
    expect(performance.now() - began).toBeGreaterThan(ECHO_MS * 0.6);
    expect(code).toBe(130);
  });
});
