import { replyDecoder, textOf } from '../../src/device/reply-trace.js'
import type { TraceFactory } from '../../src/device/trace-contract.js'
import { BAUD, START, STOP } from './protocol.js'

function meaningOf(byte: number): string {
  if (byte === START[0]) return 'start'
  return byte === STOP[0] ? 'stop' : `set up ${textOf(Uint8Array.of(byte))}`
}

/** Its serial line only: detections come over USB, which is not traced. */
export const trace: TraceFactory = {
  settings: () => ({ baudRate: BAUD }),
  spokenTo: true,
  createDecoder: () =>
    replyDecoder({
      strayIsSecret: false,
      command: (bytes) => ({ label: Array.from(bytes, meaningOf).join(', '), answer: [] }),
    }),
}
