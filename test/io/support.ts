import { systemClock } from '../../src/base/clock.js'
import { systemRandom } from '../../src/base/random.js'
import type { ByteTransport, CloseReason, DeviceLine, OpenSerial } from '../../src/io/contract.js'
import { openPtyLine } from '../../src/io/pty.js'
import { createSerialOpener } from '../../src/io/serial.js'
import { silentLogger } from '../../src/observe/log.js'

export const realOpener: OpenSerial = createSerialOpener({ clock: systemClock, log: silentLogger })

export function ptyLine(link?: string): Promise<DeviceLine> {
  return openPtyLine({ clock: systemClock, random: systemRandom, ...(link === undefined ? {} : { link }) })
}

/** A signal that lasts for the whole test. */
export const never = new AbortController().signal

export function closeOf(transport: ByteTransport): Promise<CloseReason> {
  return new Promise((resolve) => transport.onClose(resolve))
}

/** Collects what a transport or a line hears until there are `count` bytes. */
export function hear(source: Pick<ByteTransport, 'onData'>, count: number): Promise<Uint8Array> {
  return new Promise((resolve) => {
    const heard: number[] = []
    const stop = source.onData((chunk) => {
      heard.push(...chunk)
      if (heard.length < count) return
      stop()
      resolve(Uint8Array.from(heard))
    })
  })
}
