/** A device server on loopback with a scripted port behind it. */
import { createConnection, createServer, type Socket } from 'node:net'
import { Duplex } from 'node:stream'
import { StateCell } from '../../../src/base/cell.js'
import { systemClock } from '../../../src/base/clock.js'
import type { HostPort } from '../../../src/base/host-port.js'
import { systemRandom } from '../../../src/base/random.js'
import { silentLogger } from '../../../src/observe/log.js'
import { createStatistics, type Statistics } from '../../../src/observe/statistics.js'
import { createAccessPolicy, type AccessOptions } from '../../../src/rpc/access.js'
import { openChannel, type Channel, type ChannelTarget } from '../../../src/rpc/channel.js'
import type { DeviceDetails } from '../../../src/rpc/details.js'
import type { CallContext, DevicePort, KeyStream, LinkStatusValue } from '../../../src/rpc/device-port.js'
import { addDeviceServices } from '../../../src/rpc/device-services.js'
import type { PairPort } from '../../../src/rpc/pair-port.js'
import { createProbe, type Probe } from '../../../src/rpc/probe.js'
import { createDeviceServer, type DeviceServer, type DeviceServerOptions } from '../../../src/rpc/server.js'
import type { Health } from '../../../src/rpc/services/health.js'

export const loopbackPort: HostPort = { host: '127.0.0.1', port: 0 }

/** Records what reached the port; each behaviour may be replaced. */
export class ScriptedPort implements DevicePort {
  readonly linkStatus = new StateCell<LinkStatusValue>({ state: 'inactive', errorCode: 0 }, systemClock)
  readonly calls: { method: string; address?: string; call?: CallContext; parameters?: unknown }[] = []
  readonly streams: KeyStream[] = []
  onStream: (stream: KeyStream, initialKey: Uint8Array) => void = () => {}
  onRun: () => Promise<void> = () => Promise.resolve()

  waitForSession(initialKey: Uint8Array, stream: KeyStream): void {
    this.calls.push({ method: 'waitForSession' })
    this.streams.push(stream)
    this.onStream(stream, initialKey)
  }
  async runSession(parameters: unknown, address: string, call: CallContext): Promise<void> {
    this.calls.push({ method: 'runSession', address, call, parameters })
    await this.onRun()
  }
  async endSession(call: CallContext): Promise<void> {
    this.calls.push({ method: 'endSession', call })
  }
  async sessionStarting(parameters: unknown, address: string, call: CallContext): Promise<void> {
    this.calls.push({ method: 'sessionStarting', address, call, parameters })
  }
  async sessionEnding(call: CallContext): Promise<void> {
    this.calls.push({ method: 'sessionEnding', call })
  }
}

export const details: DeviceDetails = {
  id: 'A_B_A',
  side: 'bob',
  kind: 'qix',
  bytesPerKey: 32,
  switchName: '',
  switchPorts: ['1', '2'],
  controlAddress: '45.55.2.5:9000',
  siteAgentAddress: '45.55.2.5:8000',
}

export interface DeviceUnderTest {
  readonly server: DeviceServer
  readonly port: ScriptedPort
  readonly statistics: Statistics
  readonly probe: Probe
  readonly health: Health
  readonly address: HostPort
  /** A channel to the local port, closed with the device. */
  channel(target?: Partial<ChannelTarget>): Promise<Channel>
  /** A channel whose connections are injected as if the tunnel had brought them from `originator`. */
  throughTunnel(originator: HostPort | undefined, target?: Partial<ChannelTarget>): Promise<Channel>
  close(): Promise<void>
}

export async function startDevice(
  access: Partial<AccessOptions> = {},
  options: Partial<DeviceServerOptions> & { pair?: () => PairPort | undefined } = {},
): Promise<DeviceUnderTest> {
  const server = createDeviceServer({
    policy: createAccessPolicy({ siteHostAddresses: () => ['45.55.2.5'], ...access }),
    clock: systemClock,
    log: silentLogger,
    ...options,
  })
  const port = new ScriptedPort()
  const statistics = createStatistics(systemClock, () => {})
  const probe = createProbe({ random: systemRandom, clock: systemClock, version: '0.0.0-test' })
  const health = addDeviceServices(server, {
    port,
    details: () => details,
    statistics,
    probe,
    ...(options.pair === undefined ? {} : { pair: options.pair }),
    clock: systemClock,
    log: silentLogger,
  })
  const address = await server.listen(loopbackPort)
  const channels: Channel[] = []
  const open = async (target: ChannelTarget): Promise<Channel> => {
    const channel = await openChannel(target)
    channels.push(channel)
    return channel
  }
  const base = { address: `127.0.0.1:${address.port}`, what: 'test' }
  return {
    server,
    port,
    statistics,
    probe,
    health,
    address,
    channel: (target = {}) => open({ ...base, ...target }),
    throughTunnel: (originator, target = {}) =>
      open({
        ...base,
        ...target,
        dial: async () => {
          const [near, far] = duplexPair()
          server.inject(far, originator)
          return near
        },
      }),
    async close() {
      await Promise.all(channels.map((channel) => channel.close()))
      await server.shutdown(1_000)
    },
  }
}

/** Two ends of one byte stream in memory: no socket, no address, as a channel of an SSH connection is. */
export function duplexPair(): [Duplex, Duplex] {
  const ends: Duplex[] = []
  const make = (other: () => Duplex | undefined): Duplex => {
    let resume: (() => void) | undefined
    const end = new Duplex({
      read() {
        resume?.()
        resume = undefined
      },
      write(chunk: Buffer, _encoding, callback) {
        const peer = other()
        if (peer === undefined || peer.destroyed) return callback(new Error('the other end is gone'))
        if (peer.push(chunk)) return callback()
        takers.set(peer, callback)
      },
      final(callback) {
        other()?.push(null)
        callback()
      },
      destroy(error, callback) {
        const peer = other()
        if (peer !== undefined && !peer.destroyed) peer.destroy()
        callback(error)
      },
    })
    end._read = () => {
      const take = takers.get(end)
      takers.delete(end)
      take?.()
    }
    end.on('error', () => {})
    return end
  }
  const takers = new Map<Duplex, () => void>()
  ends.push(
    make(() => ends[1]),
    make(() => ends[0]),
  )
  const [a, b] = ends
  if (a === undefined || b === undefined) throw new Error('unreachable')
  return [a, b]
}

/** A plain TCP connection to `address`. */
export function connectTo(address: HostPort): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = createConnection(address, () => resolve(socket))
    socket.once('error', reject)
  })
}

/** A port on loopback that accepts and never answers. */
export async function silentPort(): Promise<{ address: HostPort; close(): void }> {
  const sockets = new Set<Socket>()
  const server = createServer((socket) => {
    sockets.add(socket)
    socket.on('error', () => {})
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const bound = server.address()
  if (typeof bound !== 'object' || bound === null) throw new Error('no address')
  return {
    address: { host: '127.0.0.1', port: bound.port },
    close() {
      for (const socket of sockets) socket.destroy()
      server.close()
    },
  }
}

export const soon = (): { deadlineMs: number; signal: AbortSignal } => ({
  deadlineMs: 10_000,
  signal: new AbortController().signal,
})
