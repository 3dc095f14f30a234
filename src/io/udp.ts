import { createSocket, type RemoteInfo } from 'node:dgram'
import { isIPv6 } from 'node:net'
import { lookup } from 'node:dns/promises'
import type { Unsubscribe } from '../base/cell.js'
import { GatewayError, messageOf } from '../base/errors.js'

/** A UDP socket that talks to one address and port and hears nobody else. */
export interface DatagramPort {
  /** Datagrams that others sent here: dropped and counted. */
  readonly strangers: number
  /** Rejects with E_DEVICE_IO. */
  send(bytes: Uint8Array): Promise<void>
  onDatagram(listener: (bytes: Uint8Array) => void): Unsubscribe
  close(): Promise<void>
}

export type OpenDatagramPort = (host: string, port: number) => Promise<DatagramPort>

function sameAddress(from: RemoteInfo, address: string, port: number): boolean {
  return from.port === port && from.address.replace(/^::ffff:/, '') === address
}

/** Opens a socket on a free port of our own. Rejects with E_CONNECT where the host has no address or no socket is to be had. */
export const openDatagramPort: OpenDatagramPort = async (host, port) => {
  const failed = (error: unknown): GatewayError =>
    new GatewayError('E_CONNECT', `UDP ${host}:${port}: ${messageOf(error)}`, {
      remedy: 'check the host name and port of the device program',
      cause: error,
    })
  const { address } = await lookup(host).catch((error: unknown) => {
    throw failed(error)
  })
  const socket = createSocket(isIPv6(address) ? 'udp6' : 'udp4')
  const listeners = new Set<(bytes: Uint8Array) => void>()
  let strangers = 0
  let open = true
  await new Promise<void>((resolve, reject) => {
    socket.once('error', (error) => reject(failed(error)))
    socket.bind({ port: 0, exclusive: true }, () => resolve())
  })
  // A host that refuses a datagram shows here: as good as no answer.
  socket.on('error', () => {})
  socket.on('message', (message, from) => {
    // The socket is not connected, because then the system hides who else tries.
    if (!sameAddress(from, address, port)) {
      strangers += 1
      message.fill(0)
      return
    }
    for (const listener of [...listeners]) listener(message)
  })
  return {
    get strangers() {
      return strangers
    },
    send: (bytes) =>
      new Promise((resolve, reject) => {
        if (!open) return reject(new GatewayError('E_DEVICE_IO', `UDP ${host}:${port} is closed`))
        socket.send(bytes, port, address, (error) => {
          if (error === null) resolve()
          else reject(new GatewayError('E_DEVICE_IO', `UDP ${host}:${port}: ${error.message}`, { cause: error }))
        })
      }),
    onDatagram(listener) {
      listeners.add(listener)
      return () => listeners.delete(listener)
    },
    close: () =>
      new Promise((resolve) => {
        if (!open) return resolve()
        open = false
        listeners.clear()
        socket.close(() => resolve())
      }),
  }
}
