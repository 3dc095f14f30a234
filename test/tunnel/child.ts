/** A tunnel in a process of its own, for tests that stop or kill it. Prints each state as a JSON line. */
import { systemClock } from '../../src/base/clock.js'
import { systemRandom } from '../../src/base/random.js'
import { silentLogger } from '../../src/observe/log.js'
import type { TunnelOptions } from '../../src/tunnel/options.js'
import { createTunnel } from '../../src/tunnel/tunnel.js'
import { SHORT_TIMINGS } from './bench-tunnel.js'
import { createSelf } from './self.js'

const given = JSON.parse(process.argv[2] ?? '{}') as Pick<
  TunnelOptions,
  'server' | 'backend' | 'identityFiles' | 'knownHostsFiles' | 'remoteListen' | 'timings'
>
const self = createSelf()
const tunnel = createTunnel({
  ...given,
  timings: { ...SHORT_TIMINGS, ...given.timings },
  sshConfigFile: 'none',
  probe: self.probe,
  clock: systemClock,
  random: systemRandom,
  log: silentLogger,
})
tunnel.onConnection(self.take)
tunnel.state.subscribe((state) => process.stdout.write(`${JSON.stringify(state)}\n`))
const stop = new AbortController()
process.on('SIGTERM', () => stop.abort())
await tunnel.run(stop.signal)
