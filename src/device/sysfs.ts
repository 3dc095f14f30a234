/** What /sys and /dev/serial/by-id say of attached devices; nothing is opened. All folders are parameters. */
import { readdir, readFile, realpath } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'

/** Where to look. Tests give a tree of their own. */
export interface DetectionRoots {
  /** /dev */
  dev: string
  /** /dev/serial/by-id */
  byId: string
  /** /sys/class/tty */
  ttys: string
  /** /sys/bus/usb/devices */
  usb: string
  /** /proc */
  proc: string
  /** /etc, for the names of users and groups. */
  etc: string
  /** Where udev rules live. */
  rules: readonly string[]
  /** /run/udev/data: what udev decided for each node. */
  udevData: string
}

export const systemRoots: DetectionRoots = {
  dev: '/dev',
  byId: '/dev/serial/by-id',
  ttys: '/sys/class/tty',
  usb: '/sys/bus/usb/devices',
  proc: '/proc',
  etc: '/etc',
  rules: ['/etc/udev/rules.d', '/run/udev/rules.d', '/usr/lib/udev/rules.d', '/lib/udev/rules.d'],
  udevData: '/run/udev/data',
}

/** What a USB device says of itself. */
export interface UsbStrings {
  vendorId?: string
  productId?: string
  manufacturer?: string
  product?: string
  serialNumber?: string
}

/** Something attached, before anybody guessed what it is. */
export interface Attached {
  transport: 'serial' | 'usb'
  /** The node; undefined for USB devices without one. */
  node?: string
  /** A name that stays the same when the number changes. */
  stableName?: string
  usb: UsbStrings
  /** The by-id name, where that is all there is. */
  nameOnly?: string
  /** Folder of the USB device in /sys. */
  usbFolder?: string
  /** Ports of FTDI converters: ms that a short packet waits. */
  latencyTimerMs?: number
}

/** The text of a small file, or undefined where it is missing. */
export async function textOf(file: string): Promise<string | undefined> {
  const text = await readFile(file, 'utf8').catch(() => undefined)
  return text?.trim()
}

/** Names in a folder, sorted; empty where it is missing. */
export async function namesIn(folder: string): Promise<string[]> {
  return (await readdir(folder).catch(() => [])).sort()
}

async function usbStrings(folder: string): Promise<UsbStrings> {
  const fields = { vendorId: 'idVendor', productId: 'idProduct', manufacturer: 'manufacturer', product: 'product' }
  const strings: UsbStrings = {}
  for (const [field, file] of Object.entries({ ...fields, serialNumber: 'serial' })) {
    const text = await textOf(join(folder, file))
    if (text !== undefined && text !== '') Object.assign(strings, { [field]: text })
  }
  return strings
}

/** The folder of the USB device that a tty belongs to: the first one upwards that has a vendor. */
async function usbFolderOf(deviceLink: string): Promise<string | undefined> {
  let folder = await realpath(deviceLink).catch(() => undefined)
  for (let depth = 0; folder !== undefined && depth < 8 && dirname(folder) !== folder; depth += 1) {
    if ((await textOf(join(folder, 'idVendor'))) !== undefined) return folder
    folder = dirname(folder)
  }
  return undefined
}

async function byIdLinks(roots: DetectionRoots): Promise<Map<string, string>> {
  const links = new Map<string, string>()
  for (const name of await namesIn(roots.byId)) {
    const link = join(roots.byId, name)
    const node = await realpath(link).catch(() => undefined)
    if (node !== undefined && !links.has(node)) links.set(node, link)
  }
  return links
}

/** Serial ports on USB, then USB devices without a serial port. */
export async function listAttached(roots: DetectionRoots): Promise<Attached[]> {
  const links = await byIdLinks(roots)
  const serial: Attached[] = []
  const taken = new Set<string>()
  for (const name of await namesIn(roots.ttys)) {
    const usbFolder = await usbFolderOf(join(roots.ttys, name, 'device'))
    if (usbFolder === undefined) continue
    taken.add(usbFolder)
    const node = join(roots.dev, name)
    const stableName = links.get(node)
    links.delete(node)
    const latency = await textOf(join(roots.ttys, name, 'device', 'latency_timer'))
    serial.push({
      transport: 'serial',
      node,
      usbFolder,
      usb: await usbStrings(usbFolder),
      ...(stableName === undefined ? {} : { stableName }),
      ...(latency === undefined ? {} : { latencyTimerMs: Number(latency) }),
    })
  }
  // A container may have /dev without the matching /sys: the name alone says much.
  for (const [node, link] of links) {
    serial.push({ transport: 'serial', node, stableName: link, usb: {}, nameOnly: basename(link) })
  }
  const usb: Attached[] = []
  for (const name of await namesIn(roots.usb)) {
    const folder = await realpath(join(roots.usb, name)).catch(() => undefined)
    if (folder === undefined || taken.has(folder)) continue
    const strings = await usbStrings(folder)
    if (strings.vendorId !== undefined) usb.push({ transport: 'usb', usb: strings, usbFolder: folder })
  }
  return [...serial, ...usb]
}
