import { createServer } from 'node:http';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { temporaryFolder } from '../harness.ts';
import { startServer, type ServerProcess } from '../server_process.ts';

// The product's own traces: sent where OTEL_EXPORTER_OTLP_ENDPOINT says, and free of payloads.

interface OtlpSpan {
  readonly name: string;
  readonly attributes: readonly { key: string; value: Record<string, unknown> }[];
}

const folder = temporaryFolder();
const bodies: string[] = [];
const sink = createServer((request, response) => {
  const chunks: Buffer[] = [];
  request.on('data', (c: Buffer) => chunks.push(c));
  request.on('end', () => {
    if (request.url === '/v1/traces') bodies.push(Buffer.concat(chunks).toString('utf8'));
    response.writeHead(200, { 'content-type': 'application/json' }).end('{}');
  });
});
let server: ServerProcess;
beforeAll(async () => {
  sink.listen(0, '127.0.0.1');
  await once(sink, 'listening');
  server = await startServer(folder.path, {
    OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${(sink.address() as AddressInfo).port}`,
  });
});
afterAll(async () => {
  await server.kill();
  sink.close();
  folder.remove();
});

describe('own traces', () => {
  it('tell of inserts and API requests, and hold no client and no token', async () => {
    const event = {
      time: new Date().toISOString(),
      kind: 'token_issued',
      outcome: 'success',
      client: { id: 'traced-client' },
      tokens: [{ role: 'issued', type: 'access', value: 'opaque-value-of-a-token-0123456789' }],
    };
    const answer = await fetch(`${server.collectorUrl}/v1/events/grantscope`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(event),
    });
    expect(answer.status).toBe(200);
    await fetch(`${server.apiUrl}/api/v1/findings?client_id=traced-client`);
    // Stopping drains: what was accepted is inserted, and the last spans are flushed.
    expect(await server.stop()).toBe(0);
    const spans = bodies.flatMap((body) =>
      (
        JSON.parse(body) as { resourceSpans: { scopeSpans: { spans: OtlpSpan[] }[] }[] }
      ).resourceSpans.flatMap((r) => r.scopeSpans.flatMap((s) => s.spans)),
    );
    const attributesOf = (name: string): Record<string, unknown>[] =>
      spans
        .filter((s) => s.name === name)
        .map((s) =>
          Object.fromEntries(s.attributes.map((a) => [a.key, Object.values(a.value)[0]])),
        );
    expect(attributesOf('store.insert')).toEqual([{ table: 'grantscope.auth_events', rows: 1 }]);
    expect(attributesOf('api.request')).toEqual([
      { 'http.route': '/api/v1/findings', 'http.request.method': 'GET' },
    ]);
    expect(bodies.join()).toContain('"grantscope"');
    expect(bodies.join()).not.toMatch(/traced-client|opaque-value/);
  });
});
