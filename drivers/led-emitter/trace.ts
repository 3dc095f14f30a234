import { replyDecoder } from '../../src/device/reply-trace.js'
import type { TraceFactory } from '../../src/device/trace-contract.js'
import { BAUD, SETTINGS } from './protocol.js'

/** Its serial line only: the states, which are secret, go over USB, which is not traced. */
export const trace: TraceFactory = {
  settings: () => ({ baudRate: BAUD, softwareFlowControl: false }),
  spokenTo: true,
  createDecoder: () =>
    replyDecoder({
      strayIsSecret: false,
      command: (bytes) =>
        Buffer.from(bytes).equals(Buffer.from(SETTINGS)) ? { label: 'settings: 10 MHz, 7 ns', answer: [] } : undefined,
    }),
}
