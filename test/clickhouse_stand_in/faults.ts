/** What a ClickHouse server, its machine or the network between do to a request. */
export const FAULTS = [
  /** An exception before anything is executed, of the kind that passes. */
  'exception',
  /** What a proxy answers while the server is away. */
  'unavailable',
  /** The connection ends before anything is executed. */
  'reset_before',
  /** Executed; the connection ends without an answer. */
  'reset_after',
  /** Executed; the server's half of the connection is closed without an answer. */
  'half_closed',
  /** Executed; no answer ever. */
  'no_answer',
  /** Executed; the answer breaks off. */
  'cut_answer',
  /** Executed; the answer takes its time. */
  'slow',
  /** Not executed; status 200, and the exception in the body. */
  'lying_200',
] as const;
export type Fault = (typeof FAULTS)[number];

/** Sent to the stand-in's process. `away` stops listening and ends all connections. */
export type Command =
  | {
      readonly do: 'fault';
      readonly faults: readonly Fault[];
      readonly probability: number;
      readonly seed: number;
    }
  | { readonly do: 'away' }
  | { readonly do: 'back' };

/** Sent back: once when it listens, and after each command. */
export interface Reply {
  readonly port: number;
  /** Requests met by each fault so far. */
  readonly met: Readonly<Record<string, number>>;
}
