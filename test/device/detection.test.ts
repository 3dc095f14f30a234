import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { CatalogueEntry } from '../../src/device/catalogue.js'
import type { DriverDescriptor, UsbMatch } from '../../src/device/contract.js'
import { chooseDriver, detectDevices, type DetectionOptions } from '../../src/device/detection.js'
import type { DetectionRoots } from '../../src/device/sysfs.js'
import { runCommand } from './processes.js'

let root = ''
let roots: DetectionRoots
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'qkd-gw-detect-'))
  roots = {
    dev: join(root, 'dev'),
    byId: join(root, 'dev/serial/by-id'),
    ttys: join(root, 'sys/class/tty'),
    usb: join(root, 'sys/bus/usb/devices'),
    proc: join(root, 'proc'),
    etc: join(root, 'etc'),
    rules: [join(root, 'etc/udev/rules.d')],
    udevData: join(root, 'run/udev/data'),
  }
})
afterEach(() => rmSync(root, { recursive: true }))

function put(path: string, text = ''): string {
  const file = join(root, path)
  mkdirSync(dirname(file), { recursive: true })
  writeFileSync(file, text)
  return file
}

function link(target: string, path: string): void {
  const place = join(root, path)
  mkdirSync(dirname(place), { recursive: true })
  symlinkSync(target, place)
}

interface FakeUnit {
  tty?: string
  byId?: string
  usb: { idVendor: string; idProduct: string; manufacturer?: string; product?: string; serial?: string }
}

/** One USB device as the kernel and udev show it. */
function attach(bus: string, { tty, byId, usb }: FakeUnit): void {
  const folder = join('sys/devices/pci/usb1', bus)
  for (const [name, text] of Object.entries(usb)) put(join(folder, name), `${text}\n`)
  link(join(root, folder), join('sys/bus/usb/devices', bus))
  put(join(folder, `${bus}:1.0/bInterfaceClass`), '02\n')
  if (tty === undefined) return
  const port = join(root, folder, `${bus}:1.0`)
  mkdirSync(join(root, 'sys/class/tty', tty), { recursive: true })
  link(port, join('sys/class/tty', tty, 'device'))
  const node = put(join('dev', tty))
  chmodSync(node, 0o660)
  if (byId !== undefined) link(node, join('dev/serial/by-id', byId))
}

function driverNamed(name: string, ...usb: UsbMatch[]): CatalogueEntry {
  const descriptor: DriverDescriptor = {
    name,
    title: name,
    yields: 'keys',
    kind: name,
    bytesPerKey: 32,
    exercisedOnHardware: false,
    usb,
  }
  return { descriptor, loadDriver: () => Promise.reject(new Error('never loaded here')) }
}

const tagger = driverNamed('tagger', {
  manufacturer: /^S-Fifteen/,
  product: /^USB Counter$/,
  serialNumber: /^TDC1-/,
  score: 95,
  reason: 'its USB strings',
})
const ftdi: UsbMatch = { vendorId: '0403', productId: '6001', score: 20, reason: 'a bare FTDI converter' }
const catalogue = [tagger, driverNamed('counter', ftdi), driverNamed('other', ftdi)]
const ids = { idVendor: '1234', idProduct: '5678' }
const tdc1 = { ...ids, manufacturer: 'S-Fifteen Instruments', product: 'USB Counter', serial: 'TDC1-0019' }
const byId = 'usb-S-Fifteen_Instruments_USB_Counter_TDC1-0019-if00'
const options = (): DetectionOptions => ({ roots, catalogue, identity: { uid: 0, gids: [0] } })

describe('finding devices without opening them', () => {
  it('names a device by its stable name, with score and reason of each guess', async () => {
    attach('1-1', { tty: 'ttyACM0', byId, usb: tdc1 })
    expect(await detectDevices(options())).toMatchObject([
      {
        transport: 'serial',
        path: join(roots.byId, byId),
        node: join(roots.dev, 'ttyACM0'),
        usb: { manufacturer: 'S-Fifteen Instruments', serialNumber: 'TDC1-0019' },
        guesses: [{ driver: 'tagger', score: 95, reason: 'its USB strings' }],
        holders: [],
      },
    ])
  })

  it('finds nothing, and says so, where there is no such folder at all', async () => {
    expect(await detectDevices(options())).toEqual([])
    const process = runCommand(['devices', '--json'])
    expect(await process.ended).toBe(0)
    expect(JSON.parse(process.output())).toHaveProperty('devices')
  })

  it('goes on watching when asked: lists what comes, says what goes, and ends well with Ctrl+C', async () => {
    put('dev/nothing')
    const process = runCommand(['devices', '--watch'], { TEST_DEVICE_ROOTS: JSON.stringify(roots) })
    const json = runCommand(['devices', '--watch', '--json'], { TEST_DEVICE_ROOTS: JSON.stringify(roots) })
    const path = join(roots.byId, byId)
    await Promise.all([
      process.line((line) => line.startsWith('No device found')),
      json.next(({ devices }) => Array.isArray(devices) && devices.length === 0),
    ])
    link(put('dev/ttyACM0'), join('dev/serial/by-id', byId))
    await Promise.all([
      process.line((line) => line === `new: ${path}`),
      process.line((line) => /^ +driver +tdc1, \d+ of 100/.test(line)),
      json.next(({ devices }) => JSON.stringify(devices).includes(`"path":"${path}"`)),
    ])
    rmSync(path)
    await Promise.all([
      process.line((line) => line === `gone: ${path}`),
      json.next(({ devices }) => Array.isArray(devices) && devices.length === 0),
    ])
    for (const each of [process, json]) {
      each.child.kill('SIGINT')
      expect(await each.ended).toBe(0)
      expect(each.errors()).toBe('')
    }
  })

  it('goes by the by-id name where a container has /dev without /sys', async () => {
    const node = put('dev/ttyACM3')
    link(node, join('dev/serial/by-id', byId))
    expect(await detectDevices(options())).toMatchObject([{ node, guesses: [{ driver: 'tagger', score: 95 }] }])
  })

  it('lists USB devices without a port only where a driver knows them, and names the module that is missing', async () => {
    attach('1-1', { usb: tdc1 })
    attach('1-2', { usb: { idVendor: '046d', idProduct: 'c31c', product: 'Keyboard' } })
    const devices = await detectDevices(options())
    expect(devices).toMatchObject([{ transport: 'usb', path: 'usb:1234:5678:TDC1-0019', node: null }])
    expect(devices[0]?.hints).toContainEqual(
      expect.objectContaining({ kind: 'kernel-driver', remedy: 'sudo modprobe cdc_acm' }),
    )
  })

  it('names the programs that hold a port', async () => {
    attach('1-1', { tty: 'ttyACM0', byId, usb: tdc1 })
    put('proc/411/comm', 'screen\n')
    link(join(roots.dev, 'ttyACM0'), 'proc/411/fd/5')
    const [device] = await detectDevices(options())
    expect(device?.holders).toEqual([{ pid: 411, name: 'screen', locked: false }])
  })

  it('says what is missing or in the way, each with its remedy', async () => {
    attach('1-1', { tty: 'ttyUSB0', usb: { idVendor: '0403', idProduct: '6001', product: 'FT232R USB UART' } })
    put('sys/devices/pci/usb1/1-1/1-1:1.0/latency_timer', '16\n')
    put('proc/97/comm', 'brltty\n')
    put('proc/98/comm', 'ModemManager\n')
    put('etc/passwd', 'lab:x:4242:4242::/home/lab:/bin/sh\n')
    const asUser = { ...options(), identity: { uid: 4_242, gids: [4_242] } }
    const [device] = await detectDevices(asUser)
    expect(device?.hints.map(({ kind }) => kind)).toEqual([
      'permission',
      'no-udev',
      'udev-rule',
      'modem-manager',
      'brltty',
      'latency',
    ])
    expect(device?.hints.every(({ remedy }) => remedy !== '')).toBe(true)
    put('etc/udev/rules.d/92-qkd-gw.rules')
    const [again] = await detectDevices(options())
    expect(again?.hints.map(({ kind }) => kind)).not.toContain('udev-rule')
  })
})

describe('what is in the way of a device', () => {
  const hintsOf = async (change: Partial<DetectionOptions> = {}): Promise<ReadonlyMap<string, string>> => {
    const [device] = await detectDevices({ ...options(), ...change })
    return new Map(device?.hints.map(({ kind, remedy }) => [kind, remedy]))
  }

  it('is the group of the port, which the user is to join', async () => {
    attach('1-1', { tty: 'ttyACM0', byId, usb: tdc1 })
    put('etc/passwd', 'lab:x:4242:4242::/home/lab:/bin/sh\n')
    put('etc/group', `serial-users:x:${process.getegid?.() ?? 0}:\nlab:x:4242:\n`)
    const hints = await hintsOf({ identity: { uid: 4_242, gids: [4_242] } })
    expect(hints.get('permission')).toBe('sudo usermod -aG serial-users lab, then log in anew')
    expect((await hintsOf()).has('permission')).toBe(false)
  })

  it('is ModemManager, unless udev has told it to leave this very port alone', async () => {
    attach('1-1', { tty: 'ttyACM0', byId, usb: tdc1 })
    expect((await hintsOf()).has('modem-manager')).toBe(false)
    put('proc/612/comm', 'ModemManager\n')
    expect((await hintsOf()).get('modem-manager')).toContain('92-qkd-gw.rules')
    // A plain file stands for the node: its numbers are 0 and 0.
    put('run/udev/data/c0:0', 'E:ID_BUS=usb\nE:ID_MM_DEVICE_IGNORE=1\n')
    expect((await hintsOf()).has('modem-manager')).toBe(false)
  })

  it('is brltty where it is installed, for the converters that it takes and no others', async () => {
    put('etc/udev/rules.d/85-brltty.rules')
    attach('1-1', { tty: 'ttyUSB0', usb: { idVendor: '10c4', idProduct: 'ea60', product: 'CP2102 USB to UART' } })
    expect((await hintsOf()).get('brltty')).toContain('sudo apt remove brltty')
    rmSync(join(root, 'sys'), { recursive: true })
    attach('1-2', { tty: 'ttyACM0', byId, usb: tdc1 })
    expect((await hintsOf()).has('brltty')).toBe(false)
  })

  it('is a module that is not loaded, by the kind of the device, until a driver has taken it', async () => {
    const known = [driverNamed('counter', { ...ftdi, score: 60 })]
    attach('1-1', { usb: { idVendor: '0403', idProduct: '6001', product: 'FT232R USB UART' } })
    put('sys/devices/pci/usb1/1-1/1-1:1.0/bInterfaceClass', 'ff\n')
    expect((await hintsOf({ catalogue: known })).get('kernel-driver')).toBe('sudo modprobe ftdi_sio')
    link(join(root, 'sys/bus/usb/drivers/usbfs'), 'sys/devices/pci/usb1/1-1/1-1:1.0/driver')
    mkdirSync(join(root, 'sys/bus/usb/drivers/usbfs'), { recursive: true })
    expect((await hintsOf({ catalogue: known })).has('kernel-driver')).toBe(false)
  })
})

describe('choosing a driver that was not named', () => {
  it('takes the one that fits, by stable name or by node', async () => {
    attach('1-1', { tty: 'ttyACM0', byId, usb: tdc1 })
    for (const path of [join(roots.byId, byId), join(roots.dev, 'ttyACM0')]) {
      expect((await chooseDriver(path, options())).entry.descriptor.name).toBe('tagger')
    }
  })

  it('never takes a driver for a bare converter, and lists what it considered', async () => {
    attach('1-1', { tty: 'ttyUSB0', usb: { idVendor: '0403', idProduct: '6001' } })
    await expect(chooseDriver(join(roots.dev, 'ttyUSB0'), options())).rejects.toMatchObject({
      code: 'E_DRIVER_UNKNOWN',
      message: expect.stringContaining(
        'counter (20: a bare FTDI converter), other (20: a bare FTDI converter)',
      ) as string,
    })
    await expect(chooseDriver('/dev/ttyS77', options())).rejects.toMatchObject({ code: 'E_DRIVER_UNKNOWN' })
  })

  it('refuses a tie', async () => {
    attach('1-1', { tty: 'ttyACM0', byId, usb: tdc1 })
    const twin = driverNamed('twin', ...tagger.descriptor.usb)
    const tied = { ...options(), catalogue: [...catalogue, twin] }
    await expect(chooseDriver(join(roots.byId, byId), tied)).rejects.toMatchObject({
      code: 'E_DEVICE_TIE',
      message: expect.stringContaining('tagger') as string,
    })
  })
})
