import { callerOf, type GatewayCall, headerIn, headersOf, traceOf } from './_gateway.ts';
import { given, type Json, numberOf, objectIn, own, textIn } from './_reading.ts';

/** Records `{request: {method, uri, headers}, response: {status, headers}, ...}`, as Kong and APISIX write them. */

/** Whether a record has the two halves. */
export function isHttpLog(record: Json): boolean {
  const request = objectIn(record, 'request');
  const named = textIn(request, 'method', 'uri', 'url') !== undefined;
  return named && statusOf(record) !== undefined;
}

function statusOf(record: Json): number | undefined {
  return numberOf(own(objectIn(record, 'response'), 'status'));
}

/** What both gateways write alike. Bodies, cookies and other headers are not looked at. */
export function callOfHttpLog(
  record: Json,
  time: bigint,
): Omit<GatewayCall, 'durationMs' | 'instance'> {
  const request = objectIn(record, 'request');
  const headers = headersOf(own(request, 'headers'));
  const answered = headersOf(own(objectIn(record, 'response'), 'headers'));
  return {
    time,
    rawType: 'request',
    method: textIn(request, 'method'),
    url: textIn(request, 'uri', 'url'),
    host: headerIn(headers, 'host') ?? hostOf(textIn(request, 'url')),
    status: statusOf(record),
    net: callerOf(
      textIn(record, 'client_ip'),
      headerIn(headers, 'x-forwarded-for'),
      headerIn(headers, 'user-agent'),
    ),
    authorization: headerIn(headers, 'authorization'),
    dpop: headerIn(headers, 'dpop'),
    challenge: headerIn(answered, 'www-authenticate'),
    corr: given({
      request_id: headerIn(headers, 'x-request-id'),
      ...traceOf(headerIn(headers, 'traceparent')),
    }),
  };
}

function hostOf(url: string | undefined): string | undefined {
  return /^https?:\/\/([^/?#@\s]{1,255})(?:[/?#]|$)/i.exec(url ?? '')?.[1];
}

/**
 * A gateway's consumer is a client most of all. One that is named by an address of mail is a person, whose name must
 * become a reference.
 */
export function consumerOf(
  name: string | undefined,
  displayed?: string,
): Pick<GatewayCall, 'client' | 'person'> {
  if (name === undefined) return {};
  if (name.includes('@')) return { person: name };
  const shown = displayed?.includes('@') === true || displayed === name ? undefined : displayed;
  return { client: given({ id: name, name: shown }) };
}
