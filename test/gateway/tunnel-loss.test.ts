/** What a lost tunnel carried ends with it: the link does not have to find out by itself. */
import { afterEach, describe, expect, it } from 'vitest'
import { untilState } from '../../src/base/cell.js'
import { systemClock } from '../../src/base/clock.js'
import { addLinkService } from '../../src/link/link-service.js'
import { silentLogger } from '../../src/observe/log.js'
import { createAccessPolicy } from '../../src/rpc/access.js'
import { bidiStream } from '../../src/rpc/bridge.js'
import { openChannel } from '../../src/rpc/channel.js'
import { Link } from '../../src/rpc/gen/qkdgw/link/v1/link_pb.js'
import { createProbe } from '../../src/rpc/probe.js'
import { createDeviceServer } from '../../src/rpc/server.js'
import { systemRandom } from '../../src/base/random.js'
import { createTunnel } from '../../src/tunnel/tunnel.js'
import { alone, cleanUp, onCleanup, SHORT_TIMINGS } from '../tunnel/bench-tunnel.js'
import { freePort, startRealSshd } from '../tunnel/real-sshd.js'

afterEach(cleanUp)

const PATIENCE_MS = 60_000

describe.concurrent('the link over a tunnel that is lost in silence', () => {
  it.each(['ssh2', 'openssh', 'openssh+ssh2'] as const)(
    'is told by the tunnel with the back end %s, while the caller and sshd still hold their ends',
    { timeout: 2 * PATIENCE_MS },
    alone(async (backend) => {
      const sshd = await startRealSshd()
      onCleanup(() => sshd.signalSessions('SIGCONT'))
      const probe = createProbe({ clock: systemClock, random: systemRandom, version: 'test' })
      const device = createDeviceServer({
        policy: createAccessPolicy({ siteHostAddresses: () => ['127.0.0.1'], allowPeers: ['hidden'] }),
        clock: systemClock,
        log: silentLogger,
      })
      onCleanup(() => device.shutdown(1_000))
      let opened = (): void => {}
      let told = (_: { code: number; tunnel: string }): void => {}
      const isOpen = new Promise<void>((resolve) => (opened = resolve))
      const isTold = new Promise<{ code: number; tunnel: string }>((resolve) => (told = resolve))
      device.addServices((server, handling) => {
        probe.addTo(server, handling)
        // A link without any deadline of its own: it learns of the loss from the tunnel, or never.
        const acceptLink = (): { onMessage: () => void; onClosed: (code: number) => void } => {
          opened()
          return { onMessage: () => {}, onClosed: (code) => told({ code, tunnel: tunnel.state.value.state }) }
        }
        addLinkService(server, { acceptLink }, handling)
      })
      const port = await freePort()
      const tunnel = createTunnel({
        ...sshd.options,
        backend,
        sshConfigFile: 'none',
        remoteListen: { host: '127.0.0.1', port },
        probe: probe.probeSelf,
        clock: systemClock,
        random: systemRandom,
        log: silentLogger,
        // Once lost it stays down: no new connection can be what the link hears of.
        timings: { ...SHORT_TIMINGS, fastRetriesMs: [3_600_000] },
      })
      tunnel.onConnection(({ stream, originator }) => device.inject(stream, originator))
      const stop = new AbortController()
      const ended = tunnel.run(stop.signal)
      onCleanup(async () => {
        stop.abort()
        await ended.catch(() => {})
      })
      const patience = AbortSignal.timeout(PATIENCE_MS)
      await untilState(tunnel.state, (state): state is typeof state => state.state === 'proven', patience)

      const channel = await openChannel({ address: `127.0.0.1:${port}`, what: 'the other site' })
      onCleanup(() => channel.close())
      const hangUp = new AbortController()
      onCleanup(() => hangUp.abort())
      const call = bidiStream(channel.client, Link.method.open, { deadlineMs: Infinity, signal: hangUp.signal })
      let hasCallEnded = false
      const reading = (async () => {
        for await (const _ of call);
      })()
      void reading.then(
        () => (hasCallEnded = true),
        () => (hasCallEnded = true),
      )
      await isOpen
      sshd.signalSessions('SIGSTOP')
      const { code, tunnel: state } = await isTold
      expect(code).not.toBe(0)
      expect(hasCallEnded).toBe(false)
      expect(['degraded', 'down']).toContain(state)
      await untilState(tunnel.state, (now): now is typeof now => now.state === 'down', patience)
    }),
  )
})
