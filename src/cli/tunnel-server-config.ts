import { readFileSync } from 'node:fs'
import type { Command } from 'commander'
import { formatHostPort, parseHostPort } from '../base/host-port.js'
import type { ServerConfig, ServerConfigInput } from '../tunnel/server-config.js'
import type { CliEnvironment } from './environment.js'
import type { TunnelFlags } from './tunnel-flags.js'

interface ServerConfigFlags extends TunnelFlags {
  publicKey?: string[]
  from?: string[]
  siteAgent?: string
  viaTunnel?: boolean
  diagnosis?: boolean
  json?: boolean
}

const PLACEHOLDER_KEY = 'ssh-ed25519 AAAA… (the public half of your key, for example ~/.ssh/id_ed25519.pub)'

/** Public halves: named ones, else those beside the private key files. */
function publicKeys(flags: ServerConfigFlags, identityFiles: readonly string[]): string[] {
  const read = (file: string): string[] =>
    readFileSync(file, 'utf8')
      .split('\n')
      .map((line) => line.trim())
      .filter((line) => line !== '' && !line.startsWith('#'))
  if (flags.publicKey !== undefined) return flags.publicKey.flatMap(read)
  return identityFiles.flatMap((file) => {
    try {
      return read(`${file}.pub`)
    } catch {
      return []
    }
  })
}

/** The whole text for a person. */
export function renderServerConfig(config: ServerConfig, input: ServerConfigInput, home: string): string {
  const lines = [
    '# What the SSH server should hold for the tunnel. Lines with # explain; the rest is to be copied.',
    '',
    `# 1. A user of its own, once:`,
    `#    sudo useradd --create-home --shell /usr/sbin/nologin ${input.user}`,
    '',
    '# 2. /etc/ssh/sshd_config.d/qkd-gw.conf, then: sudo sshd -t && sudo systemctl reload ssh',
    '#    GatewayPorts clientspecified: without it sshd listens on loopback only, and says OK all the same.',
    '#    ClientAliveInterval and -CountMax: how long the listener of a dead client stays (about three times',
    '#    their product). Where sshd has UnusedConnectionTimeout (9.2 and later), leave it at none.',
    ...config.sshdConfig,
    '',
    `# 3. ${home}/.ssh/authorized_keys, one line a key:`,
    ...config.permissions.map(({ option, what }) => `#    ${option.padEnd(34)} ${what}`),
    ...config.authorizedKeys,
    '',
    `# 4. Firewall or security group: let TCP port${config.openPorts.length === 1 ? '' : 's'} ${config.openPorts.join(', ') || '(whatever the server chooses)'} in.`,
    ...(config.off.length === 0 ? [] : ['', ...config.off.map((one) => `# Note: ${one}.`)]),
  ]
  return `${lines.join('\n')}\n`
}

/** `qkd-gw tunnel server-config`: prints what the server should hold. */
export function addServerConfigCommand(tunnel: Command, env: CliEnvironment): void {
  tunnel
    .command('server-config')
    .description('print what the SSH server should hold: sshd settings and the line for authorized_keys')
    .argument('[user@host[:port]]', 'the server (default: from the configuration, else a placeholder)')
    .option('-c, --config <file>', 'configuration whose tunnel section holds what no flag says')
    .option(
      '-i, --identity <file>',
      'private key file; FILE.pub is put into the line',
      (value, before: string[] = []) => [...before, value],
    )
    .option('--public-key <file>', 'public key file to put into the line', (value, before: string[] = []) => [
      ...before,
      value,
    ])
    .option('--from <address>', 'allow logins from this address or range only', (value, before: string[] = []) => [
      ...before,
      value,
    ])
    .option('--backend <name>', 'auto and openssh+ssh2 need a way through to the server itself')
    .option('--remote-listen <[host:]port>', 'the listener on the server (default: all addresses, port 9000)')
    .option('--control-address <host:port>', 'where peers dial')
    .option('--own-sshd <host:port>', 'where the server reaches its own sshd (default: localhost and the port dialled)')
    .option('--site-agent <host:port>', 'the SiteAgent, for --via-tunnel')
    .option('--via-tunnel', 'the SiteAgent is called through the tunnel')
    .option(
      '--diagnosis',
      'permit looks at 127.0.0.1 and 127.0.0.2: a loopback-only listener or a firewall, for certain',
    )
    .option('--json', 'for machines')
    .addHelpText('after', '\nBare, it prints placeholders. Exit code 0.\n')
    .action(async (server: string | undefined, flags: ServerConfigFlags) => {
      const { customaryKeys, tunnelSectionOf } = await import('./tunnel-flags.js')
      const { parseOwnSshd, parseServerAddress } = await import('../tunnel/server-address.js')
      const { controlAddressOf } = await import('../tunnel/listener.js')
      const { serverConfig } = await import('../tunnel/server-config.js')
      const { parseRemoteListen } = await import('../gateway/plan.js')
      const { tunnel: section, siteAgent, viaTunnel } = await tunnelSectionOf(flags.config, env)
      const named = server ?? section.server
      const address =
        named === undefined ? { user: 'qkd', host: 'SERVER', port: 22 } : parseServerAddress(named, 'the server')
      const remoteListen = parseRemoteListen(flags.remoteListen ?? section.remoteListen ?? '9000')
      const control = flags.controlAddress ?? section.controlAddress
      const controlAddress = control === undefined ? undefined : parseHostPort(control, '--control-address')
      const ownSshd = flags.ownSshd ?? section.ownSshd
      const backend = flags.backend ?? section.backend ?? 'auto'
      const agent = flags.siteAgent === undefined ? siteAgent : parseHostPort(flags.siteAgent, '--site-agent')
      // A key of the person who asks is no guess where neither flag nor configuration names one: a placeholder is.
      const files = flags.identity ?? section.identity ?? (named === undefined ? [] : customaryKeys(env))
      const keys = publicKeys(flags, files)
      const input: ServerConfigInput = {
        user: address.user,
        server: address,
        remoteListen,
        controlAddress: controlAddressOf({ controlAddress, server: address, remoteListen }, remoteListen),
        portPool: section.portPool ?? [],
        anyPort: section.anyPort ?? false,
        nested: backend === 'auto' || backend === 'openssh+ssh2',
        innerTarget: ownSshd === undefined ? undefined : parseOwnSshd(ownSshd, '--own-sshd'),
        diagnosis: flags.diagnosis ?? false,
        siteAgent: (flags.viaTunnel ?? viaTunnel) ? agent : undefined,
        publicKeys: keys.length === 0 ? [PLACEHOLDER_KEY] : keys,
        from: flags.from ?? [],
      }
      const config = serverConfig(input)
      if (flags.json === true) {
        const facts = { user: input.user, controlAddress: formatHostPort(input.controlAddress) }
        env.stdout.write(`${JSON.stringify({ ...facts, ...config }, null, 2)}\n`)
        return
      }
      const home = address.user === 'root' ? '/root' : `/home/${address.user}`
      env.stdout.write(renderServerConfig(config, input, home))
    })
}
