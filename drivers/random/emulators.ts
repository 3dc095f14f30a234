/** Stand-ins for the random sources: byte for byte what is known of each, with random bytes of the system. */
import { sleep } from '../../src/base/clock.js'
import { GatewayError } from '../../src/base/errors.js'
import { parseOptions, wholeNumber } from '../../src/device/driver-options.js'
import type { DeviceEmulator, EmulatorContext, EmulatorFactory } from '../../src/device/emulator-contract.js'
import { FaultyLine, LINE_FAULTS } from '../../src/device/faulty-line.js'
import { z } from 'zod'
import { EmulatedBytes, SOURCE_FAULTS } from './emulated-bytes.js'
import { BAUD as QCICADA_BAUD } from './qcicada-protocol.js'
import { MODEL, RANDOM, SERIAL_NUMBER, VERSION } from './swiftrng-protocol.js'

/** What a source does with the host's bytes, or by itself. */
interface Behaviour {
  /** Called for each byte of the host's that is not part of a payload; returns the answers. */
  onByte?(byte: number, bytes: EmulatedBytes): Uint8Array[]
  /** EmulatedBytes that it sends without being asked, this many a second. */
  readonly rate?: number
}

const TICK_MS = 20

class SourceEmulator implements DeviceEmulator {
  readonly faults = [...LINE_FAULTS, ...SOURCE_FAULTS]
  readonly #line: FaultyLine
  readonly #bytes: EmulatedBytes
  #sent = 0

  constructor(
    private readonly context: EmulatorContext,
    private readonly behaviour: Behaviour,
    baudRate: number,
  ) {
    const { line, clock, random } = context
    this.#line = new FaultyLine({ line, clock, random, baudRate })
    this.#bytes = new EmulatedBytes(random)
  }

  async run(signal: AbortSignal): Promise<void> {
    const { line, clock } = this.context
    let answering = Promise.resolve()
    const unhear = line.onData((chunk) => {
      for (const byte of this.#line.heard(chunk)) {
        for (const answer of this.behaviour.onByte?.(byte, this.#bytes) ?? []) {
          this.#sent += answer.length
          answering = answering.then(() => this.#line.send(answer, signal)).catch(() => {})
        }
      }
    })
    try {
      const { rate } = this.behaviour
      while (!signal.aborted) {
        await sleep(clock, rate === undefined ? 1_000 : TICK_MS, signal)
        if (rate !== undefined) await this.#line.send(this.#bytes.take(Math.ceil((rate * TICK_MS) / 1_000)), signal)
      }
    } catch (error) {
      if (!signal.aborted) throw error
    } finally {
      unhear()
      this.#line.stop()
      await answering
    }
  }

  async fault(name: string, args: readonly string[]): Promise<string> {
    const done = this.#bytes.fault(name, args) ?? (await this.#line.fault(name, args))
    if (done !== undefined) return done
    throw new GatewayError('E_USAGE', `this emulator has no fault named ${name}`, {
      remedy: `faults are: ${this.faults.map((fault) => fault.name).join(', ')}`,
    })
  }

  facts(): Record<string, string | number | boolean> {
    return { answeredBytes: this.#sent, ...this.#line.facts() }
  }
}

const rateSchema = z.strictObject({ rate: wholeNumber(1, 10_000_000).prefault('43750') })

export const truerngEmulator: EmulatorFactory = {
  baudRate: 3_000_000,
  options: { rate: 'bytes a second; default 43750' },
  create(context) {
    const { rate } = parseOptions('emulator truerng', rateSchema, context.options, 'E_USAGE')
    return new SourceEmulator(context, { rate }, 3_000_000)
  },
}

const versionSchema = z.strictObject({
  version: z
    .string()
    .regex(/^[A-Z]\d\.\d$/, 'must be a letter and a number such as V2.0')
    .default('V2.0'),
})

export const swiftrngEmulator: EmulatorFactory = {
  baudRate: 115_200,
  options: { version: 'firmware; below 2.0 its bytes are unconditioned; default V2.0' },
  create(context) {
    const { version } = parseOptions('emulator swiftrng', versionSchema, context.options, 'E_USAGE')
    const reply = (bytes: Uint8Array): Uint8Array[] => [Uint8Array.from([...bytes, 0])]
    const text = (value: string, length: number): Uint8Array[] =>
      reply(Buffer.from(value.padEnd(length).slice(0, length)))
    return new SourceEmulator(
      context,
      {
        onByte(byte, bytes) {
          switch (byte) {
            case VERSION.command[0]:
              return text(version, VERSION.bytes)
            case MODEL.command[0]:
              return text('SwiftRNG', MODEL.bytes)
            case SERIAL_NUMBER.command[0]:
              return text('SWRNGEMULATOR01', SERIAL_NUMBER.bytes)
            case RANDOM.command[0]:
              return reply(bytes.take(RANDOM.bytes))
            default:
              return [Uint8Array.of(1)]
          }
        },
      },
      115_200,
    )
  },
}

/** How many bytes follow each command of a QCicada. */
const QCICADA_PAYLOADS: Readonly<Record<number, number>> = { 0x04: 3, 0x08: 12 }

function qcicadaBehaviour(flags: () => number): Behaviour {
  let command: number[] = []
  const status = (ready: number): Uint8Array => {
    const answer = new Uint8Array(6)
    answer[0] = 0x11
    answer[1] = flags()
    new DataView(answer.buffer).setUint32(2, ready, true)
    return answer
  }
  return {
    onByte(byte, bytes) {
      command.push(byte)
      const [kind = 0, mode, low = 0, high = 0] = command
      if (command.length <= (QCICADA_PAYLOADS[kind] ?? 0)) return []
      command = []
      switch (kind) {
        case 0x01:
        case 0x05:
          return [status(65_536)]
        case 0x04: {
          const length = low | (high << 8)
          if (mode !== 1 || length > 32_768) return [Uint8Array.of(0x12)]
          return [status(length), bytes.take(length)]
        }
        case 0x07:
          return [Uint8Array.from([0x17, ...new Uint8Array(12)])]
        case 0x0b: {
          const info = Buffer.alloc(57)
          info[0] = 0x1b
          info.writeUInt32LE(1, 1)
          info.writeUInt32LE(0x050d, 5)
          info.write('QC0000000001', 9, 'latin1')
          info.write('emulated', 33, 'latin1')
          return [info]
        }
        default:
          return [Uint8Array.of(0x12)]
      }
    },
  }
}

const flagsSchema = z.strictObject({ flags: wholeNumber(0, 255).prefault('1') })

export const qcicadaEmulator: EmulatorFactory = {
  baudRate: QCICADA_BAUD,
  options: { flags: 'flags of its status; default 1, initialised' },
  create(context) {
    const { flags } = parseOptions('emulator qcicada', flagsSchema, context.options, 'E_USAGE')
    return new SourceEmulator(
      context,
      qcicadaBehaviour(() => flags),
      QCICADA_BAUD,
    )
  },
}
