import pino, { type Logger as PinoLogger } from 'pino'
import pretty from 'pino-pretty'

/** Structured log. Message first, then facts; key material is never a fact. */
export type Logger = PinoLogger

export interface LogOptions {
  /** pino level name; `silent` turns it off. */
  level: string
  /** Plain text for people, JSON lines for machines. */
  format: 'pretty' | 'json'
  /** Where lines go; default stderr. */
  destination?: NodeJS.WritableStream
}

/**
 * A logger whose destination may fail (a full disk, a closed pipe) without taking the process with it: losing a log
 * line never loses a key.
 */
export function createLogger(options: LogOptions): Logger {
  const destination = options.destination ?? process.stderr
  // The same stream may serve several loggers of one process.
  if (destination.listenerCount('error') === 0) destination.on('error', () => {})
  if (options.format === 'json') return pino({ level: options.level }, destination)
  return pino(
    { level: options.level },
    pretty({
      colorize: 'isTTY' in destination && destination.isTTY === true,
      translateTime: 'SYS:HH:MM:ss.l',
      ignore: 'pid,hostname',
      singleLine: true,
      destination,
    }),
  )
}

/** The same logger for what others tell in their own words: errors only, unless everything is to be heard. */
export function quieter(log: Logger): Logger {
  return log.child({}, log.isLevelEnabled('debug') ? {} : { level: log.isLevelEnabled('error') ? 'error' : log.level })
}

/** A logger that says nothing, for tests. */
export const silentLogger: Logger = pino({ level: 'silent' })
