import { lineLength, replyDecoder, textOf } from '../../src/device/reply-trace.js'
import type { TraceFactory } from '../../src/device/trace-contract.js'
import { BAUD } from './protocol.js'

/** Counts are no secret: nothing is masked. */
export const trace: TraceFactory = {
  settings: () => ({ baudRate: BAUD }),
  spokenTo: true,
  createDecoder: () =>
    replyDecoder({
      strayIsSecret: false,
      command(bytes) {
        const text = textOf(bytes)
        const answer = { label: (line: Uint8Array) => `answer: ${textOf(line)}`, bytes: lineLength, secret: false }
        return { label: `command ${text}`, answer: text.includes('?') ? [answer] : [] }
      },
    }),
}
