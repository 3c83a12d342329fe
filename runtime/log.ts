import { pino, type Logger, type DestinationStream } from 'pino';

export type Log = Logger;
export const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

/**
 * One JSON object a line on stderr (stdout is for results). Keys that could hold a secret are removed by
 * pino as a second fence; the first is that nothing raw is ever passed to a logger.
 */
export function createLog(options: { level: LogLevel; destination?: DestinationStream }): Log {
  return pino(
    {
      level: options.level,
      base: { service: 'grantscope' },
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      redact: {
        paths: [
          '*.authorization',
          '*.cookie',
          '*.token',
          '*.secret',
          '*.password',
          '*.body',
          '*.headers',
        ],
        remove: true,
      },
      serializers: { err: serializeError },
    },
    options.destination ?? pino.destination({ dest: 2, sync: false }),
  );
}

/** Keeps name, code, message and stack; drops every other property, since libraries hang payloads on errors. */
function serializeError(error: unknown): Record<string, unknown> {
  if (!(error instanceof Error)) return { message: String(error) };
  const code: unknown = 'code' in error ? error.code : undefined;
  return {
    name: error.name,
    ...(typeof code === 'string' || typeof code === 'number' ? { code } : {}),
    message: error.message.slice(0, 2_000),
    stack: error.stack?.slice(0, 4_000),
  };
}
