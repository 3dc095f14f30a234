/** `attach` from configuration to exit code: choose the driver, check, lock, run. */
import { realpathSync } from 'node:fs'
import { EXIT } from '../base/error-codes.js'
import { GatewayError } from '../base/errors.js'
import { formatHostPort } from '../base/host-port.js'
import { findByScheme, findEntry, type CatalogueEntry } from '../device/catalogue.js'
import { chooseDriver } from '../device/detection.js'
import { recordedDriver, REPLAY_PREFIX } from '../device/trace-replay.js'
import { createLogger, type Logger } from '../observe/log.js'
import type { Config } from './config/schema.js'
import { createGateway, type Gateway } from './gateway.js'
import type { HostProcess } from './host.js'
import { acquireLock, type InstanceLock } from './instance-lock.js'
import { makePlan, type Plan } from './plan.js'
import { openStateFolder } from './state-folder.js'
import {
  type ControlRequest,
  type GatewayEvidence,
  type GatewayStatus,
  serveStatus,
  statusSocketPath,
} from './status-socket.js'

export interface AttachHost extends HostProcess {
  /** The configuration file in use, for the log. */
  readonly configFile: string | undefined
}

/** Driver by name, by the scheme of the device argument, or by what the USB strings say. Throws E_DEVICE_TIE and others. */
async function driverFor(config: Config): Promise<{ entry: CatalogueEntry; path: string | undefined }> {
  const { path, driver } = config.device ?? {}
  const schemed = path === undefined ? undefined : findByScheme(path)
  if (driver !== undefined) {
    const entry = findEntry(driver)
    return { entry, path: schemed?.entry === entry ? schemed.rest : path }
  }
  if (schemed !== undefined) {
    // A wire trace of a key device is played to that device's own driver.
    const recorded = path?.startsWith(REPLAY_PREFIX) === true ? recordedDriver(schemed.rest) : undefined
    const recordedEntry = recorded === undefined ? undefined : findEntry(recorded)
    if (recordedEntry?.descriptor.yields === 'keys') return { entry: recordedEntry, path }
    return { entry: schemed.entry, path: schemed.rest }
  }
  if (path === undefined) {
    throw new GatewayError('E_USAGE', 'no device named', {
      remedy: 'qkd-gw attach /dev/ttyUSB0 …; qkd-gw devices lists what is attached',
    })
  }
  const { entry } = await chooseDriver(path)
  return { entry, path }
}

/** Only nodes are one of a kind; what a scheme names (an emulator, a file) may run twice. */
function isNode(path: string): boolean {
  return path.startsWith('/') || /^(\\\\.\\)?COM\d+$/i.test(path)
}

/** Two names of one device are one device. */
function realDevice(path: string): string {
  try {
    return realpathSync(path)
  } catch {
    // It is absent: its name is all there is.
    return path
  }
}

/**
 * The device by the name that was given, and by the node that this name stands for now: an absent one has a name only,
 * and two names may stand for one node. A node's number is given away again once its device was pulled out, so an owner
 * whose name no longer leads to the node has no claim on it.
 */
async function takeDevice(path: string, locks: InstanceLock[]): Promise<void> {
  locks.push(await acquireLock('device', path, path, 'by name'))
  const node = realDevice(path)
  try {
    locks.push(await acquireLock('device', node, path))
  } catch (error) {
    const owner = error instanceof GatewayError ? error.details['what'] : undefined
    if (typeof owner !== 'string' || realDevice(owner) === node) throw error
  }
}

async function takeLocks(plan: Plan): Promise<InstanceLock[]> {
  const locks: InstanceLock[] = []
  const { path, name, id } = plan.device
  try {
    if (isNode(path)) await takeDevice(path, locks)
    locks.push(await acquireLock('id', id, name, plan.siteAgent === undefined ? '' : formatHostPort(plan.siteAgent)))
    openStateFolder(plan.stateFolder)
    locks.push(await acquireLock('state folder', realDevice(plan.stateFolder), name))
    return locks
  } catch (error) {
    for (const lock of locks) lock.release()
    throw error
  }
}

function answer(gateway: Gateway, request: ControlRequest): GatewayStatus | GatewayEvidence | { done: string } {
  switch (request.request) {
    case 'evidence':
      return gateway.evidence()
    case 'status':
      return gateway.status()
    case 'kick':
      gateway.kick()
      return { done: 'trying again' }
    case 'acceptDivergence':
      gateway.acceptDivergence()
      return { done: 'the divergence is accepted' }
  }
}

function announce(plan: Plan, configFile: string | undefined, log: Logger): void {
  const { id, name, descriptor, side } = plan.device
  log.info(
    { id, device: name, driver: descriptor.name, side, config: configFile, stateFolder: plan.stateFolder },
    `attaching ${name} as ${id}: ${descriptor.title}, ${side}`,
  )
  if (descriptor.exercisedOnHardware === false) {
    log.info(`driver ${descriptor.name}: tested against its emulator, never exercised on the real device`)
  }
  for (const warning of plan.warnings) log.warn(warning)
}

/** Runs one gateway to its end; resolves with the exit code. Rejects with GatewayErrors that have one of their own. */
export async function attach(config: Config, host: AttachHost): Promise<number> {
  const log = createLogger({
    level: config.log?.level ?? 'info',
    format: config.log?.format ?? 'pretty',
    destination: host.stderr,
  })
  const { entry, path } = await driverFor(config)
  const withPath: Config = { ...config, device: { ...config.device, ...(path === undefined ? {} : { path }) } }
  const plan = makePlan(withPath, entry.descriptor, host.env, config.device?.path)
  const locks = await takeLocks(plan)
  try {
    announce(plan, host.configFile, log)
    const gateway = await createGateway(plan, host, log)
    const socket = await serveStatus(statusSocketPath(plan.stateFolder, plan.device.id), (request) =>
      answer(gateway, request),
    )
    const stopListening = host.onNudge?.(() => {
      log.info('asked to try the tunnel again now (SIGUSR2)')
      gateway.kick()
    })
    try {
      const result = await gateway.run()
      if (result.outcome === 'settled') {
        log.info('ended')
        return EXIT.ok
      }
      log.error(
        { keys: result.keys, firstDifferingKey: result.firstDifferingKey.toString() },
        `ended while one site lacks ${result.keys} key(s) that the other took in: the stores part at key ${result.firstDifferingKey}`,
      )
      return EXIT.keysOwedAtStop
    } finally {
      stopListening?.()
      socket.close()
    }
  } finally {
    for (const lock of locks) lock.release()
  }
}
