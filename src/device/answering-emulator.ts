import { GatewayError } from '../base/errors.js'
import type { DeviceEmulator, EmulatorContext, FaultDescription } from './emulator-contract.js'
import { FaultyLine, LINE_FAULTS } from './faulty-line.js'

export interface AnsweringOptions {
  context: EmulatorContext
  /** For messages: "CC1". */
  name: string
  baudRate: number
  /** Takes what the host sends; gives the answers that are due, each of which is one unit for the line's faults. */
  hear: (chunk: Uint8Array) => Uint8Array[]
  facts?: () => Record<string, string | number | boolean>
  faults?: readonly FaultDescription[]
  /** The device's own faults; undefined where it has none of that name. */
  fault?: (name: string, args: readonly string[]) => string | undefined
}

/** An emulated device that only speaks when it is spoken to. */
export function createAnsweringEmulator(options: AnsweringOptions): DeviceEmulator {
  const { context, name, baudRate } = options
  const { line, clock, random } = context
  const faulty = new FaultyLine({ line, clock, random, baudRate })
  const faults = [...LINE_FAULTS, ...(options.faults ?? [])]
  let answers = 0
  return {
    faults,
    async run(signal) {
      let answering = Promise.resolve()
      const unhear = line.onData((chunk) => {
        for (const answer of options.hear(faulty.heard(chunk))) {
          answers += 1
          answering = answering.then(() => faulty.send(answer, signal)).catch(() => {})
        }
      })
      await new Promise<void>((resolve) => {
        if (signal.aborted) return resolve()
        signal.addEventListener('abort', () => resolve(), { once: true })
      })
      unhear()
      faulty.stop()
      await answering
    },
    async fault(fault, args) {
      const done = options.fault?.(fault, args) ?? (await faulty.fault(fault, args))
      if (done !== undefined) return done
      throw new GatewayError('E_USAGE', `the ${name} emulator has no fault named ${fault}`, {
        remedy: `faults are: ${faults.map((known) => known.name).join(', ')}`,
      })
    },
    facts: () => ({ answers, ...options.facts?.(), ...faulty.facts() }),
  }
}
