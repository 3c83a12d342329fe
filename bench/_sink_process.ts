import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';

/**
 * A ClickHouse that says yes and keeps nothing: every statement and every insert is read to its end and answered with
 * 200 and no rows. Started by collect.ts, so that the cost of a store is not in the figure of the collector.
 */
let bytes = 0;
const server = createServer((request, response) => {
  request.on('data', (chunk: Buffer) => (bytes += chunk.length));
  request.on('end', () => {
    if (request.url === '/bytes') response.end(String(bytes));
    else response.end();
  });
});
server.listen(0, '127.0.0.1', () => {
  console.log(`sink http://127.0.0.1:${(server.address() as AddressInfo).port}`);
});
process.on('SIGTERM', () => {
  server.close();
  server.closeAllConnections();
});
