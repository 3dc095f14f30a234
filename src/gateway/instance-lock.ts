import { createHash } from 'node:crypto'
import { unlinkSync } from 'node:fs'
import { connect, createServer, type Server } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { codeOf, GatewayError } from '../base/errors.js'

/** What a lock stands for, told to whoever meets it. */
export interface LockOwner {
  pid: number
  /** The command's subject, e.g. the device path. */
  what: string
}

/** A held lock; `release` is idempotent. It vanishes with the process, however that ends. */
export interface InstanceLock {
  release(): void
}

const answerTimeoutMs = 1_000

/**
 * Linux: an abstract socket, which the kernel takes away with its process, so that a killed gateway leaves nothing
 * behind. Elsewhere: a socket file that refuses connections once its process is gone.
 */
function socketName(scope: string, name: string, within: string): string {
  const digest = createHash('sha256').update(`${scope}\0${name}\0${within}`).digest('hex').slice(0, 32)
  return process.platform === 'linux' ? `\0qkd-gw-${scope}-${digest}` : join(tmpdir(), `qkd-gw-${digest}.lock`)
}

function listen(path: string, owner: LockOwner): Promise<Server> {
  return new Promise((resolve, reject) => {
    const server = createServer((socket) => {
      socket.on('error', () => {})
      socket.end(JSON.stringify(owner))
    })
    server.once('error', reject)
    server.listen(path, () => {
      server.unref()
      resolve(server)
    })
  })
}

/** Who holds the lock: undefined if nobody answers at all, an empty object if what answers is not ours. */
function ask(path: string): Promise<Partial<LockOwner> | undefined> {
  return new Promise((resolve) => {
    let text = ''
    const socket = connect(path)
    const done = (answer: Partial<LockOwner> | undefined): void => {
      socket.destroy()
      resolve(answer)
    }
    socket.setTimeout(answerTimeoutMs, () => done({}))
    socket.on('data', (chunk) => (text += chunk.toString('utf8')))
    socket.on('error', (error) => done(codeOf(error) === 'ECONNREFUSED' || codeOf(error) === 'ENOENT' ? undefined : {}))
    socket.on('end', () => {
      try {
        const parsed: unknown = JSON.parse(text)
        done(typeof parsed === 'object' && parsed !== null ? parsed : {})
      } catch {
        done({})
      }
    })
  })
}

/**
 * Takes the machine-wide lock on `name` within `scope` ('device', 'id', 'state'). A name that means something only in
 * one place (an id at one SiteAgent) says `within` which. Rejects with E_SECOND_INSTANCE naming the process that holds
 * it. (Locks are a safeguard against mistakes, not against another user's ill will.)
 */
export async function acquireLock(scope: string, name: string, what: string, within = ''): Promise<InstanceLock> {
  const path = socketName(scope, name, within)
  for (let attempt = 0; ; attempt += 1) {
    try {
      const server = await listen(path, { pid: process.pid, what })
      return { release: () => void server.close(() => {}) }
    } catch (error) {
      if (codeOf(error) !== 'EADDRINUSE' || attempt === 3) throw error
    }
    const owner = await ask(path)
    if (owner !== undefined) {
      const who = owner.pid === undefined ? 'another process' : `process ${owner.pid}`
      throw new GatewayError(
        'E_SECOND_INSTANCE',
        `${scope} ${name} is already served by ${who} (${owner.what ?? 'qkd-gw'})`,
        {
          remedy:
            owner.pid === undefined ? 'stop it first' : `stop it first (kill ${owner.pid}), or attach another ${scope}`,
          details: {
            ...{ scope, name },
            ...(owner.pid === undefined ? {} : { pid: owner.pid }),
            ...(owner.what === undefined ? {} : { what: owner.what }),
          },
        },
      )
    }
    // Nobody answers: the owner is gone. An abstract name is free by now; a file has to be taken away.
    if (!path.startsWith('\0')) {
      try {
        unlinkSync(path)
      } catch {
        // Another one took it away first.
      }
    }
  }
}
