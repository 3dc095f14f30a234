/**
 * Requests to a running ssh master over its control socket, as OpenSSH's PROTOCOL.mux (version 4) has them. `ssh -O` does
 * the same with a process for each: about a tenth of a second of a reconnection on a small machine.
 */
import net from 'node:net'
import { GatewayError } from '../base/errors.js'
import { SshReader, sshString } from './ssh-wire.js'

const HELLO = 1
const VERSION = 4
const TERMINATE = 0x1000_0005
const OPEN_FORWARD = 0x1000_0006
const CLOSE_FORWARD = 0x1000_0007
const OK = 0x8000_0001
const REMOTE_PORT = 0x8000_0007
/** Kind of forwarding: the server listens. */
const REMOTE = 2
/** In place of a port: what is connected to is a path. */
const PATH_NOT_PORT = 0xffff_fffe
const MAX_FRAME_BYTES = 65_536

export type MuxRequest =
  | { ask: 'exit' }
  /** The server listens at `host` (`*`: everywhere) and `port` (0: its choice) for connections to the socket `path`. */
  | { ask: 'forward' | 'cancel'; host: string; port: number; path: string }

export type MuxAnswer = { ok: true; port: number | undefined } | { ok: false; reason: string }

function uint32(...values: number[]): Buffer {
  const bytes = Buffer.alloc(4 * values.length)
  values.forEach((value, index) => bytes.writeUInt32BE(value, 4 * index))
  return bytes
}

function bodyOf(request: MuxRequest): Buffer {
  if (request.ask === 'exit') return uint32(TERMINATE, 0)
  return Buffer.concat([
    uint32(request.ask === 'forward' ? OPEN_FORWARD : CLOSE_FORWARD, 0, REMOTE),
    ...[sshString(request.host), uint32(request.port)],
    ...[sshString(request.path), uint32(PATH_NOT_PORT)],
  ])
}

/** Undefined: not the answer yet. Throws RangeError where it is cut off. */
function readAnswer(frame: Buffer): MuxAnswer | undefined {
  const reader = new SshReader(frame)
  const type = reader.uint32()
  if (type === HELLO) {
    const version = reader.uint32()
    return version === VERSION
      ? undefined
      : { ok: false, reason: `ssh speaks version ${version} on its control socket` }
  }
  reader.uint32()
  if (type === OK) return { ok: true, port: undefined }
  if (type === REMOTE_PORT) return { ok: true, port: reader.uint32() }
  return { ok: false, reason: reader.string().toString('utf8') }
}

/** Asks once. Rejects with E_CONNECT where the master gives no answer that can be read, E_CANCELLED after `signal`. */
export function askMaster(socketPath: string, request: MuxRequest, signal: AbortSignal): Promise<MuxAnswer> {
  return new Promise((resolve, reject) => {
    const socket = net.connect(socketPath)
    let received = Buffer.alloc(0)
    const fail = (why: string): void => {
      socket.destroy()
      reject(new GatewayError('E_CONNECT', `ssh took no request to ${request.ask}: ${why}`))
    }
    const onAbort = (): void => {
      socket.destroy()
      reject(new GatewayError('E_CANCELLED', `ssh: ${request.ask}: stopped`))
    }
    signal.addEventListener('abort', onAbort, { once: true })
    socket.once('close', () => {
      signal.removeEventListener('abort', onAbort)
      fail('it closed the connection')
    })
    socket.once('error', (error) => fail(error.message))
    socket.on('data', (chunk: Buffer) => {
      received = Buffer.concat([received, chunk])
      while (received.length >= 4) {
        const length = received.readUInt32BE(0)
        if (length > MAX_FRAME_BYTES) return fail('an answer of an impossible length')
        if (received.length < 4 + length) return
        const frame = received.subarray(4, 4 + length)
        received = received.subarray(4 + length)
        try {
          const answer = readAnswer(frame)
          if (answer === undefined) continue
          resolve(answer)
          return void socket.destroy()
        } catch {
          return fail('an answer that is cut off')
        }
      }
    })
    for (const body of [uint32(HELLO, VERSION), bodyOf(request)]) socket.write(sshString(body))
    if (signal.aborted) onAbort()
  })
}
