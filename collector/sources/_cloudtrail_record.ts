import type { ParseResult, SourceRecord } from '../../model/define_source.ts';
import type { AuthEventDraft, PrincipalDraft } from '../../model/draft.ts';
import type { Outcome, SubjectType } from '../../model/kinds.ts';
import {
  given,
  isJson,
  type Json,
  lookUp,
  objectIn,
  own,
  refuse,
  textIn,
  timeNs,
  TIME_ALLOWED,
} from './_reading.ts';

/** One record of AWS CloudTrail, for the adapters of services that write there. */
export interface CloudTrailRecord {
  readonly value: Json;
  readonly time: bigint;
  /** `eventSource` without `.amazonaws.com`: `cognito-idp`, `kms`, `sts`. */
  readonly service: string;
  /** `eventName`: `Sign`, `Token_POST`. */
  readonly name: string;
  readonly identity: Json;
  readonly request: Json;
  readonly response: Json;
  readonly additional: Json;
  /** What a record says whatever its service: identity, error, network, correlation. */
  readonly common: Omit<AuthEventDraft, 'kind'>;
}

export type CloudTrailReading =
  { readonly ok: true; readonly record: CloudTrailRecord } | Extract<ParseResult, { ok: false }>;

/** Errors by which AWS says that the caller is not entitled; every other error is a failure. */
const DENIALS = /AccessDenied|UnauthorizedOperation|NotAuthorized|Client\.Unauthorized/;

const SUBJECT_TYPE_OF_IDENTITY: Readonly<Record<string, SubjectType>> = {
  Root: 'user',
  IAMUser: 'user',
  IdentityCenterUser: 'user',
  SAMLUser: 'user',
  AWSService: 'service',
};

/** Values that AWS puts in the place of what it removed. */
const MASKS = new Set(['HIDDEN_DUE_TO_SECURITY_REASONS', '<sensitiveDataRemoved>', '***']);

/** True where AWS removed the value: then it names nothing. */
export function isAwsMask(text: string): boolean {
  return MASKS.has(text) || text.startsWith('HIDDEN_DUE_TO');
}

/**
 * The records in what carries CloudTrail's: a log file (`Records`), a subscription of CloudWatch Logs
 * (`logEvents`, each with its record as text), an event of EventBridge (`detail`). undefined where the value is
 * a record itself. Never throws.
 */
export function unwrapCloudTrail(value: unknown): readonly unknown[] | undefined {
  if (!isJson(value)) return undefined;
  const records = own(value, 'Records');
  if (Array.isArray(records)) return records as readonly unknown[];
  const logEvents = own(value, 'logEvents');
  if (Array.isArray(logEvents)) return (logEvents as readonly unknown[]).map(ofLogEvent);
  const detail = own(value, 'detail');
  return isJson(detail) && textIn(detail, 'eventSource') !== undefined ? [detail] : undefined;
}

/** A log event that holds no JSON stays as it is, and is refused as what it is. */
function ofLogEvent(logEvent: unknown): unknown {
  const message = isJson(logEvent) ? own(logEvent, 'message') : undefined;
  if (typeof message !== 'string') return logEvent;
  try {
    return JSON.parse(message) as unknown;
  } catch {
    return logEvent;
  }
}

/** Reads what every CloudTrail record has; refuses what is none. Never throws. */
export function readCloudTrail(record: SourceRecord): CloudTrailReading {
  if (record.form === 'text') {
    return refused('unsupported_form', 'text: allowed is a JSON object');
  }
  const { value } = record;
  if (!isJson(value)) return refused('not_an_object', 'record: must be a JSON object');
  const source = textIn(value, 'eventSource');
  const name = textIn(value, 'eventName');
  if (source === undefined || name === undefined) {
    return refused(
      'unrecognised_record',
      'record: no CloudTrail record; eventSource and eventName are needed',
    );
  }
  const eventTime = own(value, 'eventTime');
  if (eventTime === undefined) return refused('missing_field', 'eventTime: is required');
  const time = timeNs(eventTime);
  if (time === undefined) return refused('invalid_time', `eventTime: not a time; ${TIME_ALLOWED}`);
  const service = source.replace(/\.amazonaws\.com$/, '');
  return { ok: true, record: recordOf(value, { time, service, name }) };
}

function refused(
  code: Extract<ParseResult, { ok: false }>['code'],
  message: string,
): Extract<ParseResult, { ok: false }> {
  return refuse(code, message) as Extract<ParseResult, { ok: false }>;
}

function recordOf(
  value: Json,
  head: Pick<CloudTrailRecord, 'time' | 'service' | 'name'>,
): CloudTrailRecord {
  const identity = objectIn(value, 'userIdentity');
  return {
    ...head,
    value,
    identity,
    request: objectIn(value, 'requestParameters'),
    response: objectIn(value, 'responseElements'),
    additional: objectIn(value, 'additionalEventData'),
    common: given({
      time: head.time,
      vendor_event_id: textIn(value, 'eventID'),
      raw_type: head.name,
      instance: textIn(value, 'awsRegion'),
      source_tenant: textIn(value, 'recipientAccountId') ?? textIn(identity, 'accountId'),
      outcome: outcomeOf(value),
      error: errorOf(value),
      actor: principalOf(identity),
      net: given({
        client_ip: textIn(value, 'sourceIPAddress'),
        user_agent: textIn(value, 'userAgent'),
      }),
      corr: given({ request_id: textIn(value, 'requestID') }),
    }),
  };
}

function outcomeOf(value: Json): Outcome {
  const code = textIn(value, 'errorCode');
  if (code === undefined) return 'success';
  return DENIALS.test(code) ? 'denied' : 'failure';
}

function errorOf(value: Json): AuthEventDraft['error'] {
  const code = textIn(value, 'errorCode');
  if (code === undefined) return undefined;
  return given({ code, detail: textIn(value, 'errorMessage') });
}

/** Who made the call: an ARN where there is one, else the id that AWS gives the principal. */
function principalOf(identity: Json): PrincipalDraft | undefined {
  const id = textIn(identity, 'arn', 'principalId', 'invokedBy');
  if (id === undefined) return undefined;
  return {
    id,
    type: lookUp(SUBJECT_TYPE_OF_IDENTITY, textIn(identity, 'type') ?? '') ?? 'unknown',
  };
}
