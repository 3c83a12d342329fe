import { describe, expect, it } from 'vitest';
import { TIME_ALLOWED } from '../../collector/sources/_reading.ts';
import cloudevents from '../../collector/sources/cloudevents.ts';
import grantscope from '../../collector/sources/grantscope.ts';
import { eventsOf, expected, json, line, RECEIVED_AT, ring, withoutId } from './run_source.ts';

const at = 1_767_225_600_000_000_000n;
const eventId = '7c8d9e0f-2a3b-4c4d-9e5f-6a7b8c9d0001';
const jti = '7c8d9e0f-2a3b-4c4d-9e5f-6a7b8c9d0002';
const traceparent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';
const data = {
  ...{
    kind: 'token_issued',
    outcome: 'success',
    client: { id: 'web' },
    subject: { id: 'u1', type: 'user' },
  },
  tokens: [{ role: 'issued', type: 'access', jti }],
};
const envelope = (more: object = {}) => ({
  ...{ specversion: '1.0', id: 'e-1', source: '/as/eu-1', type: 'com.example.token.issued' },
  ...{ time: '2026-01-01T00:00:00Z', datacontenttype: 'application/json', data },
  ...more,
});
const one = (more: object = {}) => {
  const events = eventsOf(cloudevents, json(envelope(more)));
  expect(events).toHaveLength(1);
  return events[0]!;
};

describe('an AuthEvent in an envelope', () => {
  const wanted = expected(cloudevents, {
    ...{ time: at, kind: 'token_issued', outcome: 'success', client: { id: 'web' } },
    source: { instance: '/as/eu-1', raw_type: 'com.example.token.issued' },
    subject: { ref: ring.ref('subject', 'u1'), type: 'user' },
    tokens: [{ role: 'issued', type: 'access', ref: jti, ref_kind: 'jti' }],
    corr: { trace_id: '0af7651916cd43dd8448eb211c80319c', span_id: 'b7ad6b7169203331' },
    redaction: { fields: ['subject.ref', 'tokens.ref'] },
  });
  const text = JSON.stringify(data);
  it.each([
    ['as an object', { traceparent }],
    ['as text', { traceparent, data: text }],
    [
      'in base64',
      { traceparent, data: undefined, data_base64: Buffer.from(text).toString('base64') },
    ],
  ])('%s', (_, more) => {
    expect(withoutId(one(more))).toEqual(wanted);
  });

  it('goes before what the envelope says', () => {
    const own = {
      ...data,
      event_id: eventId,
      time: '2026-01-02T00:00:00Z',
      source: { instance: 'pod-7', raw_type: 'ISSUE' },
      corr: { trace_id: 'ab'.repeat(16) },
    };
    expect(one({ data: own, traceparent })).toMatchObject({
      ...{ event_id: eventId, time: at + 86_400_000_000_000n },
      source: { instance: 'pod-7', raw_type: 'ISSUE' },
      corr: { trace_id: 'ab'.repeat(16), span_id: '' },
    });
  });

  it('has one id, told by source and id', () => {
    expect(one().event_id).toBe(one({ type: 'other' }).event_id);
    expect(one().event_id).not.toBe(one({ source: '/as/eu-2' }).event_id);
    expect(one().event_id).not.toBe(one({ id: 'e-2' }).event_id);
  });

  it('is refused for what is wrong in it', () => {
    const wrong = { ...data, outcome: 'maybe' };
    const result = cloudevents.parse(json(envelope({ data: wrong })), { received_at: RECEIVED_AT });
    expect(result).toMatchObject({ ok: false, code: 'invalid_field' });
    expect(!result.ok && result.message.startsWith('data.outcome: ')).toBe(true);
  });
});

describe('other data', () => {
  it.each([
    ['another record', { data: { hello: 'hidden-payload' } }, {}],
    ['another kind', { data: { kind: 'constructor' } }, { data_kind: 'constructor' }],
    ['text', { data: 'plain text' }, {}],
    ['none', { data: undefined }, {}],
    ['broken base64', { data: undefined, data_base64: '!!!' }, {}],
  ])('%s stays unclassified', (_, more, ext) => {
    const event = one(more);
    expect([event.kind, event.source.raw_type, event.ext]).toEqual([
      'unclassified',
      'com.example.token.issued',
      ext,
    ]);
  });

  it('without a time is of when it came', () => {
    expect(one({ time: undefined, data: undefined }).time).toBe(RECEIVED_AT);
    expect(one({ time: undefined }).time).toBe(RECEIVED_AT);
  });
});

describe('what is no envelope', () => {
  it.each([
    [
      'no version',
      envelope({ specversion: undefined }),
      'unrecognised_record',
      'record: no CloudEvent; specversion 1.x is needed',
    ],
    [
      'another version',
      envelope({ specversion: '0.3' }),
      'unrecognised_record',
      'record: no CloudEvent; specversion 1.x is needed',
    ],
    ['no id', envelope({ id: '' }), 'missing_field', 'id: is required'],
    ['no source', envelope({ source: {} }), 'missing_field', 'source: is required'],
    ['no type', envelope({ type: undefined }), 'missing_field', 'type: is required'],
    ['a bad time', envelope({ time: 'x' }), 'invalid_time', `time: not a time; ${TIME_ALLOWED}`],
    ['a list', [], 'not_an_object', 'record: must be a JSON object'],
  ])('%s', (_, value, code, message) => {
    expect(cloudevents.parse(json(value), { received_at: RECEIVED_AT })).toEqual({
      ok: false,
      code,
      message,
    });
  });

  it('text', () => {
    const refused = {
      ok: false,
      code: 'unsupported_form',
      message: 'text: allowed is a JSON object',
    };
    expect(cloudevents.parse(line('x'), { received_at: RECEIVED_AT })).toEqual(refused);
  });
});

it('provides what an AuthEvent can hold', () => {
  expect(cloudevents.provides).toEqual(grantscope.provides);
});
