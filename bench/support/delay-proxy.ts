/** A way between two hosts that takes time: every byte comes as it was sent, in order, so many ms later, each way. */
import { connect, createServer, type Socket } from 'node:net'

export interface DelayProxy {
  readonly address: string
  /** From now on. */
  setOneWayMs(ms: number): void
  close(): void
}

/** Passes the bytes of `from` on after `delayMs()`, and its end. */
function carry(from: Socket, to: Socket, delayMs: () => number): void {
  const waiting: { readonly atMs: number; readonly act: () => void }[] = []
  // Timers are late by a millisecond or two: the last of it is waited for turn by turn.
  const turn = (): void => {
    for (let next = waiting[0]; next !== undefined; next = waiting[0]) {
      const leftMs = next.atMs - performance.now()
      if (leftMs > 0) return void (leftMs > 2 ? setTimeout(turn, leftMs - 2) : setImmediate(turn))
      waiting.shift()
      next.act()
    }
  }
  const later = (act: () => void): void => {
    waiting.push({ atMs: performance.now() + delayMs(), act })
    if (waiting.length === 1) turn()
  }
  from.on('data', (chunk) => later(() => to.writable && to.write(chunk)))
  from.on('end', () => later(() => to.end()))
  from.on('close', () => later(() => to.destroy()))
  from.on('error', () => from.destroy())
}

/** Without delay until it is told one, which then holds for each direction. */
export function startDelayProxy(targetPort: number): Promise<DelayProxy> {
  let oneWayMs = 0
  const sockets = new Set<Socket>()
  const server = createServer((caller) => {
    const target = connect(targetPort, '127.0.0.1')
    for (const socket of [caller, target]) {
      socket.setNoDelay(true)
      sockets.add(socket)
      socket.on('close', () => sockets.delete(socket))
    }
    carry(caller, target, () => oneWayMs)
    carry(target, caller, () => oneWayMs)
  })
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen(0, '127.0.0.1', () => {
      const bound = server.address()
      const port = typeof bound === 'object' && bound !== null ? bound.port : 0
      resolve({
        address: `127.0.0.1:${port}`,
        setOneWayMs(ms) {
          oneWayMs = ms
        },
        close() {
          server.close()
          for (const socket of sockets) socket.destroy()
        },
      })
    })
  })
}
