import type { NetworkInterfaceInfo } from 'node:os'
import { describe, expect, it } from 'vitest'
import { systemClock } from '../../src/base/clock.js'
import { systemRandom } from '../../src/base/random.js'
import type { DriverDescriptor } from '../../src/device/contract.js'
import { tunnelOptions } from '../../src/gateway/compose-tunnel.js'
import { readConfig } from '../../src/gateway/config/load.js'
import { chooseListenAddress } from '../../src/gateway/listen-address.js'
import { makePlan, parseRemoteListen } from '../../src/gateway/plan.js'
import { silentLogger } from '../../src/observe/log.js'
import type { TunnelOptions } from '../../src/tunnel/options.js'

const qix: DriverDescriptor = {
  name: 'qix',
  title: 'QIX',
  yields: 'keys',
  kind: 'qix',
  bytesPerKey: 32,
  exercisedOnHardware: false,
  usb: [],
}
const base = { device: { path: '/dev/ttyUSB0', side: 'alice' as const }, server: { listen: '127.0.0.1:0' } }

const network = (address: string): NetworkInterfaceInfo[] => [
  { address, netmask: '255.255.255.0', family: 'IPv4', mac: '', internal: false, cidr: null },
]

describe('the listen address', () => {
  it('is the only private address of the machine', () => {
    expect(chooseListenAddress({ eth0: network('192.168.2.1'), eth1: network('45.55.2.5') })).toMatchObject({
      host: '192.168.2.1',
      port: 9000,
    })
  })

  it('with several private addresses is asked for, and they are listed', () => {
    expect(() => chooseListenAddress({ eth0: network('192.168.2.1'), wlan0: network('10.1.1.1') })).toThrow(
      /192\.168\.2\.1 \(eth0\), 10\.1\.1\.1 \(wlan0\)/,
    )
  })

  it('without a private address is this machine alone, and says so', () => {
    const chosen = chooseListenAddress({ eth0: network('45.55.2.5') })
    expect(chosen.host).toBe('127.0.0.1')
    expect(chosen.reason).toContain('no private address')
  })
})

describe('a plan', () => {
  it("takes kind and key length from the driver and the id in CQPToolkit's own form", () => {
    expect(makePlan(base, qix, {}).device).toMatchObject({ kind: 'qix', bytesPerKey: 32, id: 'qix__0__32_alice' })
    const ports = { ...base, device: { ...base.device, switchName: 'east', switchPorts: ['1', '2'] } }
    expect(makePlan(ports, qix, {}).device.id).toBe('qix__0_1,2_32_alice')
  })

  it('has one key length, whether it is given to the driver or to the registration', () => {
    const dummy: DriverDescriptor = { ...qix, bytesPerKey: 16, keyBytesOption: 'key-bytes' }
    const lengths = (bytesPerKey: number | undefined, option: string | undefined): unknown[] => {
      const device = {
        ...base.device,
        ...(bytesPerKey === undefined ? {} : { bytesPerKey }),
        ...(option === undefined ? {} : { options: { 'key-bytes': option } }),
      }
      const plan = makePlan({ ...base, device }, dummy, {}).device
      return [plan.bytesPerKey, plan.options['key-bytes'], plan.id]
    }
    expect(lengths(undefined, undefined)).toEqual([16, undefined, 'qix__0__16_alice'])
    expect(lengths(32, undefined)).toEqual([32, '32', 'qix__0__32_alice'])
    expect(lengths(undefined, '32')).toEqual([32, '32', 'qix__0__32_alice'])
    expect(() => lengths(32, '16')).toThrow(/keys of 32 bytes, but the driver's option key-bytes says 16/)
  })

  it('asks for what it cannot guess: the device and the side', () => {
    expect(() => makePlan({ device: { side: 'bob' } }, qix, {})).toThrow(/no device named/)
    expect(() => makePlan({ device: { path: '/dev/x' } }, qix, {})).toThrow(/which end of the fibre/)
  })

  it('warns of an id that Java sites cannot use', () => {
    const plan = makePlan({ ...base, site: { agent: '127.0.0.1:8000' } }, qix, {})
    expect(plan.warnings.join('\n')).toContain('A_B_A')
    const named = { device: { ...base.device, id: 'A_B_A' }, server: base.server, site: { agent: '127.0.0.1:8000' } }
    expect(makePlan(named, qix, {}).warnings.join()).not.toContain('A_B_A')
  })

  it('keys that are not secret go to another machine only when that was asked for by name', () => {
    const dummy = { ...qix, name: 'dummyqkd', notSecretBecause: 'simulated' }
    const config = { ...base, site: { agent: '45.55.2.5:8000' } }
    expect(() => makePlan(config, dummy, {})).toThrow(/not secret/)
    expect(makePlan({ ...config, allowUnsafe: ['not-secret-keys' as const] }, dummy, {}).warnings.join()).toContain(
      'NOT SECRET',
    )
    expect(makePlan({ ...base, site: { agent: '127.0.0.1:8000' } }, dummy, {}).warnings.join()).toContain('NOT SECRET')
  })

  it('says plainly what is missing where no tunnel or no SiteAgent is named', () => {
    const text = makePlan(base, qix, {}).warnings.join('\n')
    expect(text).toContain('--tunnel')
    expect(text).toContain('--site-agent')
  })

  it('tells the tunnel where the server reaches its own sshd, as flag and file say it, and asks again where that is no address', () => {
    const told = (ownSshd?: string): TunnelOptions['innerTarget'] => {
      const plan = makePlan({ ...base, tunnel: { server: 'lab@45.55.2.5', ownSshd } }, qix, {})
      if (plan.tunnel === undefined) throw new Error('no tunnel')
      const { stdin, stderr } = process
      const host = { stdin, stderr, env: {}, clock: systemClock, random: systemRandom, signal: AbortSignal.abort() }
      const kept = { port: undefined, follow: () => {} }
      return tunnelOptions(plan, plan.tunnel, () => Promise.reject(new Error()), host, silentLogger, kept).innerTarget
    }
    expect(told()).toBeUndefined()
    expect(told('127.0.0.2:2022')).toEqual({ host: '127.0.0.2', port: 2022 })
    expect(() => told('*:22')).toThrow(/--own-sshd: "\*:22" is no address of one sshd/)
    expect(readConfig('c.toml', '[tunnel]\nownSshd = "127.0.0.2:2022"').config.tunnel).toEqual({
      ownSshd: '127.0.0.2:2022',
    })
    expect(() => readConfig('c.toml', '[tunnel]\nownSshd = "localhost"')).toThrow(/host:port/)
  })

  it('reads [host:]port of the listener as ssh does', () => {
    expect(parseRemoteListen('9001')).toEqual({ host: '', port: 9001 })
    expect(parseRemoteListen('*:9001')).toEqual({ host: '', port: 9001 })
    expect(parseRemoteListen('127.0.0.2:9001')).toEqual({ host: '127.0.0.2', port: 9001 })
  })
})
