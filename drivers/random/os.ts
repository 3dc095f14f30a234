import { StateCell } from '../../src/base/cell.js'
import { messageOf } from '../../src/base/errors.js'
import type { DeviceState, Driver, DriverContext } from '../../src/device/contract.js'
import { osRandom } from './descriptors.js'
import { createPool, createSourceDevice, SIGN_OF_LIFE_MS, type SourceSession, untilWanted } from './source-device.js'

const CHUNK = 4_096

/** The operating system's generator, tested like any other source. */
function createOsSource(context: DriverContext): ReturnType<typeof createSourceDevice> {
  const { clock, random, log } = context
  const pool = createPool({ name: osRandom.name, claimsQuantum: false, clock, log })
  const state = new StateCell<DeviceState>({ state: 'opening' }, clock, (error) =>
    log.error({ reason: messageOf(error) }, 'a listener of the device state failed'),
  )
  const session: SourceSession = {
    state,
    facts: () => ({}),
    async run(signal) {
      const path = 'os-random:'
      state.set({ state: 'producing', path, identity: "the operating system's generator" })
      while (!signal.aborted) {
        if (!(await untilWanted(pool, CHUNK, clock, SIGN_OF_LIFE_MS, signal))) continue
        pool.push(Uint8Array.from(random.bytes(CHUNK)))
        if (pool.failure === undefined) continue
        state.set({ state: 'silent', path, reason: pool.failure })
        // A system generator that fails these tests is beyond help.
        await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }))
      }
      state.set({ state: 'stopped' })
    },
  }
  return createSourceDevice(pool, session, log)
}

export const driver: Driver = { descriptor: osRandom, create: createOsSource }
