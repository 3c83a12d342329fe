import { PassThrough } from 'node:stream';
import { describe, expect, it } from 'vitest';
import { createLog } from '../../runtime/log.ts';

function capture(write: (log: ReturnType<typeof createLog>) => void): Record<string, unknown> {
  const out = new PassThrough();
  write(createLog({ level: 'info', destination: out }));
  return JSON.parse((out.read() as Buffer).toString('utf8')) as Record<string, unknown>;
}

describe('log', () => {
  it('writes one JSON object a line with level name and ISO time', () => {
    const line = capture((log) => log.info({ rows: 3 }, 'stored'));
    expect(line).toMatchObject({ level: 'info', service: 'grantscope', rows: 3, msg: 'stored' });
    expect(line['time']).toMatch(/^\d{4}-\d\d-\d\dT[\d:.]+Z$/);
  });

  it('keeps name, code and message of an error and drops what libraries hang on it', () => {
    const error = Object.assign(new Error('refused'), {
      code: 'ECONNREFUSED',
      config: { headers: { authorization: 'Bearer x' } },
      body: 'raw',
    });
    const line = capture((log) => log.error({ err: error }, 'failed'));
    expect(line['err']).toEqual({
      name: 'Error',
      code: 'ECONNREFUSED',
      message: 'refused',
      stack: expect.stringContaining('refused') as string,
    });
    expect(JSON.stringify(line)).not.toContain('Bearer');
  });

  it('removes keys that could hold a secret', () => {
    const line = capture((log) =>
      log.info(
        { request: { authorization: 'Bearer x', cookie: 'y', body: 'z', path: '/v1' } },
        'x',
      ),
    );
    expect(line['request']).toEqual({ path: '/v1' });
  });
});
