/** Questions to an ssh-agent (RFC 9987), each with a deadline: one that hangs must not hang the tunnel. */
import net from 'node:net'
import { withDeadline, type Clock } from '../base/clock.js'
import { GatewayError } from '../base/errors.js'
import { SshReader, sshString } from './ssh-wire.js'

export const REQUEST_IDENTITIES = 11
export const IDENTITIES_ANSWER = 12

/** A list is there at once. */
const LIST_TIMEOUT_MS = 3_000

/** The answer to one request, without its length. Rejects with E_CONNECT where the agent gives none, E_DEADLINE. */
export function askAgent(path: string, request: Buffer, clock: Clock, timeoutMs: number): Promise<Buffer> {
  const ask = (signal: AbortSignal): Promise<Buffer> =>
    new Promise((resolve, reject) => {
      const socket = net.connect(path)
      let answer = Buffer.alloc(0)
      signal.addEventListener('abort', () => socket.destroy(), { once: true })
      const onEnd = (): void => {
        socket.destroy()
        reject(new GatewayError('E_CONNECT', `the ssh-agent ${path} does not answer`))
      }
      socket.on('data', (chunk: Buffer) => {
        answer = Buffer.concat([answer, chunk])
        if (answer.length < 4 || answer.length < 4 + answer.readUInt32BE(0)) return
        resolve(answer.subarray(4))
        socket.destroy()
      })
      socket.on('error', onEnd).on('close', onEnd)
      socket.write(sshString(request))
    })
  return withDeadline(clock, timeoutMs, `the ssh-agent ${path}`, ask)
}

/** The public key blobs that an agent holds. Rejects where the agent does not answer. */
export async function listAgentKeys(path: string, clock: Clock): Promise<Buffer[]> {
  const answer = await askAgent(path, Buffer.from([REQUEST_IDENTITIES]), clock, LIST_TIMEOUT_MS)
  if (answer[0] !== IDENTITIES_ANSWER) return []
  const reader = new SshReader(answer.subarray(1))
  return Array.from({ length: reader.uint32() }, () => {
    const blob = Buffer.from(reader.string())
    reader.string()
    return blob
  })
}
