import { createHash } from 'node:crypto';
import { DeadLetters } from '../../collector/dead_letters/dead_letters.ts';
import { Pipeline } from '../../collector/pipeline.ts';
import { createScrubber } from '../../collector/processors/scrub.ts';
import { otelTracesTable, type OtelSpanRow } from '../../collector/receivers/otlp/rows.ts';
import grantscopeSource from '../../collector/sources/grantscope.ts';
import type { TableRows } from '../../collector/ingest.ts';
import { Spool } from '../../collector/spool/spool.ts';
import { Writer } from '../../collector/writer.ts';
import type { TableSpec } from '../../model/table_spec.ts';
import { KeyRing } from '../../runtime/keyring.ts';
import { createLog } from '../../runtime/log.ts';
import { Metrics } from '../../runtime/metrics.ts';
import { Hints } from '../../runtime/signals.ts';
import { TEST_KEY } from '../harness.ts';
import { readRows } from './native_rows.ts';
import { Random } from './random.ts';
import { SimulatedDisk, type DiskBugs } from './simulated_disk.ts';
import { SimulatedStore, type Row, type StoreBugs } from './simulated_store.ts';
import { SimulatedTime } from './simulated_time.ts';

// One run: real Pipeline, Spool and Writer between clients that send again what was not acknowledged, a disk, a
// clock and a store that fail as the seed says. At the end the faults stop, everything drains, and the ledger of
// what was acknowledged is compared with what is stored.

export interface Bugs extends DiskBugs, StoreBugs {
  /** Requests are told apart although they are equal. */
  readonly requestsNotRecognised?: boolean;
  /** A refused request is acknowledged. */
  readonly refusalAcknowledged?: boolean;
}

interface SentEvent {
  readonly id: string;
  /** As it must be stored. */
  readonly timeNs: bigint;
  readonly clientId: string;
  readonly scopes: readonly string[];
  readonly status: number;
}

interface SentRequest {
  readonly events: readonly SentEvent[];
  /** Span ids. */
  readonly spans: readonly {
    readonly id: string;
    readonly timeNs: bigint;
    readonly name: string;
  }[];
  readonly contentHash: string;
}

export interface Verdict {
  readonly acknowledgedEvents: number;
  readonly acknowledgedSpans: number;
  /** Empty where all is well. */
  readonly faults: readonly string[];
  /** What the run went through, to see that the faults happen. */
  readonly seen: Readonly<Record<string, number>>;
}

const FOLDER = '/data/spool';
const EVENTS = 'grantscope.auth_events';
const SPANS = 'grantscope.otel_traces';
const keyRing = KeyRing.fromKey(TEST_KEY);
const scrubber = createScrubber({ extraKeys: [] });
const log = createLog({ level: 'silent' });

class Process {
  isAlive = true;
  hasDied = (): boolean => !this.isAlive;
  spool: Spool | undefined;
  writer: Writer | undefined;
  pipeline: Pipeline | undefined;
  readonly metrics = new Metrics({ processMetrics: false });
}

export async function simulate(seed: number, bugs: Bugs = {}): Promise<Verdict> {
  return new Simulation(seed, bugs).run();
}

class Simulation {
  readonly #random: Random;
  readonly #bugs: Bugs;
  readonly #time = new SimulatedTime();
  readonly #disk: SimulatedDisk;
  readonly #store: SimulatedStore;
  #process = new Process();
  #isOver = false;
  #clientsLeft = 0;
  readonly #sent: SentRequest[] = [];
  readonly #acknowledgedEvents = new Map<string, SentEvent>();
  readonly #acknowledgedSpans = new Set<string>();
  readonly #knownIds = new Set<string>();
  readonly #seen: Record<string, number> = {};
  /** Per run: what can go wrong in it. */
  readonly #plan: {
    readonly flips: boolean;
    readonly clockJumps: boolean;
    readonly rebatches: boolean;
    readonly eio: number;
    readonly storeFaults: number;
    readonly bytesMax: number;
  };

  constructor(seed: number, bugs: Bugs) {
    const random = new Random(seed);
    this.#random = random;
    this.#bugs = bugs;
    this.#disk = new SimulatedDisk(this.#time, random, bugs);
    this.#store = new SimulatedStore(this.#time, random, this.#disk, {
      bugs,
      isEmbedded: random.chance(0.5),
    });
    const rebatches = random.chance(0.5);
    this.#plan = {
      flips: random.chance(0.15),
      // A clock that goes back over a restart hides what was stored before from the look-up by time.
      clockJumps: !rebatches && random.chance(0.5),
      rebatches,
      eio: random.chance(0.4) ? random.next() * 0.1 : 0,
      storeFaults: random.chance(0.7) ? random.next() * 0.6 : 0,
      bytesMax: random.chance(0.3) ? 8_000 : 1_000_000,
    };
  }

  async run(): Promise<Verdict> {
    void this.#keepRunning();
    const clients = this.#random.int(1, 4);
    for (let i = 0; i < clients; i += 1) void this.#client();
    void this.#trouble();
    await this.#time.runUntil(() => this.#isOver, 3_600_000, 'the time of faults is over');
    this.#stopFaults();
    await this.#time.runUntil(() => this.#clientsLeft === 0, 600_000, 'every client is done');
    await this.#time.runUntil(() => this.#isDrained(), 600_000, 'all is stored');
    const probe = this.#newRequest(1, 1);
    const probed = this.#deliver(probe, Number.POSITIVE_INFINITY);
    let isProbed = false;
    void probed.then(() => (isProbed = true));
    await this.#time.runUntil(() => isProbed, 60_000, 'a new request is acknowledged');
    await this.#time.runUntil(() => this.#isDrained(), 60_000, 'a new request is stored');
    // Whatever the store still had in hand when its client gave up lands, too.
    await this.#time.runUntil(() => this.#time.now > 0 && this.#settled(), 300_000, 'the end');
    return this.#verdict();
  }

  #settledAt: number | undefined;
  #settled(): boolean {
    if (this.#settledAt === undefined) {
      this.#settledAt = this.#time.now + 120_000;
      void this.#time.sleep(120_000);
    }
    return this.#time.now >= this.#settledAt;
  }

  #isDrained(): boolean {
    const { spool } = this.#process;
    return spool !== undefined && this.#process.isAlive && spool.bytes === 0;
  }

  #stopFaults(): void {
    this.#disk.faults.full = false;
    this.#disk.faults.eio = 0;
    this.#store.faults.any = 0;
    this.#store.faults.away = false;
  }

  /** Starts a process whenever there is none. */
  async #keepRunning(): Promise<void> {
    for (;;) {
      const process = new Process();
      this.#process = process;
      try {
        await this.#start(process);
        this.#count('starts');
      } catch {
        this.#count('starts refused');
        process.isAlive = false;
      }
      await this.#untilDead(process);
      await this.#time.sleep(this.#random.int(10, 2_000));
    }
  }

  async #untilDead(process: Process): Promise<void> {
    while (process.isAlive) await this.#time.sleep(50);
  }

  async #start(process: Process): Promise<void> {
    const disk = this.#disk.of(process);
    const timers = this.#time.timersOf(process);
    const store = this.#store.of(process);
    const { clock } = this.#time;
    const { metrics } = process;
    const spool = await this.#orDead(
      process,
      Spool.open({
        folder: FOLDER,
        bytesMax: this.#plan.bytesMax,
        commitIntervalMs: 4,
        segmentAgeMsMax: 500,
        segmentRowsMax: 12,
        requestWindowMs: 72 * 3_600_000,
        clock,
        log,
        metrics,
        disk,
        timers,
        newSuffix: () => this.#random.hex(8),
      }),
    );
    const writer = new Writer({
      store,
      spool,
      storedEvents: store.storedEvents,
      clock,
      hints: new Hints(),
      log,
      metrics,
      timers,
    });
    const deadLetters = new DeadLetters({
      keyRing,
      scrubber,
      clock,
      metrics,
      tenant: 'default',
      clientIp: 'keep',
      perMinuteMax: 1_000,
    });
    const tenant = 'default';
    process.pipeline = new Pipeline({
      spool,
      keyRing,
      scrubber,
      clock,
      metrics,
      tenant,
      clientIp: 'keep',
      deadLetters,
    });
    process.spool = spool;
    process.writer = writer;
    writer.start();
  }

  /** A dead process's start never ends. */
  #orDead<T>(process: Process, work: Promise<T>): Promise<T> {
    return Promise.race([
      work,
      this.#untilDead(process).then((): T => {
        throw new Error('killed while it started');
      }),
    ]);
  }

  /** Kills, power losses, restarts, full disks, an absent store, clock jumps: until the run is over. */
  async #trouble(): Promise<void> {
    const rounds = this.#random.int(3, 10);
    for (let round = 0; round < rounds; round += 1) {
      this.#disk.faults.eio = this.#random.chance(0.5) ? this.#plan.eio : 0;
      this.#store.faults.any = this.#random.chance(0.7) ? this.#plan.storeFaults : 0;
      await this.#time.sleep(this.#random.int(1, this.#random.chance(0.15) ? 90_000 : 1_500));
      const trouble = this.#random.pick([
        'kill',
        'kill',
        'power loss',
        'power loss',
        'restart',
        'disk full',
        'store away',
        'clock',
      ] as const);
      this.#count(trouble);
      if (trouble === 'kill') this.#kill();
      else if (trouble === 'power loss') {
        this.#kill();
        this.#disk.powerLost();
        if (this.#plan.flips && this.#disk.flipSomeBit(FOLDER)) this.#count('flips');
      } else if (trouble === 'restart') await this.#stop();
      else if (trouble === 'disk full') {
        this.#disk.faults.full = true;
        await this.#time.sleep(this.#random.int(10, 5_000));
        this.#disk.faults.full = false;
      } else if (trouble === 'store away') {
        this.#store.faults.away = true;
        await this.#time.sleep(this.#random.int(100, 180_000));
        this.#store.faults.away = false;
      } else if (this.#plan.clockJumps) {
        this.#time.wallOffsetMs += this.#random.int(-7_200_000, 7_200_000);
      }
    }
    this.#isOver = true;
  }

  #kill(): void {
    this.#process.isAlive = false;
    this.#disk.killed(this.#process);
  }

  async #stop(): Promise<void> {
    const { spool, writer } = this.#process;
    const process = this.#process;
    if (spool === undefined || writer === undefined) return;
    const stopped = spool.close().then(() => writer.drain(20_000));
    await Promise.race([stopped, this.#time.sleep(60_000)]);
    if (process === this.#process) this.#kill();
  }

  /** Sends requests until the time of faults is over; each until it is acknowledged or given up. */
  async #client(): Promise<void> {
    this.#clientsLeft += 1;
    while (!this.#isOver) {
      await this.#time.sleep(this.#random.int(1, this.#random.chance(0.1) ? 20_000 : 400));
      const request = this.#newRequest(this.#random.int(0, 4), this.#random.int(0, 2));
      const tries = this.#random.chance(0.2) ? this.#random.int(1, 3) : Number.POSITIVE_INFINITY;
      const sendings = [this.#deliver(request, tries)];
      // Some senders have several requests on the way, and some send one twice.
      if (this.#random.chance(0.3)) sendings.push(this.#deliver(this.#newRequest(2, 1), tries));
      if (this.#random.chance(0.1)) sendings.push(this.#deliver(request, tries));
      if (this.#random.chance(0.1) && this.#sent.length > 0)
        sendings.push(this.#deliver(this.#random.pick(this.#sent), 2));
      await Promise.all(sendings);
    }
    this.#clientsLeft -= 1;
  }

  async #deliver(request: SentRequest, triesMax: number): Promise<void> {
    for (let tries = 0; tries < triesMax; tries += 1) {
      if (await this.#send(request)) {
        for (const event of request.events) this.#acknowledgedEvents.set(event.id, event);
        for (const span of request.spans) this.#acknowledgedSpans.add(span.id);
        return;
      }
      await this.#time.sleep(this.#random.int(5, 50) * 2 ** Math.min(tries, 7));
    }
  }

  /** True where the request was acknowledged. */
  async #send(request: SentRequest): Promise<boolean> {
    const process = this.#process;
    if (!process.isAlive || process.pipeline === undefined) return false;
    const answer = process.pipeline
      .ingest({
        receiver: 'grantscope',
        records: request.events.map((e) => ({
          source: grantscopeSource,
          record: { form: 'json', value: wireForm(e) },
        })),
        tables: spanRows(request),
        contentHash:
          this.#bugs.requestsNotRecognised === true ? this.#random.hex(64) : request.contentHash,
      })
      .then(
        () => 'acknowledged',
        () => (this.#bugs.refusalAcknowledged === true ? 'acknowledged' : 'refused'),
      );
    // The answer of a process that died meanwhile never arrives; and sometimes the network loses one.
    const patience = this.#time.sleep(this.#random.int(20, 3_000)).then(() => 'nothing');
    const result = await Promise.race([answer, patience]);
    this.#count(`answer: ${result}`);
    if (process.hasDied() || this.#random.chance(0.05)) return false;
    return result === 'acknowledged';
  }

  #newRequest(eventCount: number, spanCount: number): SentRequest {
    const timeNs = BigInt(Math.floor(Date.UTC(2026, 2, 1) + this.#time.now)) * 1_000_000n;
    const events: SentEvent[] = Array.from({ length: eventCount }, () => ({
      id: this.#newId(),
      timeNs,
      clientId: `client-${this.#random.hex(2)}`,
      scopes: ['openid', `scope-${this.#random.hex(3)}`],
      status: this.#random.int(200, 599),
    }));
    // A shipper that lost its place sends events again among others.
    if (this.#plan.rebatches && this.#sent.length > 0 && this.#random.chance(0.3)) {
      const again = this.#random.pick(this.#sent).events;
      events.push(...again.slice(0, this.#random.int(0, again.length)));
      this.#count('rebatched');
    }
    const spans = Array.from({ length: spanCount }, () => ({
      id: this.#newId().replaceAll('-', ''),
      timeNs,
      name: `span-${this.#random.hex(4)}`,
    }));
    const contentHash = createHash('sha256')
      .update([...events, ...spans].map((e) => e.id).join())
      .update(String(this.#sent.length))
      .digest('hex');
    const request = { events, spans, contentHash };
    this.#sent.push(request);
    return request;
  }

  #newId(): string {
    const id = `${this.#random.hex(8)}-${this.#random.hex(4)}-4${this.#random.hex(3)}-8${this.#random.hex(3)}-${this.#random.hex(12)}`;
    this.#knownIds.add(id).add(id.replaceAll('-', ''));
    return id;
  }

  #count(what: string): void {
    this.#seen[what] = (this.#seen[what] ?? 0) + 1;
  }

  #verdict(): Verdict {
    const faults: string[] = [];
    const quarantined = this.#quarantinedRows();
    const inView = countById(this.#store.table(EVENTS).view.rows, 'event_id');
    const events = countById(this.#store.table(EVENTS).base.rows, 'event_id');
    const spansInView = countById(this.#store.table(SPANS).view.rows, 'TraceId');
    const spans = countById(this.#store.table(SPANS).base.rows, 'TraceId');
    const check = (kind: string, owed: Iterable<string>, base: Counts, view: Counts): void => {
      const lost = [...owed].filter((id) => !base.has(id));
      if (lost.length > (this.#plan.flips ? quarantined : 0))
        faults.push(`${kind}: ${lost.length} lost, ${quarantined} in quarantine: ${lost[0] ?? ''}`);
      const doubled = [...base].filter(([, n]) => n > 1);
      if (doubled.length > 0)
        faults.push(`${kind}: ${doubled.length} doubled: ${doubled[0]?.[0] ?? ''}`);
      const unequal = [...base].filter(([id, n]) => view.get(id) !== n);
      if (unequal.length > 0 || view.size !== base.size)
        faults.push(`${kind}: the view differs in ${unequal.length}: ${unequal[0]?.[0] ?? ''}`);
      const unknown = [...base.keys()].filter((id) => !this.#knownIds.has(id));
      if (unknown.length > 0) faults.push(`${kind}: ${unknown.length} that nobody sent`);
    };
    check('events', this.#acknowledgedEvents.keys(), events, inView);
    check('spans', this.#acknowledgedSpans, spans, spansInView);
    for (const row of this.#store.table(EVENTS).base.rows) {
      const sent = this.#acknowledgedEvents.get(String(row['event_id']));
      if (sent !== undefined && !isAsSent(row, sent)) faults.push(`event ${sent.id} was changed`);
    }
    if (!this.#plan.flips && quarantined > 0)
      for (const name of this.#disk.names(`${FOLDER}/quarantine`))
        if (!name.endsWith('.stray')) faults.push(`${name} is in quarantine without damage`);
    return {
      acknowledgedEvents: this.#acknowledgedEvents.size,
      acknowledgedSpans: this.#acknowledgedSpans.size,
      faults,
      seen: this.#seen,
    };
  }

  /** Rows that the blocks in quarantine say they hold, or may hold. */
  #quarantinedRows(): number {
    let rows = 0;
    for (const name of this.#disk.names(`${FOLDER}/quarantine`)) {
      const bytes = this.#disk.contentOf(`${FOLDER}/quarantine/${name}`)!;
      try {
        rows += readRows(bytes).length;
      } catch {
        rows += 20;
      }
    }
    return rows;
  }
}

type Counts = ReadonlyMap<string, number>;

function countById(rows: readonly Row[], column: string): Map<string, number> {
  const counts = new Map<string, number>();
  for (const row of rows)
    counts.set(String(row[column]), (counts.get(String(row[column])) ?? 0) + 1);
  return counts;
}

function wireForm(e: SentEvent): unknown {
  return {
    event_id: e.id,
    time: e.timeNs.toString(),
    kind: 'token_issued',
    outcome: 'success',
    grant_type: 'client_credentials',
    issuer: 'https://as.example',
    client: { id: e.clientId },
    scopes_granted: e.scopes,
    http: { status: e.status },
  };
}

function isAsSent(row: Row, sent: SentEvent): boolean {
  const stored = [row['time'], row['client_id'], row['http_status'], row['kind'], row['issuer']];
  const expected = [sent.timeNs, sent.clientId, sent.status, 'token_issued', 'https://as.example'];
  const scopes = row['scopes_granted'] as string[];
  return stored.every((value, i) => value === expected[i]) && scopes.join() === sent.scopes.join();
}

function spanRows(request: SentRequest): TableRows[] {
  const rows: OtelSpanRow[] = request.spans.map((s) => ({
    timestamp: s.timeNs,
    traceId: s.id,
    spanId: s.id.slice(0, 16),
    parentSpanId: '',
    traceState: '',
    spanName: s.name,
    spanKind: 'Server',
    serviceName: 'as',
    resourceAttributes: { 'service.name': 'as' },
    scopeName: '',
    scopeVersion: '',
    spanAttributes: { 'http.route': '/token' },
    duration: 5_000_000n,
    statusCode: 'Unset',
    statusMessage: '',
    events: [],
    links: [],
  }));
  return rows.length === 0 ? [] : [{ spec: otelTracesTable as TableSpec<unknown>, rows }];
}
