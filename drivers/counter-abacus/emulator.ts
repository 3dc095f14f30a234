import { z } from 'zod'
import { createAnsweringEmulator } from '../../src/device/answering-emulator.js'
import { parseOptions, wholeNumber } from '../../src/device/driver-options.js'
import type { EmulatorFactory } from '../../src/device/emulator-contract.js'
import { answerFrame, BAUD, IDENTIFY, parseFrame, REGISTERS } from './protocol.js'

const FRAME_BYTES = 8

const optionsSchema = z.strictObject({
  model: z
    .string()
    .regex(/^AB\d{4}$/, 'must be a model such as AB1004')
    .default('AB1004'),
  rate: wholeNumber(0, 10_000_000).prefault('20000'),
  'sampling-ms': wholeNumber(1, 1_000_000).prefault('1000'),
})

/** An Abacus whose coincidences go up and down as if somebody turned a polariser. */
export const emulator: EmulatorFactory = {
  baudRate: BAUD,
  options: {
    model: 'AB1004 and the like; default AB1004',
    rate: 'counts a second on each input; default 20000',
    'sampling-ms': 'length of one count; default 1000',
  },
  create(context) {
    const {
      model,
      rate,
      'sampling-ms': firstSamplingMs,
    } = parseOptions('emulator counter-abacus', optionsSchema, context.options, 'E_USAGE')
    const startMs = context.clock.monotonicMs()
    const set = new Map<number, number>([
      [REGISTERS.sampling, firstSamplingMs],
      [REGISTERS.window, 10],
    ])
    let heard: number[] = []
    let badFrames = 0

    const samplingMs = (): number => Math.max(1, set.get(REGISTERS.sampling) ?? firstSamplingMs)
    const sample = (): number => Math.floor((context.clock.monotonicMs() - startMs) / samplingMs())
    const count = (perSecond: number): number => Math.round((perSecond * samplingMs()) / 1_000)

    function valueOf(address: number): number {
      switch (address) {
        case REGISTERS.dataId:
          return sample()
        case REGISTERS.A:
        case REGISTERS.B:
        case REGISTERS.C:
        case REGISTERS.D:
          return count(rate)
        case REGISTERS.AB:
          return count((rate / 10) * (1 + 0.9 * Math.cos(sample() / 3)))
        default:
          return set.get(address) ?? 0
      }
    }

    function take(): Uint8Array[] {
      const answers: Uint8Array[] = []
      for (;;) {
        if (Buffer.from(heard).indexOf(Buffer.from(IDENTIFY)) === 0) {
          heard = heard.slice(IDENTIFY.length)
          answers.push(Buffer.from(`Tausand Abacus ${model}`))
          continue
        }
        if (heard.length < FRAME_BYTES) return answers
        const frame = parseFrame(Uint8Array.from(heard.slice(0, FRAME_BYTES)))
        if (frame === undefined) {
          badFrames += 1
          heard.shift()
          continue
        }
        heard = heard.slice(FRAME_BYTES)
        const { kind, address, data } = frame
        if (kind === 'write') {
          set.set(address, data)
          continue
        }
        const registers = Array.from({ length: Math.min(51, Math.max(1, data)) }, (_, i) => (address + i) & 255)
        answers.push(answerFrame(registers.map((register) => ({ address: register, value: valueOf(register) }))))
      }
    }

    return createAnsweringEmulator({
      context,
      name: 'Abacus',
      baudRate: BAUD,
      facts: () => ({ badFrames, samplingMs: samplingMs(), windowNs: set.get(REGISTERS.window) ?? 0 }),
      hear(chunk) {
        heard.push(...chunk)
        return take()
      },
    })
  },
}
