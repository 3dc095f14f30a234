import { Command } from 'commander'
import { describe, expect, test } from 'vitest'
import { declareAttachFlags, flagsToConfig, type AttachFlags } from '../../src/cli/attach-flags.js'
import { readConfig } from '../../src/gateway/config/load.js'
import type { Config } from '../../src/gateway/config/schema.js'

/** What `qkd-gw attach` makes of its arguments. */
function configOf(...args: readonly string[]): Config {
  const command = declareAttachFlags(new Command('attach').argument('[device]').exitOverride())
  command.parse([...args], { from: 'user' })
  return flagsToConfig(command.args[0], command.opts<AttachFlags>())
}

describe("the flags of CQPToolkit's device programs", () => {
  test('long ones with "=", short ones with the next argument, say the same as ours', () => {
    const theirs = configOf(
      ...['dummy:', '-a', '-k', '45.55.2.5:9001', '-r', '45.55.2.5:8000', '-s', '--cert=a.crt', '--cert-key=a.key'],
      ...['--rootca=ca.crt', '--switch=here', '--switch-port=3,4', '-v', '-v'],
    )
    const ours = configOf(
      ...['dummy:', '--side', 'alice', '--control-address', '45.55.2.5:9001', '--remote-listen', '9001'],
      ...['--site-agent', '45.55.2.5:8000', '--tls', '--cert', 'a.crt', '--cert-key', 'a.key', '--rootca', 'ca.crt'],
      ...['--switch', 'here', '--switch-port', '3,4', '--log-level', 'trace'],
    )
    expect(theirs).toEqual(ours)
    expect(theirs).toMatchObject({
      device: { side: 'alice', switchName: 'here', switchPorts: ['3', '4'] },
      server: { tls: { certificate: 'a.crt', key: 'a.key', rootCertificates: 'ca.crt' } },
      site: { tls: { rootCertificates: 'ca.crt' } },
    })
    expect(configOf('--control-addr=h:1', '--site=s:2', '--tls', '--bob')).toEqual(
      configOf('-k', 'h:1', '-r', 's:2', '-s', '-b'),
    )
    expect(configOf('--own-sshd', 'localhost:22').tunnel).toEqual({ ownSshd: 'localhost:22' })
    expect(configOf('-q').log).toEqual({ level: 'warn' })
    expect(configOf('-d', '/dev/ttyUSB0')).toEqual(configOf('/dev/ttyUSB0'))
  })

  test('-k says what controlAddress of a device file says, and our own flag wins', () => {
    const document = { controlParams: { config: { side: 'Bob' }, controlAddress: '45.55.2.5:9001' }, bobAddress: '' }
    const file = readConfig('file.json', JSON.stringify(document)).config
    expect(configOf('-k', '45.55.2.5:9001').tunnel).toEqual(file.tunnel)
    expect(configOf('-k', '45.55.2.5:9001', '--remote-listen', '7000').tunnel).toEqual({
      controlAddress: '45.55.2.5:9001',
      remoteListen: '7000',
    })
  })

  test('that contradict each other, or mean something else here, are refused', () => {
    const refused = (...args: string[]) => expect(() => configOf(...args), args.join(' '))
    refused('-a', '-b').toThrow(/both sides/)
    refused('/dev/a', '-d', '/dev/b').toThrow(/two devices/)
    refused('--cert=a.crt').toThrow(/--cert-key/)
    // Upstream's Bob's address for a run without a site: here the SiteAgent names the peer.
    refused('-m', 'host:1').toThrow(/unknown option/)
  })
})
