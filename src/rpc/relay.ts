import { mkdtemp, rm } from 'node:fs/promises'
import { createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pipeline, type Duplex } from 'node:stream'
import { GatewayError, messageOf } from '../base/errors.js'

/** Opens the far end of one connection; rejects when it cannot or when `signal` aborts. */
export type Dialer = (signal: AbortSignal) => Promise<Duplex>

/** A local socket whose connections come out at the far end of a dialer. */
export interface Relay {
  /** Target for a grpc-js client. */
  readonly target: string
  /** Why the last dial failed; undefined after one that did not. */
  lastFailure(): string | undefined
  close(): Promise<void>
}

/**
 * grpc-js's client dials by itself; this stands between it and a byte stream that somebody else opens. The socket lies
 * in a folder that only this user may enter, so that no other program of the machine comes in.
 */
export async function openRelay(dial: Dialer): Promise<Relay> {
  const folder = await mkdtemp(join(tmpdir(), 'qkd-gw-'))
  const path = join(folder, 's')
  const stop = new AbortController()
  const streams = new Set<Duplex>()
  let failure: string | undefined

  const serve = async (socket: Socket): Promise<void> => {
    streams.add(socket)
    socket.once('close', () => streams.delete(socket))
    socket.on('error', () => socket.destroy())
    const far = await dial(stop.signal)
    failure = undefined
    streams.add(far)
    far.once('close', () => streams.delete(far))
    // The two pipelines put more listeners on one stream than Node takes for usual.
    far.setMaxListeners(32)
    // Whichever ends or fails takes the other with it; the client sees a closed connection.
    pipeline(far, socket, () => far.destroy())
    pipeline(socket, far, () => socket.destroy())
  }
  const server = createServer({ noDelay: true }, (socket) => {
    serve(socket).catch((error: unknown) => {
      failure = messageOf(error)
      socket.destroy()
    })
  })
  try {
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject)
      server.listen(path, resolve)
    })
  } catch (error) {
    await rm(folder, { recursive: true, force: true })
    throw new GatewayError('E_STATE_FOLDER', `cannot make a socket in ${folder}: ${messageOf(error)}`, {
      remedy: 'set TMPDIR to a folder that this user may write to',
      cause: error,
    })
  }
  return {
    target: `unix:${path}`,
    lastFailure: () => failure,
    async close() {
      stop.abort()
      for (const stream of streams) stream.destroy()
      await new Promise<void>((resolve) => server.close(() => resolve()))
      await rm(folder, { recursive: true, force: true })
    },
  }
}
