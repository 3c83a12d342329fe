import { Agent, request as httpRequest } from 'node:http';
import type { LoadPlan, LoadResult } from './harness/load.ts';
import { BodyFactory, PAYLOADS } from './harness/payloads.ts';
import { quantile, round } from './harness/program.ts';

/** The load generator: started by harness/load.ts with a plan as its argument; prints `started`, then its result. */
const plan = JSON.parse(process.argv[2] ?? '') as LoadPlan;
const { path, contentType } = PAYLOADS[plan.payload];
const agent = new Agent({ keepAlive: true, maxSockets: plan.clients, scheduling: 'fifo' });
const headers = {
  'content-type': contentType,
  ...(plan.gzip ? { 'content-encoding': 'gzip' } : {}),
};
const statuses: Record<string, number> = {};
const latencies: number[] = [];
let bytes = 0;
let requests = 0;

async function post(body: Buffer): Promise<void> {
  const status = await new Promise<string>((resolve) => {
    const options = {
      method: 'POST',
      agent,
      headers: { ...headers, 'content-length': body.length },
    };
    const request = httpRequest(`${plan.url}${path}`, options, (response) => {
      response.resume();
      response.on('end', () => resolve(String(response.statusCode)));
      response.on('error', () => resolve('error'));
    });
    request.on('error', () => resolve('error'));
    request.end(body);
  });
  statuses[status] = (statuses[status] ?? 0) + 1;
  bytes += body.length;
  requests += 1;
}

/** As fast as answers come, from bodies that were built before. */
async function closedLoop(factory: BodyFactory): Promise<number> {
  const now = Date.now();
  const count = Math.ceil(plan.events / plan.batch);
  const bodies = Array.from({ length: count }, (_, i) => factory.make(i, now));
  console.log('started');
  const began = performance.now();
  let next = 0;
  await Promise.all(
    Array.from({ length: plan.clients }, async () => {
      for (let i = next++; i < count; i = next++) {
        const body = bodies[i];
        if (body === undefined) return;
        const sent = performance.now();
        await post(body);
        latencies.push(performance.now() - sent);
      }
    }),
  );
  return (performance.now() - began) / 1_000;
}

/** At a rate, whatever the answers: a late answer counts from when its request was due. */
async function openLoop(factory: BodyFactory): Promise<number> {
  const everyMs = (plan.batch / plan.rate) * 1_000;
  const count = Math.round((plan.seconds * 1_000) / everyMs);
  console.log('started');
  const began = performance.now();
  const inFlight = new Set<Promise<void>>();
  for (let i = 0; i < count; i += 1) {
    const due = began + i * everyMs;
    const wait = due - performance.now();
    if (wait > 1) await new Promise((r) => setTimeout(r, wait));
    const sent = post(factory.make(i, Date.now())).then(() => {
      latencies.push(performance.now() - due);
      inFlight.delete(sent);
    });
    inFlight.add(sent);
    // Node's own queue would grow without end where the server is too slow.
    if (inFlight.size >= plan.clients * 4) await Promise.race(inFlight);
  }
  await Promise.all(inFlight);
  return (performance.now() - began) / 1_000;
}

const factory = new BodyFactory(plan.payload, plan.batch, plan.gzip);
const seconds = plan.rate > 0 ? await openLoop(factory) : await closedLoop(factory);
agent.destroy();
const result: LoadResult = {
  requests,
  events: requests * plan.batch,
  statuses,
  seconds: round(seconds, 3),
  body_bytes: bytes,
  ack_ms: {
    p50: round(quantile(latencies, 0.5)),
    p99: round(quantile(latencies, 0.99)),
    max: round(quantile(latencies, 1)),
  },
};
console.log(JSON.stringify(result));
