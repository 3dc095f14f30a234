/** A QIX unit of the bench: frames go through a PTY, the serial port and the driver, as from the real one. */
import { systemClock } from '../../src/base/clock.js'
import { systemRandom } from '../../src/base/random.js'
import { createNodeIo } from '../../src/io/node-io.js'
import { openPtyLine } from '../../src/io/pty.js'
import { silentLogger } from '../../src/observe/log.js'
import { driver } from '../../drivers/qix/driver.js'
import { encodeFrame, STATUS_OK } from '../../drivers/qix/protocol.js'
import { sharedUs } from './bench-child.js'

export interface BenchUnit {
  /** Sends a frame a key in one write; when it did, µs. */
  send(keys: readonly { readonly id: bigint; readonly key: Uint8Array }[]): Promise<number>
}

const openTimeoutMs = 10_000

export async function openUnit(onKey: (id: bigint, key: Uint8Array) => void): Promise<BenchUnit> {
  const base = { clock: systemClock, random: systemRandom, log: silentLogger }
  const line = await openPtyLine(base)
  const device = driver.create({
    ...base,
    ...{ device: line.path, side: 'alice', options: { baud: '921600', 'silent-after-ms': '600000', remedies: 'off' } },
    io: createNodeIo(base),
  })
  device.subscribe((event) => {
    if (event.type === 'key') onKey(event.id, event.key)
  })
  void device.run(new AbortController().signal)
  const untilMs = performance.now() + openTimeoutMs
  while (device.state.value.state !== 'open') {
    if (performance.now() > untilMs) throw new Error(`the port is ${device.state.value.state}`)
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
  return {
    async send(keys) {
      const frames = Buffer.concat(keys.map(({ id, key }) => encodeFrame({ id, status: STATUS_OK, key })))
      const atUs = sharedUs()
      await line.send(frames)
      return atUs
    },
  }
}
