import { constants } from 'node:fs'
import { access, readFile, stat } from 'node:fs/promises'
import { type Clock, sleep, withDeadline } from '../base/clock.js'
import { codeOf, GatewayError, messageOf } from '../base/errors.js'
import type { Logger } from '../observe/log.js'
import type { ByteTransport, OpenSerial, SerialSettings } from './contract.js'
import { describeHolders, portHolders } from './holders.js'
import { permissionError } from './permission.js'
import { type SerialBinding, type SerialBindingPort, systemBinding } from './serial-binding.js'
import { SerialTransport } from './serial-transport.js'
import { resolvePath } from './watch.js'

export interface SerialOpenerOptions {
  clock: Clock
  log: Logger
  /** Default: serialport's own. With another one nothing is looked up in the file system. */
  binding?: SerialBinding
  platform?: NodeJS.Platform
  /** Opening must be done by then; default 5000. */
  openTimeoutMs?: number
  /** How long "access denied" of Windows, which follows an unplug or a quick restart, is tried again; default 3000. */
  accessDeniedMs?: number
  /** Default 200. */
  nodePollMs?: number
  procFolder?: string
}

/** macOS: opening /dev/tty.* waits for carrier, for ever; /dev/cu.* is the same port without the wait. */
export function callOutPath(path: string, platform: NodeJS.Platform): string {
  return platform === 'darwin' && path.startsWith('/dev/tty.') ? `/dev/cu.${path.slice('/dev/tty.'.length)}` : path
}

function bindingOptions(path: string, settings: SerialSettings): Parameters<SerialBinding['open']>[0] {
  return {
    path,
    baudRate: settings.baudRate,
    dataBits: settings.dataBits ?? 8,
    parity: settings.parity ?? 'none',
    stopBits: settings.stopBits ?? 1,
    rtscts: settings.hardwareFlowControl ?? false,
    xon: settings.softwareFlowControl ?? false,
    xoff: settings.softwareFlowControl ?? false,
    lock: true,
  }
}

/** Major numbers of the system's tty drivers, or undefined where they cannot be told. */
async function ttyMajors(procFolder: string): Promise<Set<number> | undefined> {
  const text = await readFile(`${procFolder}/tty/drivers`, 'utf8').catch(() => undefined)
  if (text === undefined) return undefined
  return new Set(text.split('\n').map((line) => Number(/^\S+\s+\S+\s+(\d+)/.exec(line)?.[1])))
}

function noDevice(path: string, what: string): GatewayError {
  return new GatewayError('E_DEVICE_NOT_A_DEVICE', `${path} is ${what}, not a serial port`, {
    remedy: 'give the path of a serial port, such as /dev/ttyUSB0 or a name in /dev/serial/by-id',
    details: { path },
  })
}

/** Refuses what is no serial port before it is opened: opening other nodes (a watchdog, a disk) may do harm. */
async function checkNode(path: string, node: string, procFolder: string): Promise<void> {
  const found = await stat(node).catch((error: unknown) => {
    if (codeOf(error) === 'EACCES') return undefined
    throw absent(path)
  })
  if (found === undefined) throw new GatewayError('E_DEVICE_PERMISSION', `${path}: a folder on the way is closed to us`)
  if (!found.isCharacterDevice()) {
    throw noDevice(path, found.isDirectory() ? 'a folder' : found.isFile() ? 'a file' : 'something else')
  }
  const majors = await ttyMajors(procFolder)
  const major = Math.floor(found.rdev / 256) % 4096
  if (majors !== undefined && !majors.has(major)) throw noDevice(path, `a device of another kind (major ${major})`)
  await access(node, constants.R_OK | constants.W_OK).catch(async (error: unknown) => {
    if (codeOf(error) === 'EACCES' || codeOf(error) === 'EPERM') throw await permissionError(node)
  })
}

function absent(path: string): GatewayError {
  return new GatewayError('E_DEVICE_ABSENT', `${path} is not there`, {
    remedy: 'plug the device in; `qkd-gw devices` lists what is attached',
    details: { path },
  })
}

/** The bindings throw plain errors that carry the system's text only. */
async function explain(error: unknown, path: string, node: string, procFolder: string): Promise<GatewayError> {
  const text = messageOf(error)
  const code = codeOf(error)
  if (
    /cannot lock port|resource busy|device or resource busy|port is locked|already open/i.test(text) ||
    code === 'EBUSY'
  ) {
    const holders = await portHolders(node, procFolder)
    const lockers = holders.filter(({ locked }) => locked)
    const who = describeHolders(lockers.length > 0 ? lockers : holders)
    return new GatewayError(
      'E_DEVICE_BUSY',
      `${path} is held by ${who ?? 'another program that cannot be seen from here'}`,
      {
        remedy:
          who === undefined
            ? `find it with: sudo fuser -v ${node}`
            : 'stop that program, or give this gateway another port',
        details: { path, ...(who === undefined ? {} : { holder: who }) },
        cause: error,
      },
    )
  }
  if (/no such file|no such device|file not found/i.test(text) || code === 'ENOENT') return absent(path)
  if (/permission denied/i.test(text) || code === 'EACCES') return permissionError(node)
  if (/inappropriate ioctl|is a directory|not a tty/i.test(text)) return noDevice(path, 'no terminal line')
  if (/access (is )?denied/i.test(text)) {
    return new GatewayError(
      'E_DEVICE_BUSY',
      `${path}: access denied; another program holds it, or Windows has not yet let go of it`,
      {
        remedy: 'close other programs that use the port; if none does, pull the cable and plug it in again',
        details: { path },
        cause: error,
      },
    )
  }
  return new GatewayError('E_DEVICE_IO', `${path} could not be opened: ${text}`, { details: { path }, cause: error })
}

/** Makes the function that opens serial ports; see `OpenSerial` for its errors. */
export function createSerialOpener(options: SerialOpenerOptions): OpenSerial {
  const { clock, log, platform = process.platform, openTimeoutMs = 5_000, accessDeniedMs = 3_000 } = options
  const { nodePollMs = 200, procFolder = '/proc' } = options
  const onFileSystem = options.binding === undefined && platform !== 'win32'

  const openPort = async (path: string, settings: SerialSettings, signal: AbortSignal): Promise<SerialBindingPort> => {
    const binding = options.binding ?? (await systemBinding())
    const opening = binding.open(bindingOptions(path, settings))
    try {
      return await withDeadline(clock, openTimeoutMs, `opening ${path}`, () => opening, signal)
    } catch (error) {
      // Should it open after all, nobody wants it any more.
      opening.then(
        (late) => late.close().catch(() => {}),
        () => {},
      )
      throw error
    }
  }

  const openPatiently = async (path: string, node: string, settings: SerialSettings, signal: AbortSignal) => {
    const until = clock.monotonicMs() + accessDeniedMs
    for (;;) {
      try {
        return await openPort(node, settings, signal)
      } catch (error) {
        if (error instanceof GatewayError) throw error
        const denied = platform === 'win32' && /access (is )?denied/i.test(messageOf(error))
        if (!denied || clock.monotonicMs() >= until) throw await explain(error, path, node, procFolder)
        log.debug({ path }, 'access denied; trying again')
        await sleep(clock, 250, signal)
      }
    }
  }

  return async (asked, settings, signal): Promise<ByteTransport> => {
    const path = callOutPath(asked, platform)
    if (path !== asked) log.info({ asked, opened: path }, 'opening the call-out port: the other one waits for carrier')
    const node = onFileSystem ? resolvePath(path) : path
    if (node === undefined) throw absent(path)
    if (onFileSystem) await checkNode(path, node, procFolder)
    const port = await openPatiently(path, node, settings, signal)
    if (settings.dtr !== undefined) {
      await port.set({ dtr: settings.dtr }).catch((error: unknown) => {
        log.debug({ path, reason: messageOf(error) }, 'this line has no DTR to set')
      })
    }
    return new SerialTransport(node, port, { clock, watchNode: onFileSystem, nodePollMs })
  }
}
