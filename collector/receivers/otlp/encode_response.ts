/** Encodings of OTLP/HTTP. */
export type Encoding = 'protobuf' | 'json';

export interface PartialSuccess {
  /** Spans or log records that were not taken. */
  readonly rejected: number;
  /** English, for the sender's log. */
  readonly errorMessage: string;
}

/** The codes of google.rpc.Code that are used. */
export const RPC_CODE = {
  invalidArgument: 3,
  deadlineExceeded: 4,
  resourceExhausted: 8,
  unimplemented: 12,
  internal: 13,
  unavailable: 14,
} as const;

/**
 * An ExportTraceServiceResponse or ExportLogsServiceResponse (they differ in one JSON name). Without `partial`
 * the field `partial_success` is absent, which the specification asks for on full success.
 */
export function encodeExportResponse(
  encoding: Encoding,
  rejectedName: 'rejectedSpans' | 'rejectedLogRecords',
  partial: PartialSuccess | undefined,
): Buffer {
  if (encoding === 'json') {
    const body =
      partial === undefined
        ? {}
        : {
            partialSuccess: {
              // An int64: text in the proto3 JSON mapping.
              [rejectedName]: String(partial.rejected),
              errorMessage: partial.errorMessage,
            },
          };
    return Buffer.from(JSON.stringify(body));
  }
  if (partial === undefined) return Buffer.alloc(0);
  const inner = Buffer.concat([
    varintField(1, partial.rejected),
    textField(2, partial.errorMessage),
  ]);
  return bytesField(1, inner);
}

/** A google.rpc.Status: `code` and `message`. */
export function encodeStatus(encoding: Encoding, code: number, message: string): Buffer {
  if (encoding === 'json') return Buffer.from(JSON.stringify({ code, message }));
  return Buffer.concat([varintField(1, code), textField(2, message)]);
}

/** Absent where 0, as proto3 has it. `value` is a non-negative safe integer. */
function varintField(field: number, value: number): Buffer {
  return value === 0 ? Buffer.alloc(0) : Buffer.from([field << 3, ...varint(value)]);
}

function textField(field: number, text: string): Buffer {
  return text === '' ? Buffer.alloc(0) : bytesField(field, Buffer.from(text, 'utf8'));
}

function bytesField(field: number, bytes: Buffer): Buffer {
  return Buffer.concat([Buffer.from([(field << 3) | 2, ...varint(bytes.length)]), bytes]);
}

function varint(value: number): number[] {
  const bytes: number[] = [];
  let rest = value;
  while (rest >= 0x80) {
    bytes.push((rest % 0x80) | 0x80);
    rest = Math.floor(rest / 0x80);
  }
  bytes.push(rest);
  return bytes;
}
