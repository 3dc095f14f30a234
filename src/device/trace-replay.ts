/** A serial driver fed from a wire trace: `attach replay:FILE --driver qix`. */
import { closeSync, openSync, readSync } from 'node:fs'
import { GatewayError, messageOf } from '../base/errors.js'
import { createMemoryLines, MEMORY_PREFIX } from '../io/memory-line.js'
import { readTraceFile, replayTrace, TRACE_FORMAT } from '../io/wire-trace.js'
import type { DriverContext } from './contract.js'

/** Device arguments that begin so name a file. */
export const REPLAY_PREFIX = 'replay:'
/** Driver option: `recorded` (default), `full`, or how many times as fast. */
export const REPLAY_SPEED_OPTION = 'replay-speed'

const LINE_NAME = 'replay'
const HEADER_BYTES = 4_096

/** The first line of a wire trace; undefined where the file is none or is not there. */
function headerOf(file: string): object | undefined {
  const buffer = Buffer.alloc(HEADER_BYTES)
  try {
    const descriptor = openSync(file, 'r')
    try {
      const text = buffer.subarray(0, readSync(descriptor, buffer, 0, HEADER_BYTES, 0)).toString('utf8')
      const header: unknown = JSON.parse(text.split('\n', 1)[0] ?? '')
      if (typeof header !== 'object' || header === null || !('format' in header)) return undefined
      return header.format === TRACE_FORMAT ? header : undefined
    } finally {
      closeSync(descriptor)
    }
  } catch {
    return undefined
  }
}

/** The driver that a wire trace was recorded of; undefined where the file is no trace, is not there or does not say. */
export function recordedDriver(file: string): string | undefined {
  const header = headerOf(file)
  return header !== undefined && 'driver' in header && typeof header.driver === 'string' ? header.driver : undefined
}

/** `recorded`, `full` or a factor above zero, as a factor. Throws E_CONFIG. */
export function parseReplaySpeed(text: string, what: string): number {
  if (text === 'recorded') return 1
  if (text === 'full') return Infinity
  const factor = Number(text)
  if (factor > 0 && Number.isFinite(factor)) return factor
  throw new GatewayError('E_CONFIG', `${what}: "${text}" is no speed`, {
    remedy: 'write recorded, full, or how many times as fast, for example 10',
  })
}

/**
 * For a device argument `replay:FILE`, a context in which the driver opens a line that says what the device said in that
 * trace; after its end the cable counts as pulled. Any other context is handed back as it is. Throws E_CONFIG,
 * and E_FORMAT where the key bytes were masked when it was recorded.
 */
export function withTraceReplay(context: DriverContext): DriverContext {
  const { device, clock, log } = context
  if (!device.startsWith(REPLAY_PREFIX)) return context
  const file = device.slice(REPLAY_PREFIX.length)
  const header = headerOf(file)
  if (header !== undefined && 'masked' in header && header.masked === true)
    throw new GatewayError('E_FORMAT', `${file}: the key bytes of this trace were masked when it was recorded`, {
      remedy: 'record it again with --show-keys; it is secret then',
    })
  const { [REPLAY_SPEED_OPTION]: speedText = 'recorded', ...options } = context.options
  const speed = parseReplaySpeed(speedText, REPLAY_SPEED_OPTION)
  const lines = createMemoryLines()
  const line = lines.create(LINE_NAME)
  const path = `${MEMORY_PREFIX}${LINE_NAME}`
  return {
    ...context,
    device: path,
    options,
    io: {
      async openSerial(asked, settings, signal) {
        const transport = await lines.openSerial(asked, settings, signal)
        const playing = new AbortController()
        transport.onClose(() => playing.abort())
        // Not before the driver listens, which it does as soon as it has the transport.
        clock.after(0, () => {
          replayTrace(readTraceFile(file), line, { clock, speed, signal: playing.signal })
            .catch((error: unknown) => {
              if (!playing.signal.aborted)
                log.error({ file, reason: messageOf(error) }, 'the trace could not be played')
            })
            .finally(() => void line.unplug())
        })
        return transport
      },
      watchPath: (watched, listener) => lines.watch(watched, listener),
      resolvePath: (asked) => (lines.isPresent(asked) ? asked : undefined),
      stableNameOf: (asked) => asked,
    },
  }
}
