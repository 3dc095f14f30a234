import { afterEach, describe, expect, it } from 'vitest'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { StateCell, untilState } from '../../src/base/cell.js'
import { systemClock } from '../../src/base/clock.js'
import { parseHostPort } from '../../src/base/host-port.js'
import { keepPort, type KeptPort } from '../../src/gateway/kept-port.js'
import { silentLogger } from '../../src/observe/log.js'
import { startCppSiteAgent } from '../../src/standin/cpp-site-agent.js'
import { startJavaSiteAgent } from '../../src/standin/java-site-agent.js'
import type { TunnelState } from '../../src/tunnel/contract.js'
import { runSite, untilRegistration, type RunningSite } from '../site/support/run-site.js'
import { poll } from '../standin/support/poll.js'

const cleanups: (() => unknown)[] = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
})

const listener = { host: '', port: 9001 }
const controlAddress = { host: '127.0.0.1', port: 9001 }

function begin(stateFolder: string, address: string): KeptPort {
  return keepPort({ stateFolder, id: 'A_B_A', siteAgent: parseHostPort(address, 'SiteAgent'), log: silentLogger })
}

/** A device whose tunnel listens on port 9001, registered at the site. */
async function register(address: string, kept: KeptPort): Promise<RunningSite> {
  const running = runSite(address, { pollMs: 100, retryFirstMs: 50 })
  cleanups.push(() => running.stop())
  const listening: TunnelState = { state: 'listening', listener, controlAddress, reason: '' }
  kept.follow(running.site, { state: new StateCell<TunnelState>(listening, systemClock) })
  running.site.setControlAddress(controlAddress, '')
  await untilRegistration(running.site.state, 'registered')
  return running
}

describe('the port of the listener', () => {
  it('stays once it was registered at a Java SiteAgent, also while that is silent and in the next process', async () => {
    const stateFolder = mkdtempSync(join(tmpdir(), 'qkd-gw-kept-'))
    cleanups.push(() => rmSync(stateFolder, { recursive: true, force: true }))
    const java = await startJavaSiteAgent({ name: 'A' })
    let isClosed = false
    cleanups.push(() => (isClosed ? undefined : java.close()))
    const kept = begin(stateFolder, java.address)
    expect(kept.port).toBeUndefined()
    const { site } = await register(java.address, kept)
    expect(kept.port).toBe(9001)
    await poll(() => begin(stateFolder, java.address).port).toBe(9001)
    await java.close()
    isClosed = true
    await untilState(
      site.state,
      (state): state is typeof state => state.state === 'failed',
      AbortSignal.timeout(60_000),
    )
    expect(kept.port).toBe(9001)
    expect(begin(stateFolder, '127.0.0.1:1').port).toBeUndefined()
    // In its place a C++ one, which can forget.
    const cpp = await startCppSiteAgent({ name: 'A', port: parseHostPort(java.address, 'site').port })
    cleanups.push(() => cpp.close())
    await untilRegistration(site.state, 'registered')
    expect(kept.port).toBeUndefined()
    await poll(() => begin(stateFolder, java.address).port).toBeUndefined()
  })
})
