/**
 * The device end of one tunnel as a process: the gateway's gRPC server with two streams for measuring, behind a tunnel of
 * ours or (`backend` absent) on a local port alone. Prints a JSON line for each state of the tunnel,
 * and `spare` each time a spare connection stands by.
 */
import { createServer } from 'node:net'
import { Server, ServerCredentials, type ServerDuplexStream, type ServerWritableStream } from '@grpc/grpc-js'
import { systemClock } from '../../src/base/clock.js'
import { systemRandom } from '../../src/base/random.js'
import { silentLogger } from '../../src/observe/log.js'
import { createAccessPolicy } from '../../src/rpc/access.js'
import { createProbe } from '../../src/rpc/probe.js'
import { createDeviceServer } from '../../src/rpc/server.js'
import type { TunnelOptions } from '../../src/tunnel/options.js'
import { createTunnel } from '../../src/tunnel/tunnel.js'
import { BENCH_SERVICE, MESSAGE_BYTES } from './tunnel-streams.js'

type Given = Pick<
  TunnelOptions,
  'server' | 'backend' | 'identityFiles' | 'knownHostsFiles' | 'remoteListen' | 'innerTarget' | 'spareConnection'
> & {
  /** grpc-js's own server with its own windows in place of the gateway's. */
  defaultWindows?: boolean
}

const given = JSON.parse(process.argv[2] ?? '{}') as Partial<Given>
const say = (line: object): void => void process.stdout.write(`${JSON.stringify(line)}\n`)

function addStreams(server: Server): void {
  server.addService(BENCH_SERVICE, {
    down(call: ServerWritableStream<Buffer, Buffer>) {
      const message = Buffer.alloc(MESSAGE_BYTES)
      const pump = (): void => {
        while (!call.cancelled && call.write(message));
        if (!call.cancelled) call.once('drain', pump)
      }
      call.on('error', () => {})
      pump()
    },
    up(call: ServerDuplexStream<Buffer, Buffer>) {
      let bytes = 0
      let messages = 0
      call.on('data', (message: Buffer) => {
        bytes += message.length
        messages += 1
        if (messages % 4 !== 0) return
        const total = Buffer.alloc(8)
        total.writeDoubleBE(bytes)
        call.write(total)
      })
      call.on('end', () => call.end())
      call.on('error', () => {})
    },
  })
}

const probe = createProbe({ clock: systemClock, random: systemRandom, version: 'bench' })
const policy = createAccessPolicy({ siteHostAddresses: () => [] })
const device = createDeviceServer({ policy, clock: systemClock, log: silentLogger })
device.addServices((server, handling) => {
  probe.addTo(server, handling)
  addStreams(server)
})
const local = await device.listen({ host: '127.0.0.1', port: 0 })

if (given.server === undefined || given.backend === undefined) say({ kind: 'local', port: local.port })
else {
  const { defaultWindows = false, ...options } = given as Given
  const tunnel = createTunnel({
    ...options,
    sshConfigFile: 'none',
    probe: probe.probeSelf,
    clock: systemClock,
    random: systemRandom,
    log: silentLogger,
  })
  if (defaultWindows) {
    const plain = new Server()
    probe.addTo(plain, {})
    addStreams(plain)
    const injector = plain.createConnectionInjector(ServerCredentials.createInsecure())
    tunnel.onConnection(({ stream }) => injector.injectConnection(stream))
  } else tunnel.onConnection(({ stream, originator }) => device.inject(stream, originator))
  tunnel.state.subscribe((state) => say({ kind: 'state', atMs: Date.now(), ...state }))
  if (given.spareConnection === true) {
    let before = 'none'
    setInterval(() => {
      const now = String(tunnel.facts()['spareConnection'])
      if (now === 'ready' && before !== now) say({ kind: 'state', atMs: Date.now(), state: 'spare' })
      before = now
    }, 20)
  }
  await tunnel.run(new AbortController().signal)
}
// Never ends by itself.
createServer().listen(0, '127.0.0.1')
