import { type ExpectedPart, replyDecoder, textOf } from '../../src/device/reply-trace.js'
import type { TraceFactory } from '../../src/device/trace-contract.js'
import { answerReader, BAUD, IDENTIFY, identityReader, parseFrame, REGISTERS } from './protocol.js'

function nameOf(address: number): string {
  const found = Object.entries(REGISTERS).find(([, known]) => known === address)
  return found === undefined ? String(address) : found[0]
}

const identity: ExpectedPart = {
  label: (bytes) => `identity: ${textOf(bytes)}`,
  bytes: (held) => identityReader(held)?.used,
  secret: false,
}

const registers: ExpectedPart = {
  label(bytes) {
    try {
      const values = [...(answerReader(bytes)?.value ?? [])]
      return values.map(([address, value]) => `${nameOf(address)} = ${value}`).join(', ')
    } catch {
      return 'damaged answer'
    }
  },
  bytes: (held) => (held[1] === undefined ? undefined : held[1] + 3),
  secret: false,
}

/** Counts are no secret: nothing is masked. */
export const trace: TraceFactory = {
  settings: () => ({ baudRate: BAUD }),
  spokenTo: true,
  createDecoder: () =>
    replyDecoder({
      strayIsSecret: false,
      command(bytes) {
        if (Buffer.from(bytes).equals(Buffer.from(IDENTIFY))) return { label: '*IDN?', answer: [identity] }
        const frame = parseFrame(bytes)
        if (frame === undefined) return undefined
        const name = nameOf(frame.address)
        if (frame.kind === 'write') return { label: `write ${name} = ${frame.data}`, answer: [] }
        return { label: `read ${name}`, answer: [registers] }
      },
    }),
}
