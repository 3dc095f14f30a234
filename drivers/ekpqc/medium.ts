/**
 * What emulated boards shine at each other through: the fibre for laser light, the air for infrared. Boards find each
 * other by the medium's name, also from one process to the other: each has a socket in a folder that all of this user's
 * emulators share.
 */
import { randomUUID } from 'node:crypto'
import { mkdir, readdir, rmdir, unlink } from 'node:fs/promises'
import { connect, createServer, type Server, type Socket } from 'node:net'
import { tmpdir, userInfo } from 'node:os'
import { join } from 'node:path'
import { codeOf, GatewayError, messageOf } from '../../src/base/errors.js'

const CONNECT_MS = 1_000
const LONGEST_FLASH = 1_024
const JOIN_TRIES = 20
const SOCKET = /\.sock$/

/** One board at a medium. */
export interface Medium {
  /** Everybody else at the medium sees it. */
  shine(light: Uint8Array): Promise<void>
  /** Resolves with the next light that somebody else sends; rejects when `signal` aborts. */
  wait(signal: AbortSignal): Promise<Uint8Array>
  close(): Promise<void>
}

/** Where media live unless the caller says otherwise. */
export function mediaFolder(): string {
  return join(tmpdir(), `qkd-gw-light-${userInfo().uid}`)
}

/** Sends to one socket; one that nobody listens at any more is removed. */
async function send(path: string, light: Uint8Array): Promise<void> {
  await new Promise<void>((resolve) => {
    const socket: Socket = connect(path)
    socket.setTimeout(CONNECT_MS, () => socket.destroy())
    socket.once('error', (error: NodeJS.ErrnoException) => {
      // Its board is gone without a word: killed.
      if (error.code === 'ECONNREFUSED') void unlink(path).catch(() => {})
    })
    socket.once('close', () => resolve())
    socket.once('connect', () => socket.end(light))
    socket.resume()
  })
}

async function listen(path: string, seen: (light: Uint8Array) => void): Promise<Server> {
  const server = createServer((socket) => {
    const parts: Buffer[] = []
    let size = 0
    socket.setTimeout(CONNECT_MS, () => socket.destroy())
    socket.on('error', () => {})
    socket.on('data', (part: Buffer) => {
      size += part.length
      if (size > LONGEST_FLASH) socket.destroy()
      else parts.push(part)
    })
    socket.on('end', () => {
      seen(Uint8Array.from(Buffer.concat(parts)))
      socket.end()
    })
  })
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(path, () => resolve())
  })
  return server
}

/** Makes the folder and listens in it; the last board to leave may just be taking it away. */
async function listenIn(place: string, own: string, seen: (light: Uint8Array) => void): Promise<Server> {
  for (let tries = 1; ; tries += 1) {
    try {
      await mkdir(place, { recursive: true, mode: 0o700 })
      return await listen(join(place, own), seen)
    } catch (error) {
      // EACCES is also what listen() says where the folder is gone.
      const gone = ['ENOENT', 'EACCES'].includes(codeOf(error) ?? '')
      if (!gone || tries === JOIN_TRIES) throw error
    }
  }
}

/** Joins a medium. `name`: letters, digits, - and _. Rejects with E_USAGE. */
export async function openMedium(name: string, folder: string = mediaFolder()): Promise<Medium> {
  if (!/^[\w.-]{1,40}$/.test(name) || /^\.+$/.test(name))
    throw new GatewayError('E_USAGE', `"${name}" is no name of a fibre`, {
      remedy: 'use at most 40 letters, digits, - and _',
    })
  const place = join(folder, name)
  const own = `${randomUUID().slice(0, 8)}.sock`
  const waiting = new Set<(light: Uint8Array) => void>()
  let server: Server
  try {
    server = await listenIn(place, own, (light) => {
      for (const see of [...waiting]) see(light)
    })
  } catch (error) {
    throw new GatewayError('E_USAGE', `the fibre ${place} cannot be joined: ${messageOf(error)}`, { cause: error })
  }
  return {
    async shine(light) {
      const others = (await readdir(place).catch(() => [])).filter((file) => SOCKET.test(file) && file !== own)
      await Promise.all(others.map((file) => send(join(place, file), light)))
    },
    wait: (signal) =>
      new Promise((resolve, reject) => {
        const stop = (): void => {
          waiting.delete(see)
          reject(new Error('dark'))
        }
        const see = (light: Uint8Array): void => {
          waiting.delete(see)
          signal.removeEventListener('abort', stop)
          resolve(light)
        }
        if (signal.aborted) return stop()
        waiting.add(see)
        signal.addEventListener('abort', stop, { once: true })
      }),
    async close() {
      await new Promise<void>((resolve) => server.close(() => resolve()))
      await unlink(join(place, own)).catch(() => {})
      // The last one takes the folders away; others are not empty.
      for (const left of [place, folder]) await rmdir(left).catch(() => {})
    },
  }
}
