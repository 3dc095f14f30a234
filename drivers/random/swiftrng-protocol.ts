/** SwiftRNG's commands: one byte each; a reply ends in a status byte, 0 for good. */
import { GatewayError } from '../../src/base/errors.js'
import { ascii, type Reader } from '../../src/device/dialogue.js'

/** A USB port: its rate is of no account. */
export const BAUD = 115_200

export const VERSION = { command: ascii('v'), bytes: 4 }
export const MODEL = { command: ascii('m'), bytes: 8 }
export const SERIAL_NUMBER = { command: ascii('s'), bytes: 15 }
/** Random bytes. */
export const RANDOM = { command: ascii('x'), bytes: 16_000 }

/** Reads a reply of so many bytes and its status. A bad status is E_DEVICE_PROTOCOL. */
export function replyReader(bytes: number): Reader<Uint8Array> {
  return (buffer) => {
    if (buffer.length <= bytes) return undefined
    const status = buffer[bytes]
    if (status !== 0) throw new GatewayError('E_DEVICE_PROTOCOL', `the SwiftRNG answered with status ${status}`)
    return { value: Uint8Array.from(buffer.subarray(0, bytes)), used: bytes + 1 }
  }
}

/** A letter and a number, such as V2.0. Undefined where it is none. */
export function parseVersion(reply: Uint8Array): number | undefined {
  const match = /^[A-Za-z](\d+\.\d+)$/.exec(Buffer.from(reply).toString('latin1'))
  return match?.[1] === undefined ? undefined : Number(match[1])
}

/** From this version on the device conditions its bytes itself. */
export const CONDITIONED_FROM = 2
