/** What the tunnel commands are told: flags over the configuration's [tunnel]. */
import { existsSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { Option, type Command } from 'commander'
import { GatewayError } from '../base/errors.js'
import { parseHostPort, type HostPort } from '../base/host-port.js'
import type { Config } from '../gateway/config/schema.js'
import type { CheckOptions } from '../tunnel/check.js'
import type { CliEnvironment } from './environment.js'

export interface TunnelFlags {
  config?: string
  identity?: string[]
  agent?: boolean
  knownHosts?: string[]
  fingerprint?: string[]
  backend?: 'auto' | 'ssh2' | 'openssh' | 'openssh+ssh2'
  remoteListen?: string
  controlAddress?: string
  ownSshd?: string
  requirePostQuantum?: boolean
  jump?: string
  proxy?: string
}

export function collect(value: string, before: string[] = []): string[] {
  return [...before, value]
}

/** Adds the flags that all tunnel commands share. */
export function declareTunnelFlags(command: Command): Command {
  return command
    .option('-c, --config <file>', 'configuration whose tunnel section holds what no flag says')
    .option('-i, --identity <file>', 'private key file; may be given several times', collect)
    .option('--no-agent', 'do not offer the keys of the ssh-agent')
    .option('--known-hosts <file>', 'known_hosts file (default: ~/.ssh/known_hosts)', collect)
    .option('--fingerprint <SHA256:…>', "the server's host key, instead of known_hosts", collect)
    .addOption(
      new Option('--backend <name>', 'how the tunnel is made').choices([
        'auto',
        'ssh2',
        'openssh',
        'openssh+ssh2',
      ] as const),
    )
    .option('--remote-listen <[host:]port>', 'the listener on the server (default: all addresses, port 9000)')
    .option('--control-address <host:port>', 'where peers dial (default: the server and the port of the listener)')
    .option('--own-sshd <host:port>', 'where the server reaches its own sshd (default: localhost and the port dialled)')
    .option('--require-post-quantum', 'no tunnel whose key exchange a quantum computer could break')
    .option('--jump <user@host[:port]>', 'go through this host')
    .option('--proxy <url>', 'go through http://host:port or socks5://host:port')
}

/** The configuration's tunnel section and SiteAgent; empty where there is no file. */
export async function tunnelSectionOf(
  file: string | undefined,
  env: CliEnvironment,
): Promise<{ tunnel: NonNullable<Config['tunnel']>; siteAgent: HostPort | undefined; viaTunnel: boolean }> {
  const { loadConfig } = await import('../gateway/config/load.js')
  const { config } = loadConfig(file, env.cwd, env.env)
  const agent = config.site?.agent
  return {
    tunnel: config.tunnel ?? {},
    siteAgent: agent === undefined ? undefined : parseHostPort(agent, 'site.agent'),
    viaTunnel: config.site?.viaTunnel ?? false,
  }
}

/** `~/.ssh/id_*` where they exist. */
export function customaryKeys(env: CliEnvironment): string[] {
  const home = env.env['HOME'] ?? homedir()
  return ['id_ed25519', 'id_ecdsa', 'id_rsa'].map((name) => join(home, '.ssh', name)).filter((file) => existsSync(file))
}

/** The files that are read, the first of which is written. */
export function knownHostsFiles(
  flags: TunnelFlags,
  section: NonNullable<Config['tunnel']>,
  env: CliEnvironment,
): string[] {
  const home = env.env['HOME'] ?? homedir()
  return flags.knownHosts ?? section.knownHosts ?? [join(home, '.ssh', 'known_hosts'), '/etc/ssh/ssh_known_hosts']
}

/** All options of a tunnel to `server` (or the configured one). Throws E_USAGE where there is none. */
export async function checkOptions(
  server: string | undefined,
  flags: TunnelFlags,
  env: CliEnvironment,
): Promise<CheckOptions> {
  const { parseOwnSshd, parseServerAddress } = await import('../tunnel/server-address.js')
  const { parseRemoteListen } = await import('../gateway/plan.js')
  const { terminalPrompt } = await import('../gateway/passphrase.js')
  const { silentLogger } = await import('../observe/log.js')
  const { tunnel: section } = await tunnelSectionOf(flags.config, env)
  const address = server ?? section.server
  if (address === undefined) {
    throw new GatewayError('E_USAGE', 'which server?', {
      remedy: 'qkd-gw tunnel check user@host, or -c FILE with [tunnel] server',
    })
  }
  const control = flags.controlAddress ?? section.controlAddress
  const ownSshd = flags.ownSshd ?? section.ownSshd
  const jump = flags.jump ?? section.jumpHost
  return {
    server: parseServerAddress(address, 'the server'),
    backend: flags.backend ?? section.backend ?? 'auto',
    identityFiles: flags.identity ?? section.identity ?? customaryKeys(env),
    agent: flags.agent === false || section.agent === false ? undefined : env.env['SSH_AUTH_SOCK'],
    knownHostsFiles: knownHostsFiles(flags, section, env),
    pinnedFingerprints: flags.fingerprint ?? section.fingerprints ?? [],
    remoteListen: parseRemoteListen(flags.remoteListen ?? section.remoteListen ?? '9000'),
    controlAddress: control === undefined ? undefined : parseHostPort(control, '--control-address'),
    innerTarget: ownSshd === undefined ? undefined : parseOwnSshd(ownSshd, '--own-sshd'),
    requirePostQuantum: flags.requirePostQuantum ?? section.requirePostQuantum ?? false,
    jump: jump === undefined ? undefined : parseServerAddress(jump, '--jump'),
    proxy: flags.proxy ?? section.proxy,
    prompt: terminalPrompt(env),
    clock: env.clock,
    random: env.random,
    log: silentLogger,
  }
}
