/** Flags of `attach` as a piece of configuration that wins over the file. Upstream's names are taken too where they mean the same. */
import { Option, type Command } from 'commander'
import { GatewayError } from '../base/errors.js'
import { unsafeChoices, type Config } from '../gateway/config/schema.js'

export interface AttachFlags {
  driver?: string
  side?: 'alice' | 'bob'
  alice?: boolean
  bob?: boolean
  id?: string
  kind?: string
  baud?: number
  bytesPerKey?: number
  driverOption?: string[]
  switch?: string
  switchPort?: string
  listen?: string
  allow?: string[]
  siteAgent?: string
  site?: string
  viaTunnel?: boolean
  tunnel?: string
  identity?: string[]
  knownHosts?: string[]
  fingerprint?: string[]
  backend?: 'auto' | 'ssh2' | 'openssh' | 'openssh+ssh2'
  remoteListen?: string
  controlAddress?: string
  controlAddr?: string
  ownSshd?: string
  requirePostQuantum?: boolean
  jump?: string
  proxy?: string
  tls?: boolean
  cert?: string
  certKey?: string
  rootca?: string
  metrics?: string
  stateFolder?: string
  allowUnsafe?: (typeof unsafeChoices)[number][]
  logLevel?: 'trace' | 'debug' | 'info' | 'warn' | 'error' | 'silent'
  logFormat?: 'pretty' | 'json'
  verbose?: number
  quiet?: number
  config?: string
  device?: string
}

const collect = (value: string, before: string[] | undefined): string[] => [...(before ?? []), value]
const count = (_value: string, before: number | undefined): number => (before ?? 0) + 1

/** Declares the flags on the command, in the groups in which people look for them. */
export function declareAttachFlags(command: Command): Command {
  return command
    .option(
      '-c, --config <file>',
      "TOML or JSON: our own configuration, or a CQPToolkit device program's file as it is",
    )
    .option('-d, --device <path>', 'the device, instead of the argument')
    .option('--driver <name>', 'driver (default: recognised by the USB strings; see qkd-gw devices)')
    .addOption(new Option('--side <side>', 'end of the fibre').choices(['alice', 'bob'] as const))
    .option('-a, --alice', 'the same as --side alice')
    .option('-b, --bob', 'the same as --side bob')
    .option('--id <id>', 'device id at the SiteAgent; Java SiteAgents need the form A_B_A: first, second, own site')
    .option('--kind <kind>', "kind at the SiteAgent, equal at both ends (default: the driver's, for qix: qix)")
    .option('--bytes-per-key <n>', "bytes of one key (default: the driver's, for qix: 32)", Number)
    .option('--baud <rate>', "line rate (default: the driver's, for qix: 9600)", Number)
    .option('--driver-option <name=value>', 'an option of the driver; may be given several times', collect)
    .option('--switch <name>', 'name of the optical switch, passed on')
    .option('--switch-port <ports>', 'ports of the optical switch, separated by commas, passed on')
    .option(
      '--listen <host:port>',
      "where to serve the device (default: this machine's only private address, port 9000)",
    )
    .option('--allow <address>', "an address or range that may ask for keys, besides the tunnel's own host", collect)
    .option('--site-agent <host:port>', 'the SiteAgent to register with')
    .option('-r, --site <host:port>', 'the same as --site-agent')
    .option('--via-tunnel', 'call the SiteAgent through the tunnel')
    .option('--tunnel <user@host[:port]>', 'the SSH server on which to listen, beside the SiteAgent')
    .option('-i, --identity <file>', 'private key file for the tunnel; may be given several times', collect)
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
    .option(
      '--remote-listen <[host:]port>',
      'the listener on the server (default: all addresses, port 9000; see below)',
    )
    .option('--control-address <host:port>', 'what to register instead of the listener')
    .option('-k, --control-addr <host:port>', 'what to register, and the port of the listener, as in a device file')
    .option('--own-sshd <host:port>', 'where the server reaches its own sshd (default: localhost and the port dialled)')
    .option('--require-post-quantum', 'refuse a tunnel whose key exchange a quantum computer could break')
    .option('--jump <user@host[:port]>', 'go to the server through this host')
    .option('--proxy <url>', 'go to the server through http://host:port or socks5://host:port')
    .option('-s, --tls', 'serve and call with TLS')
    .option('--cert <file>', 'certificate chain (PEM)')
    .option('--cert-key <file>', 'private key of the certificate (PEM, 0600)')
    .option('--rootca <file>', 'authorities that peers are checked against (PEM)')
    .option('--metrics <host:port|off>', 'where Prometheus finds /metrics (default: 127.0.0.1:9464)')
    .option(
      '--state-folder <folder>',
      'where state lives (default: $XDG_STATE_HOME/qkd-gw, or /var/lib/qkd-gw for root)',
    )
    .addOption(
      new Option('--allow-unsafe <choice>', `an unsafe choice, by name: ${unsafeChoices.join(', ')}`)
        .choices(unsafeChoices)
        .argParser((value: string, before: string[] | undefined) => {
          if (!unsafeChoices.some((choice) => choice === value)) {
            throw new GatewayError('E_USAGE', `--allow-unsafe ${value}: known are ${unsafeChoices.join(', ')}`)
          }
          return collect(value, before)
        }),
    )
    .addOption(
      new Option('--log-level <level>', 'how much to say').choices([
        'trace',
        'debug',
        'info',
        'warn',
        'error',
        'silent',
      ] as const),
    )
    .addOption(new Option('--log-format <format>', 'plain text or JSON lines').choices(['pretty', 'json'] as const))
    .option('-v, --verbose', 'say more; may be given several times', count)
    .option('-q, --quiet', 'say less; may be given several times', count)
}

const levels = ['trace', 'debug', 'info', 'warn', 'error', 'silent'] as const

function levelOf(flags: AttachFlags): (typeof levels)[number] | undefined {
  if (flags.logLevel !== undefined) return flags.logLevel
  const shift = (flags.quiet ?? 0) - (flags.verbose ?? 0)
  if (shift === 0) return undefined
  return levels[Math.min(levels.length - 1, Math.max(0, levels.indexOf('info') + shift))]
}

function sideOf(flags: AttachFlags): 'alice' | 'bob' | undefined {
  const named = [
    flags.side,
    flags.alice === true ? 'alice' : undefined,
    flags.bob === true ? 'bob' : undefined,
  ] as const
  const sides = new Set(named.filter((side) => side !== undefined))
  if (sides.size > 1) throw new GatewayError('E_USAGE', 'both sides named: a device is Alice or Bob')
  return [...sides][0]
}

function driverOptions(pairs: readonly string[] | undefined): Record<string, string> | undefined {
  if (pairs === undefined) return undefined
  return Object.fromEntries(
    pairs.map((pair) => {
      const split = pair.indexOf('=')
      if (split < 1) throw new GatewayError('E_USAGE', `--driver-option ${pair}: write it as name=value`)
      return [pair.slice(0, split), pair.slice(split + 1)]
    }),
  )
}

function tlsOf(flags: AttachFlags): NonNullable<Config['server']>['tls'] {
  if (flags.cert === undefined && flags.certKey === undefined) return undefined
  if (flags.cert === undefined || flags.certKey === undefined) {
    throw new GatewayError('E_USAGE', 'serving with TLS needs both --cert and --cert-key')
  }
  return {
    certificate: flags.cert,
    key: flags.certKey,
    ...(flags.rootca === undefined ? {} : { rootCertificates: flags.rootca }),
  }
}

function defined<T extends object>(fields: { [K in keyof T]: T[K] | undefined }): T {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as T
}

/** `--control-addr` says where others call and so on which port the server listens, as `controlAddress` of a file does. */
function remoteListenOf(flags: AttachFlags): string | undefined {
  if (flags.remoteListen !== undefined || flags.controlAddr === undefined) return flags.remoteListen
  return /:(\d+)$/.exec(flags.controlAddr)?.[1]
}

function deviceOf(argument: string | undefined, flags: AttachFlags): string | undefined {
  if (argument !== undefined && flags.device !== undefined && argument !== flags.device) {
    throw new GatewayError('E_USAGE', `two devices named: ${argument} and --device ${flags.device}`)
  }
  return argument ?? flags.device
}

/** Flags as configuration. `device` is the argument. Throws E_USAGE for flags that contradict each other. */
export function flagsToConfig(device: string | undefined, flags: AttachFlags): Config {
  const tls = tlsOf(flags)
  const useTls = flags.tls === true || tls !== undefined || flags.rootca !== undefined
  const siteTls =
    flags.rootca === undefined && tls === undefined
      ? true
      : defined<Exclude<NonNullable<Config['site']>['tls'], boolean | undefined>>({
          certificate: flags.cert,
          key: flags.certKey,
          rootCertificates: flags.rootca,
        })
  return {
    device: defined<NonNullable<Config['device']>>({
      path: deviceOf(device, flags),
      driver: flags.driver,
      side: sideOf(flags),
      id: flags.id,
      kind: flags.kind,
      bytesPerKey: flags.bytesPerKey,
      baud: flags.baud,
      switchName: flags.switch,
      switchPorts: flags.switchPort?.split(','),
      options: driverOptions(flags.driverOption),
    }),
    server: defined<NonNullable<Config['server']>>({ listen: flags.listen, allow: flags.allow, tls }),
    tunnel: defined<NonNullable<Config['tunnel']>>({
      server: flags.tunnel,
      backend: flags.backend,
      identity: flags.identity,
      knownHosts: flags.knownHosts,
      fingerprints: flags.fingerprint,
      remoteListen: remoteListenOf(flags),
      controlAddress: flags.controlAddress ?? flags.controlAddr,
      ownSshd: flags.ownSshd,
      requirePostQuantum: flags.requirePostQuantum,
      jumpHost: flags.jump,
      proxy: flags.proxy,
    }),
    site: defined<NonNullable<Config['site']>>({
      agent: flags.siteAgent ?? flags.site,
      viaTunnel: flags.viaTunnel,
      tls: useTls ? siteTls : undefined,
    }),
    metrics: defined<NonNullable<Config['metrics']>>({ listen: flags.metrics }),
    state: defined<NonNullable<Config['state']>>({ folder: flags.stateFolder }),
    log: defined<NonNullable<Config['log']>>({ level: levelOf(flags), format: flags.logFormat }),
    ...(flags.allowUnsafe === undefined ? {} : { allowUnsafe: flags.allowUnsafe }),
  }
}
