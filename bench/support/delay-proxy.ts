/** A way between two hosts that takes time: every byte comes as it was sent, in order, so many ms later, each way. */
import { connect, createServer, type Socket } from 'node:net'

export interface DelayProxy {
  readonly address: string
  close(): void
}

/** Passes the bytes of `from` on after `delayMs`, and its end. */
function carry(from: Socket, to: Socket, delayMs: number): void {
  // With equal delays timers fire in the order in which they were set: nothing is overtaken.
  const later = (act: () => void): void => {
    if (delayMs <= 0) act()
    else setTimeout(act, delayMs)
  }
  from.on('data', (chunk) => later(() => to.writable && to.write(chunk)))
  from.on('end', () => later(() => to.end()))
  from.on('close', () => later(() => to.destroy()))
  from.on('error', () => from.destroy())
}

/** `oneWayMs` in each direction. */
export function startDelayProxy(targetPort: number, oneWayMs: number): Promise<DelayProxy> {
  const sockets = new Set<Socket>()
  const server = createServer((caller) => {
    const target = connect(targetPort, '127.0.0.1')
    for (const socket of [caller, target]) {
      socket.setNoDelay(true)
      sockets.add(socket)
      socket.on('close', () => sockets.delete(socket))
    }
    carry(caller, target, oneWayMs)
    carry(target, caller, oneWayMs)
  })
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen(0, '127.0.0.1', () => {
      const bound = server.address()
      const port = typeof bound === 'object' && bound !== null ? bound.port : 0
      resolve({
        address: `127.0.0.1:${port}`,
        close() {
          server.close()
          for (const socket of sockets) socket.destroy()
        },
      })
    })
  })
}
