/** Traces of the random sources: states are chosen by their bytes, so those are as secret as a key. */
import { type ExpectedPart, replyDecoder, textOf } from '../../src/device/reply-trace.js'
import type { TraceFactory } from '../../src/device/trace-contract.js'
import { BAUD as QCICADA_BAUD } from './qcicada-protocol.js'
import { BAUD as SWIFTRNG_BAUD, MODEL, RANDOM, SERIAL_NUMBER, VERSION } from './swiftrng-protocol.js'
import { BAUD as TRUERNG_BAUD } from './truerng-protocol.js'

export const truerngTrace: TraceFactory = {
  settings: () => ({ baudRate: TRUERNG_BAUD, dtr: true }),
  createDecoder: () => ({
    push: (direction, bytes) => [
      {
        label: direction === 'rx' ? `${bytes.length} random bytes` : 'sent, though a TrueRNG takes no commands',
        parts: [{ bytes: Uint8Array.from(bytes), secret: true }],
      },
    ],
    flush: () => [],
  }),
}

const SWIFTRNG_COMMANDS = [
  { name: 'version', question: VERSION, secret: false },
  { name: 'model', question: MODEL, secret: false },
  { name: 'serial number', question: SERIAL_NUMBER, secret: false },
  { name: 'random bytes', question: RANDOM, secret: true },
]

export const swiftrngTrace: TraceFactory = {
  settings: () => ({ baudRate: SWIFTRNG_BAUD, dtr: true }),
  spokenTo: true,
  createDecoder: () =>
    replyDecoder({
      strayIsSecret: true,
      command(bytes) {
        const found = SWIFTRNG_COMMANDS.find(({ question }) => bytes.length === 1 && question.command[0] === bytes[0])
        if (found === undefined) return undefined
        const { name, question, secret } = found
        const said = (answer: Uint8Array): string =>
          secret ? `${answer.length} ${name}` : `${name}: ${textOf(answer)}`
        // What is no text may be random bytes of a question before.
        const hidden = (answer: Uint8Array): boolean => secret || textOf(answer).length < answer.length
        const status = { label: (answer: Uint8Array) => `status ${answer[0] ?? ''}`, bytes: 1, secret: false }
        return { label: `ask for ${name}`, answer: [{ label: said, bytes: question.bytes, secret: hidden }, status] }
      },
    }),
}

const REFUSED = 0x12

/** An answer that begins with its kind, or is a refusal of one byte. */
const reply = (label: string, kind: number, bytes: number): ExpectedPart => ({
  label: (said) => (said[0] === REFUSED ? 'refused' : label),
  bytes: (held) => (held[0] === REFUSED ? 1 : bytes),
  begins: [kind, REFUSED],
  secret: false,
})

const QCICADA_COMMANDS: Readonly<Record<number, { label: string; answer: readonly ExpectedPart[] }>> = {
  0x01: { label: 'ask for status', answer: [reply('status', 0x11, 6)] },
  0x05: { label: 'stop', answer: [reply('status', 0x11, 6)] },
  0x07: { label: 'ask for configuration', answer: [reply('configuration', 0x17, 13)] },
  0x0b: { label: 'ask for information', answer: [reply('information', 0x1b, 57)] },
}

export const qcicadaTrace: TraceFactory = {
  settings: () => ({ baudRate: QCICADA_BAUD }),
  spokenTo: true,
  createDecoder: () =>
    replyDecoder({
      strayIsSecret: true,
      command(bytes) {
        const [kind = 0, , low = 0, high = 0] = bytes
        if (kind !== 0x04) return QCICADA_COMMANDS[kind]
        const length = low | (high << 8)
        const label = `start, ${length} bytes`
        return {
          label,
          answer: [reply('status', 0x11, 6), { label: `${length} random bytes`, bytes: length, secret: true }],
        }
      },
    }),
}
