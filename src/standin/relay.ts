/** A TCP relay that breaks connections the ways networks do. Its own side always acknowledges, as a frozen peer's does. */
import net from 'node:net'

export interface RelayTarget {
  host: string
  port: number
}

export interface Relay {
  readonly host: string
  readonly port: number
  /** Where new connections lead. */
  setTarget(target: RelayTarget): void
  /** `all`: nothing passes, on present connections and new ones (which are accepted); `present`: new ones pass. */
  stop(which: 'all' | 'present'): void
  /** Everything passes again. What was held back is delivered first, as TCP would. */
  pass(): void
  /** Resets every connection, or the one that was made first; both ends see ECONNRESET. */
  reset(which?: 'all' | 'oldest'): void
  /** Ends present connections and refuses new ones (`true`), or takes them again. */
  refuse(on: boolean): void
  /** One-way delay for all that passes from now on. */
  delay(oneWayMs: number): void
  /** Once more than so many bytes arrive in one piece they and all after them are lost on that connection, as with an MTU hole. */
  smallPacketsOnly(maxBytes: number | undefined): void
  /** Connections at present. */
  connectionCount(): number
  /** Bytes passed since the start, both ways. */
  bytesPassed(): number
  close(): Promise<void>
}

interface Settings {
  oneWayMs: number
  maxBytes: number | undefined
}

/** Of a line with a delay: more than any SSH channel has on its way. */
const LONG_LINE_BYTES = 8 * 1_048_576

/** One direction of one connection. */
class Direction {
  readonly #held: Buffer[] = []
  #stopped = false
  #lost = false
  readonly #waiting: { dueMs: number; action: () => void }[] = []

  constructor(
    private readonly from: net.Socket,
    private readonly to: net.Socket,
    private readonly settings: Settings,
    private readonly count: (bytes: number) => void,
  ) {
    from.on('data', (chunk: Buffer) => this.#onData(chunk))
    from.on('end', () => {
      if (!this.#stopped) this.#later(() => to.end())
    })
  }

  get stopped(): boolean {
    return this.#stopped
  }

  setStopped(stopped: boolean): void {
    this.#stopped = stopped
    if (!stopped && this.from.destroyed) this.to.destroy()
    if (!stopped) for (const chunk of this.#held.splice(0)) this.#send(chunk)
  }

  #onData(chunk: Buffer): void {
    const { maxBytes } = this.settings
    if (maxBytes !== undefined && chunk.length > maxBytes) this.#lost = true
    if (this.#lost) return
    if (this.#stopped) this.#held.push(chunk)
    else this.#send(chunk)
  }

  #send(chunk: Buffer): void {
    this.#later(() => {
      if (this.to.destroyed) return
      this.count(chunk.length)
      // What waits before the delay would be delayed once more: a long line holds what is on its way.
      const isFull =
        !this.to.write(chunk) && this.to.writableLength > (this.settings.oneWayMs > 0 ? LONG_LINE_BYTES : 0)
      if (isFull && !this.from.isPaused()) {
        this.from.pause()
        this.to.once('drain', () => this.from.resume())
      }
    })
  }

  /** In order, even when the delay is made shorter in between: timers of their own may overtake one another. */
  #later(action: () => void): void {
    const nowMs = performance.now()
    const dueMs = nowMs + this.settings.oneWayMs
    if (dueMs <= nowMs && this.#waiting.length === 0) return action()
    this.#waiting.push({ dueMs, action })
    if (this.#waiting.length === 1) setTimeout(() => this.#runDue(), dueMs - nowMs)
  }

  #runDue(): void {
    const nowMs = performance.now()
    let done = 0
    for (; done < this.#waiting.length; done += 1) {
      const next = this.#waiting[done]
      // A timer counts whole milliseconds, and fires up to one too early.
      if (next === undefined || next.dueMs > nowMs + 0.5) break
      next.action()
    }
    this.#waiting.splice(0, done)
    const [first] = this.#waiting
    if (first !== undefined) setTimeout(() => this.#runDue(), Math.max(1, first.dueMs - performance.now()))
  }
}

/** Listens on a free port of `host` (default 127.0.0.1) and passes everything on to `target`. */
export async function startRelay(target: RelayTarget, host = '127.0.0.1'): Promise<Relay> {
  const settings: Settings = { oneWayMs: 0, maxBytes: undefined }
  const pairs = new Map<net.Socket, { far: net.Socket; directions: Direction[] }>()
  let present = target
  let stopNew = false
  let refusing = false
  let bytes = 0
  const count = (more: number): void => {
    bytes += more
  }

  const server = net.createServer({ noDelay: true, allowHalfOpen: true }, (near) => {
    if (refusing) return void near.resetAndDestroy()
    const far = net.connect({ ...present, noDelay: true, allowHalfOpen: true })
    const directions = [new Direction(near, far, settings, count), new Direction(far, near, settings, count)]
    if (stopNew) for (const direction of directions) direction.setStopped(true)
    pairs.set(near, { far, directions })
    for (const [socket, other] of [
      [near, far],
      [far, near],
    ] as const) {
      socket.on('error', () => {})
      socket.once('close', () => {
        // While nothing passes, the other side does not learn of the end either.
        if (directions.every((one) => one.stopped) && !other.destroyed) return
        other.destroy()
        pairs.delete(near)
      })
    }
  })
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(0, host, () => resolve())
  })
  const bound = server.address()
  if (typeof bound !== 'object' || bound === null) throw new Error('the relay has no address')
  const destroyAll = (how: (socket: net.Socket) => void, most = pairs.size): void => {
    for (const [near, { far }] of [...pairs].slice(0, most)) for (const socket of [near, far]) how(socket)
  }

  return {
    host,
    port: bound.port,
    setTarget: (next) => (present = next),
    stop(which) {
      stopNew = which === 'all'
      for (const { directions } of pairs.values()) for (const one of directions) one.setStopped(true)
    },
    pass() {
      stopNew = false
      for (const { directions } of pairs.values()) for (const one of directions) one.setStopped(false)
    },
    reset: (which = 'all') => destroyAll((socket) => socket.resetAndDestroy(), which === 'all' ? pairs.size : 1),
    refuse(on) {
      refusing = on
      if (on) destroyAll((socket) => socket.resetAndDestroy())
    },
    delay: (oneWayMs) => (settings.oneWayMs = oneWayMs),
    smallPacketsOnly: (maxBytes) => (settings.maxBytes = maxBytes),
    connectionCount: () => pairs.size,
    bytesPassed: () => bytes,
    close() {
      destroyAll((socket) => socket.destroy())
      return new Promise((resolve) => server.close(() => resolve()))
    },
  }
}
