/**
 * A tunnel with the gateway's own gRPC server and probe behind it, in a process of its own. Prints a JSON line for each
 * state; answers `facts`, `kick` and `dial HOST PORT` on stdin.
 */
import { getEventListeners } from 'node:events'
import { readdirSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { systemClock } from '../../src/base/clock.js'
import { systemRandom } from '../../src/base/random.js'
import { silentLogger } from '../../src/observe/log.js'
import { createAccessPolicy } from '../../src/rpc/access.js'
import { createProbe } from '../../src/rpc/probe.js'
import { createDeviceServer } from '../../src/rpc/server.js'
import type { TunnelOptions } from '../../src/tunnel/options.js'
import { createTunnel } from '../../src/tunnel/tunnel.js'
import type { ChildFacts, ChildLine } from './outage-lines.js'

type Given = Pick<
  TunnelOptions,
  | 'server'
  | 'backend'
  | 'spareConnection'
  | 'identityFiles'
  | 'knownHostsFiles'
  | 'remoteListen'
  | 'timings'
  | 'controlAddress'
>

const given = JSON.parse(process.argv[2] ?? '{}') as Given
const base = { clock: systemClock, random: systemRandom, log: silentLogger }
const probe = createProbe({ clock: systemClock, random: systemRandom, version: 'test' })
const tunnel = createTunnel({ ...base, ...given, sshConfigFile: 'none', probe: probe.probeSelf })
const policy = createAccessPolicy({ siteHostAddresses: () => tunnel.hostAddresses() })
const server = createDeviceServer({ policy, clock: systemClock, log: silentLogger })
server.addServices((grpc, handling) => probe.addTo(grpc, handling))
tunnel.onConnection(({ stream, originator }) => server.inject(stream, originator))

const say = (line: ChildLine): void => void process.stdout.write(`${JSON.stringify(line)}\n`)
tunnel.state.subscribe((state) => say({ kind: 'state', atMs: Date.now(), state }))

const stop = new AbortController()
process.on('SIGTERM', () => stop.abort())

function facts(): ChildFacts {
  globalThis.gc?.()
  const { heapUsed, rss } = process.memoryUsage()
  return {
    heapBytes: heapUsed,
    rssBytes: rss,
    openFiles: readdirSync('/proc/self/fd').length,
    abortListeners: getEventListeners(stop.signal, 'abort').length,
    connections: server.counts().open,
    backend: tunnel.backend,
    tunnel: tunnel.facts(),
    warnings: tunnel.warnings(),
  }
}

createInterface({ input: process.stdin }).on('line', (line) => {
  if (line === 'kick') tunnel.kick()
  else say({ kind: 'facts', facts: facts() })
})

try {
  await tunnel.run(stop.signal)
} catch (error) {
  const code = error instanceof Error && 'code' in error ? String(error.code) : ''
  say({ kind: 'failed', code, text: error instanceof Error ? error.message : String(error) })
}
await server.shutdown(500)
process.exit(0)
