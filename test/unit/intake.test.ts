import { describe, expect, it } from 'vitest';
import { Intake, type IntakeOptions } from '../../collector/receivers/intake.ts';
import { TokenBucket } from '../../collector/token_bucket.ts';
import { ManualClock } from '../../runtime/clock.ts';
import { GrantscopeError } from '../../runtime/errors.ts';
import { Metrics } from '../../runtime/metrics.ts';

function open(limits: Partial<IntakeOptions> = {}) {
  const clock = new ManualClock(1_700_000_000_000);
  const metrics = new Metrics({ processMetrics: false });
  const intake = new Intake({
    requestsMax: 2,
    bodyBytesMax: 100,
    rates: {},
    clock,
    metrics,
    ...limits,
  });
  const value = async (name: string): Promise<number> =>
    (await metrics.registry.getSingleMetric(name)?.get())?.values[0]?.value ?? 0;
  const counted = async (name: string): Promise<Record<string, number>> => {
    const metric = await metrics.registry.getSingleMetric(name)?.get();
    return Object.fromEntries(
      (metric?.values ?? []).map((v) => [Object.values(v.labels).join(' '), v.value]),
    );
  };
  return { clock, intake, value, counted };
}

function refusal(
  work: () => void,
): Pick<GrantscopeError, 'code' | 'retryAfterSeconds'> | undefined {
  try {
    work();
    return undefined;
  } catch (error) {
    if (!(error instanceof GrantscopeError)) throw error;
    return { code: error.code, retryAfterSeconds: error.retryAfterSeconds };
  }
}

describe('the token bucket', () => {
  it('gives what is there, and fills at its rate up to the burst', () => {
    const clock = new ManualClock(0);
    const bucket = new TokenBucket({ perSecond: 10, burst: 20 }, clock);
    expect([bucket.take(20), bucket.take(1)]).toEqual([true, false]);
    clock.advance(500);
    expect([bucket.take(6), bucket.take(5), bucket.take(1)]).toEqual([false, true, false]);
    clock.advance(60_000);
    expect([bucket.take(21), bucket.take(20)]).toEqual([false, true]);
  });

  it('says how long a debt takes, and neither loses nor invents tokens when the clock jumps', () => {
    const clock = new ManualClock(100_000);
    const bucket = new TokenBucket({ perSecond: 10, burst: 20 }, clock);
    bucket.spend(119);
    expect(bucket.waitSeconds).toBe(10);
    clock.advance(-50_000);
    expect(bucket.waitSeconds).toBe(10);
    clock.advance(9_000);
    expect(bucket.waitSeconds).toBeCloseTo(1, 9);
    clock.advance(1_000);
    expect(bucket.waitSeconds).toBe(0);
  });
});

describe('the intake', () => {
  it('bounds requests at a time over all receivers, and counts refusals by receiver', async () => {
    const { intake, value, counted } = open();
    const first = intake.begin('envoy');
    first.admit();
    const second = intake.begin('otlp');
    second.admit();
    const third = intake.begin('envoy');
    expect(refusal(() => third.admit())).toEqual({
      code: 'overloaded',
      retryAfterSeconds: undefined,
    });
    third.answered(503);
    expect(await value('grantscope_requests_in_flight')).toBe(2);
    first.answered(200);
    const fourth = intake.begin('envoy');
    fourth.admit();
    fourth.answered(200);
    second.answered(400);
    expect(await value('grantscope_requests_in_flight')).toBe(0);
    expect(await counted('grantscope_requests_total')).toEqual({
      'envoy 503': 1,
      'envoy 200': 2,
      'otlp 400': 1,
    });
    expect(await counted('grantscope_requests_limited_total')).toEqual({
      'envoy requests_in_flight': 1,
    });
  });

  it('bounds bytes at a time over all requests, and takes them back with the answer', async () => {
    const { intake, value, counted } = open();
    const first = intake.begin('envoy');
    first.take(60);
    const second = intake.begin('keycloak');
    second.take(40);
    expect(refusal(() => second.take(1))?.code).toBe('overloaded');
    second.answered(503);
    expect(await value('grantscope_body_bytes_in_flight')).toBe(60);
    first.giveBack(50);
    first.take(90);
    first.answered(200);
    expect(await value('grantscope_body_bytes_in_flight')).toBe(0);
    expect(await counted('grantscope_requests_limited_total')).toEqual({
      'keycloak body_bytes_in_flight': 1,
    });
  });

  it('bounds each source by itself: beyond its rate it waits until the debt is paid', async () => {
    const rates = { envoy: { records_per_second: 100, burst_seconds: 2 } };
    const { clock, intake, counted } = open({ rates });
    const admitted = (source: string) => refusal(() => intake.admit(source));
    expect(admitted('envoy')).toBeUndefined();
    // More than the burst in one request gets through; who comes next waits.
    intake.spendRecords('envoy', 1_199);
    expect(admitted('envoy')).toEqual({ code: 'rate_limited', retryAfterSeconds: 10 });
    expect(admitted('keycloak')).toBeUndefined();
    clock.advance(9_990);
    expect(admitted('envoy')).toEqual({ code: 'rate_limited', retryAfterSeconds: 1 });
    clock.advance(10);
    expect(admitted('envoy')).toBeUndefined();
    expect(await counted('grantscope_requests_limited_total')).toEqual({
      'envoy records_per_second': 2,
    });
  });

  it('holds the rate over time, whatever the size of the requests', () => {
    const rates = { envoy: { bytes_per_second: 1_000, burst_seconds: 1 } };
    const { clock, intake } = open({ rates });
    let bytes = 0;
    for (let ms = 0; ms < 100_000; ms += 10) {
      const size = 1 + ((ms * 7_919) % 4_001);
      if (refusal(() => intake.admit('envoy')) === undefined) {
        intake.spendBytes('envoy', size);
        bytes += size;
      }
      clock.advance(10);
    }
    expect(bytes).toBeGreaterThanOrEqual(99_000);
    expect(bytes).toBeLessThanOrEqual(100_000 + 1_000 + 4_001);
  });

  it('tells nobody to wait longer than a minute', () => {
    const { intake } = open({ rates: { envoy: { records_per_second: 0.001, burst_seconds: 2 } } });
    intake.spendRecords('envoy', 1_000_000);
    expect(refusal(() => intake.admit('envoy'))?.retryAfterSeconds).toBe(60);
  });
});
