/** From configuration to a plan: every default filled in, every choice checked, nothing touched. */
import { existsSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { GatewayError } from '../base/errors.js'
import { formatHostPort, parseHostPort, type HostPort } from '../base/host-port.js'
import type { DriverDescriptor, Side } from '../device/contract.js'
import { defaultDevicePort, chooseListenAddress } from './listen-address.js'
import { isLoopback } from '../rpc/access.js'
import { javaIdProblem } from '../site/device-id.js'
import { parseOwnSshd, parseServerAddress, type ServerAddress } from '../tunnel/server-address.js'
import type { Config, UnsafeChoice } from './config/schema.js'
import { defaultStateFolder } from './state-folder.js'

export interface DevicePlan {
  /** As the user named it, scheme included: for people. */
  readonly name: string
  /** The path or what stands behind the scheme. */
  readonly path: string
  readonly descriptor: DriverDescriptor
  readonly side: Side
  readonly id: string
  readonly kind: string
  readonly bytesPerKey: number
  readonly switchName: string
  readonly switchPorts: readonly string[]
  readonly options: Readonly<Record<string, string>>
}

export interface TunnelPlan {
  readonly server: ServerAddress
  readonly jump: ServerAddress | undefined
  readonly remoteListen: { host: string; port: number }
  readonly controlAddress: HostPort | undefined
  /** Where the server reaches its own sshd, where that was said. */
  readonly innerTarget: HostPort | undefined
  readonly identityFiles: readonly string[]
  readonly knownHostsFiles: readonly string[]
}

export interface Plan {
  readonly config: Config
  readonly device: DevicePlan
  readonly listen: HostPort
  readonly listenReason: string
  readonly tunnel: TunnelPlan | undefined
  /** What to register where there is no tunnel; undefined: where the service listens. */
  readonly directControlAddress: HostPort | undefined
  readonly siteAgent: HostPort | undefined
  readonly stateFolder: string
  readonly unsafe: ReadonlySet<UnsafeChoice>
  /** What is missing or doubtful in this plan, a sentence each. */
  readonly warnings: readonly string[]
}

/** True for hosts that are this machine: its name for itself, or a loopback address. */
function isThisMachine(host: string): boolean {
  return host === 'localhost' || isLoopback(host)
}

/** CQPToolkit's own default: kind, host and port of a device address that has neither, switch ports, bytes, side. */
function defaultId(kind: string, switchPorts: readonly string[], bytes: number, side: Side): string {
  return `${kind}__0_${switchPorts.join(',')}_${bytes}_${side}`
}

/** `[host:]port`; an empty host stands for all addresses, as the server permits. */
export function parseRemoteListen(text: string): { host: string; port: number } {
  if (/^\d{1,5}$/.test(text)) return { host: '', port: Number(text) }
  const bare = text.startsWith('*:') || text.startsWith(':')
  if (bare) return { host: '', port: parseHostPort(`x${text.slice(text.indexOf(':'))}`, '--remote-listen').port }
  return parseHostPort(text, '--remote-listen')
}

function planTunnel(config: Config, env: Readonly<Record<string, string | undefined>>): TunnelPlan | undefined {
  const section = config.tunnel
  if (section?.server === undefined) return undefined
  const remoteListen = parseRemoteListen(section.remoteListen ?? String(defaultDevicePort))
  const override = section.controlAddress
  const home = env['HOME'] ?? homedir()
  const customary = ['id_ed25519', 'id_ecdsa', 'id_rsa'].map((name) => join(home, '.ssh', name))
  return {
    server: parseServerAddress(section.server, '--tunnel'),
    jump: section.jumpHost === undefined ? undefined : parseServerAddress(section.jumpHost, '--jump'),
    remoteListen,
    controlAddress: override === undefined ? undefined : parseHostPort(override, '--control-address'),
    innerTarget: section.ownSshd === undefined ? undefined : parseOwnSshd(section.ownSshd, '--own-sshd'),
    identityFiles: section.identity ?? customary.filter((file) => existsSync(file)),
    knownHostsFiles: section.knownHosts ?? [join(home, '.ssh', 'known_hosts'), '/etc/ssh/ssh_known_hosts'],
  }
}

/** One key length for the driver and for the registration; `options` gets what the driver needs to know of it. */
function keyLength(given: number | undefined, options: Record<string, string>, descriptor: DriverDescriptor): number {
  const name = descriptor.keyBytesOption
  const option = name === undefined ? undefined : options[name]
  if (name === undefined || (given === undefined && option === undefined)) return given ?? descriptor.bytesPerKey
  if (given !== undefined && option !== undefined && Number(option) !== given) {
    throw new GatewayError('E_CONFIG', `keys of ${given} bytes, but the driver's option ${name} says ${option}`, {
      remedy: 'give one of the two; the other one follows',
    })
  }
  options[name] = option ?? String(given)
  return given ?? Number(option)
}

function planDevice(config: Config, descriptor: DriverDescriptor, deviceName: string): DevicePlan {
  const section = config.device ?? {}
  if (section.path === undefined) {
    throw new GatewayError('E_USAGE', 'no device named', {
      remedy: 'qkd-gw attach /dev/ttyUSB0 …; qkd-gw devices lists what is attached',
    })
  }
  if (section.side === undefined) {
    throw new GatewayError('E_USAGE', 'which end of the fibre is this device?', {
      remedy: 'say --side alice or --side bob; the other site has the other one',
    })
  }
  const kind = section.kind ?? descriptor.kind
  const options = { ...section.options }
  const bytesPerKey = keyLength(section.bytesPerKey, options, descriptor)
  const switchName = section.switchName ?? ''
  const switchPorts = section.switchPorts ?? []
  if (section.baud !== undefined) options['baud'] = String(section.baud)
  return {
    name: deviceName,
    path: section.path,
    descriptor,
    side: section.side,
    id: section.id ?? defaultId(kind, switchPorts, bytesPerKey, section.side),
    kind,
    bytesPerKey,
    switchName,
    switchPorts,
    options,
  }
}

function checkUnsafe(device: DevicePlan, siteAgent: HostPort | undefined, unsafe: ReadonlySet<UnsafeChoice>): void {
  const why = device.descriptor.notSecretBecause
  if (why === undefined || siteAgent === undefined || isThisMachine(siteAgent.host)) return
  if (unsafe.has('not-secret-keys')) return
  throw new GatewayError(
    'E_UNSAFE',
    `keys of ${device.descriptor.name} are not secret (${why}), and ${siteAgent.host} is not this machine`,
    {
      remedy: 'if that is what you want, ask for it by name: --allow-unsafe not-secret-keys',
    },
  )
}

/** Without a tunnel what is registered must be one address, not all of them. */
function checkRegistrable(
  listen: HostPort,
  controlAddress: HostPort | undefined,
  siteAgent: HostPort | undefined,
): void {
  if (siteAgent === undefined || controlAddress !== undefined) return
  if (listen.host !== '0.0.0.0' && listen.host !== '::') return
  throw new GatewayError(
    'E_CONFIG',
    `--listen ${formatHostPort(listen)} stands for every address of this machine: which one is the SiteAgent to call?`,
    { remedy: `name it with --control-address host:${listen.port}, or give a tunnel with --tunnel user@host` },
  )
}

function warningsOf(device: DevicePlan, tunnel: TunnelPlan | undefined, siteAgent: HostPort | undefined): string[] {
  const warnings: string[] = []
  if (device.descriptor.notSecretBecause !== undefined) {
    warnings.push(`keys are NOT SECRET: ${device.descriptor.notSecretBecause}`)
  }
  if (tunnel === undefined)
    warnings.push('no tunnel (--tunnel user@host): only machines that reach this one directly can call the device')
  if (siteAgent === undefined)
    warnings.push('no SiteAgent (--site-agent host:port): the device is served but registered nowhere')
  if (siteAgent !== undefined && javaIdProblem(device.id) !== undefined) {
    warnings.push(`the id ${device.id} is not of the form A_B_A that OpenQKDNetwork's Java SiteAgents need`)
  }
  return warnings
}

/** Throws E_USAGE, E_CONFIG or E_UNSAFE; opens and connects nothing. */
export function makePlan(
  config: Config,
  descriptor: DriverDescriptor,
  env: Readonly<Record<string, string | undefined>>,
  deviceName: string = config.device?.path ?? '',
): Plan {
  const device = planDevice(config, descriptor, deviceName)
  const listenText = config.server?.listen
  const chosen =
    listenText === undefined
      ? chooseListenAddress()
      : { ...parseHostPort(listenText, '--listen'), reason: 'as configured' }
  const siteText = config.site?.agent
  const siteAgent = siteText === undefined ? undefined : parseHostPort(siteText, '--site-agent')
  const tunnel = planTunnel(config, env)
  const override = config.tunnel?.controlAddress
  const directControlAddress =
    tunnel !== undefined || override === undefined ? undefined : parseHostPort(override, '--control-address')
  const listen = { host: chosen.host, port: chosen.port }
  const unsafe = new Set(config.allowUnsafe ?? [])
  checkUnsafe(device, siteAgent, unsafe)
  if (tunnel === undefined) checkRegistrable(listen, directControlAddress, siteAgent)
  return {
    config,
    device,
    listen,
    listenReason: `${formatHostPort(chosen)}: ${chosen.reason}`,
    tunnel,
    directControlAddress,
    siteAgent,
    stateFolder: config.state?.folder ?? defaultStateFolder(env),
    unsafe,
    warnings: warningsOf(device, tunnel, siteAgent),
  }
}
