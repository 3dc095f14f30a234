/** An ssh-agent of our own, for keys that were decrypted here: the system's ssh need not ask for them again. */
import { chmod, mkdtemp, rm } from 'node:fs/promises'
import net from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { ParsedKey } from 'ssh2'
import type { Clock } from '../base/clock.js'
import { askAgent, IDENTITIES_ANSWER, listAgentKeys, REQUEST_IDENTITIES } from './agent-client.js'
import type { Identity } from './identities.js'
import { SshReader, sshString } from './ssh-wire.js'

export interface KeyAgent {
  /** Path of its socket, in a folder that only this user may enter. */
  readonly path: string
  close(): Promise<void>
}

/** Message types and flags of the agent protocol (RFC 9987). */
const FAILURE = 5
const SIGN_REQUEST = 13
const SIGN_RESPONSE = 14
const RSA_SHA2_256 = 2
const RSA_SHA2_512 = 4

const MAX_MESSAGE = 262_144

function message(type: number, ...parts: Buffer[]): Buffer {
  return sshString(Buffer.concat([Buffer.from([type]), ...parts]))
}

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32BE(value)
  return bytes
}

/** The two integers of a DER signature as SSH writes them: the same bytes, with longer lengths. */
function derToSsh(der: Buffer): Buffer {
  const content = der.subarray((der[1] ?? 0) > 0x80 ? 3 : 2)
  const firstLength = content[1] ?? 0
  const secondLength = content[3 + firstLength] ?? 0
  const first = content.subarray(2, 2 + firstLength)
  const second = content.subarray(4 + firstLength, 4 + firstLength + secondLength)
  return Buffer.concat([sshString(first), sshString(second)])
}

function signWith(key: ParsedKey, data: Buffer, flags: number): Buffer | undefined {
  const rsa =
    key.type !== 'ssh-rsa' ? undefined : flags & RSA_SHA2_512 ? 'sha512' : flags & RSA_SHA2_256 ? 'sha256' : 'sha1'
  const signed: unknown = key.sign(data, rsa)
  if (!Buffer.isBuffer(signed)) return undefined
  const name = rsa === undefined ? key.type : rsa === 'sha1' ? 'ssh-rsa' : `rsa-sha2-${rsa.slice(3)}`
  const blob = key.type.startsWith('ecdsa-') ? derToSsh(signed) : signed
  return Buffer.concat([sshString(name), sshString(blob)])
}

/** Long enough for somebody to touch a hardware key. */
const SIGN_TIMEOUT_MS = 60_000

/** Passes one whole request on to another agent. */
async function askUpstream(path: string, request: Buffer, clock: Clock): Promise<Buffer> {
  return sshString(await askAgent(path, request, clock, SIGN_TIMEOUT_MS))
}

async function answerTo(
  request: Buffer,
  identities: readonly Identity[],
  upstream: string | undefined,
  clock: Clock,
): Promise<Buffer> {
  if (request[0] === REQUEST_IDENTITIES) {
    const own = identities.map(({ file, key }) => ({ blob: key.getPublicSSH(), comment: file }))
    const foreign = upstream === undefined ? [] : await listAgentKeys(upstream, clock).catch(() => [])
    const all = [...own, ...foreign.map((blob) => ({ blob, comment: '' }))]
    const parts = all.flatMap(({ blob, comment }) => [sshString(blob), sshString(comment)])
    return message(IDENTITIES_ANSWER, uint32(all.length), ...parts)
  }
  if (request[0] !== SIGN_REQUEST) return message(FAILURE)
  const reader = new SshReader(request.subarray(1))
  const [blob, data, flags] = [reader.string(), reader.string(), reader.uint32()]
  const key = identities.find((one) => one.key.getPublicSSH().equals(blob))?.key
  if (key === undefined) return upstream === undefined ? message(FAILURE) : askUpstream(upstream, request, clock)
  const signature = signWith(key, data, flags)
  return signature === undefined ? message(FAILURE) : message(SIGN_RESPONSE, sshString(signature))
}

/** Serves the given keys, and passes on what `upstream` (another agent's socket) holds. Everything else it refuses. */
export async function startKeyAgent(
  identities: readonly Identity[],
  upstream: string | undefined,
  clock: Clock,
): Promise<KeyAgent> {
  const folder = await mkdtemp(join(tmpdir(), 'qkd-gw-agent-'))
  const path = join(folder, 'a')
  const sockets = new Set<net.Socket>()
  const server = net.createServer((socket) => {
    sockets.add(socket)
    socket.on('error', () => {})
    socket.once('close', () => sockets.delete(socket))
    let seen = Buffer.alloc(0)
    // Answers leave in the order of the requests.
    let turn = Promise.resolve()
    socket.on('data', (chunk: Buffer) => {
      seen = Buffer.concat([seen, chunk])
      while (seen.length >= 4) {
        const length = seen.readUInt32BE(0)
        if (length > MAX_MESSAGE) return void socket.destroy()
        if (seen.length < 4 + length) return
        const request = seen.subarray(4, 4 + length)
        seen = seen.subarray(4 + length)
        turn = turn
          .then(() => answerTo(request, identities, upstream, clock))
          .catch(() => message(FAILURE))
          .then((answer) => void socket.write(answer))
      }
    })
  })
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(path, resolve)
  })
  await chmod(path, 0o600)
  server.unref()
  return {
    path,
    async close() {
      for (const socket of sockets) socket.destroy()
      await new Promise<void>((resolve) => server.close(() => resolve()))
      await rm(folder, { recursive: true, force: true })
    },
  }
}
