/** A name with an address of each family, of which one answers at a time. Needs root: the name is known to this test alone. */
import { spawn } from 'node:child_process'
import { chmodSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { alone, runTunnel, tempFolder } from './bench-tunnel.js'
import { freePort, startRealSshd } from './real-sshd.js'

const NAME = 'both.example'
const FAMILIES = ['::1', '127.0.0.1'] as const

/** The words that start a program which knows the name, and nothing else that is new. */
function knowingTheName(folder: string): readonly string[] {
  const hosts = join(folder, 'hosts')
  writeFileSync(hosts, ['127.0.0.1 localhost', ...FAMILIES.map((address) => `${address} ${NAME}`), ''].join('\n'))
  return ['unshare', '-m', 'sh', '-c', 'mount --bind "$0" /etc/hosts && exec "$@"', hosts]
}

describe.concurrent('a server that answers at one of its two addresses', () => {
  it.each(['ssh2', 'openssh', 'openssh+ssh2'] as const)(
    'is found at either, whichever it was before, with the back end %s',
    alone(async (backend) => {
      const folder = tempFolder()
      const [within = '', ...words] = knowingTheName(folder)
      const ssh = join(folder, 'ssh')
      const quoted = [within, ...words].map((word) => `'${word}'`).join(' ')
      writeFileSync(ssh, `#!/bin/sh\nexec ${quoted} ssh "$@"\n`)
      chmodSync(ssh, 0o700)
      const sshd = await startRealSshd({
        place: {
          host: NAME,
          listen: '127.0.0.1',
          start: (program, args, stdio) => spawn(within, [...words, program, ...args], { stdio }),
        },
      })
      const running = runTunnel({
        ...sshd.options,
        backend,
        sshProgram: ssh,
        sshConfigFile: 'none',
        innerTarget: { host: NAME, port: sshd.port },
        lookup: () => Promise.resolve([...FAMILIES]),
        remoteListen: { host: '127.0.0.1', port: await freePort() },
      })
      const address = (): unknown => running.tunnel.facts()['address']
      await running.until('proven')
      expect(address()).toBe('127.0.0.1')
      for (const next of FAMILIES) {
        await sshd.stop()
        await running.until('down', 'connecting')
        const file = join(sshd.folder, 'sshd_config')
        writeFileSync(file, readFileSync(file, 'utf8').replace(/^ListenAddress .*$/m, `ListenAddress ${next}`))
        await sshd.start()
        await running.until('proven')
        expect(address()).toBe(next)
      }
    }),
  )
})
