import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import { type Identity, permissionError } from '../io/permission.js'
import { type Attached, type DetectionRoots, namesIn, textOf } from './sysfs.js'

/** Something that is missing or in the way. */
export interface Hint {
  kind: 'permission' | 'udev-rule' | 'no-udev' | 'modem-manager' | 'brltty' | 'kernel-driver' | 'latency'
  what: string
  remedy: string
}

export const RULES_FILE = '92-qkd-gw.rules'

const INSTALL_RULES =
  `sudo cp "$(npm root -g)/qkd-gw/udev/${RULES_FILE}" /etc/udev/rules.d/ && sudo udevadm control --reload && ` +
  'sudo udevadm trigger'

/** Converters that brltty takes for braille displays. */
const BRLTTY_IDS = new Set(['0403:6001', '10c4:ea60', '1a86:7523'])

async function runs(name: string, roots: DetectionRoots): Promise<boolean> {
  const pids = (await namesIn(roots.proc)).filter((entry) => /^\d+$/.test(entry))
  const names = await Promise.all(pids.map((pid) => textOf(join(roots.proc, pid, 'comm'))))
  return names.includes(name)
}

async function ruleFiles(roots: DetectionRoots): Promise<string[]> {
  return (await Promise.all(roots.rules.map((folder) => namesIn(folder)))).flat()
}

async function permission({ node }: Attached, roots: DetectionRoots, identity: Identity): Promise<Hint[]> {
  if (node === undefined || identity.uid === 0) return []
  const found = await stat(node).catch(() => undefined)
  if (found === undefined) return []
  const rights = found.uid === identity.uid ? 0o600 : identity.gids.includes(found.gid) ? 0o060 : 0o006
  if ((found.mode & rights) === rights) return []
  const error = await permissionError(node, identity, roots.etc)
  return [{ kind: 'permission', what: error.message, remedy: error.remedy ?? '' }]
}

/** What udev decided for the node: its properties, one `E:NAME=value` a line. */
async function udevProperties({ node }: Attached, roots: DetectionRoots): Promise<string> {
  const found = node === undefined ? undefined : await stat(node).catch(() => undefined)
  if (found === undefined) return ''
  const major = Math.floor(found.rdev / 256) % 4096
  const minor = (found.rdev % 256) + Math.floor(found.rdev / 2 ** 20) * 256
  return (await textOf(join(roots.udevData, `c${major}:${minor}`))) ?? ''
}

async function neighbours(attached: Attached, roots: DetectionRoots, rules: readonly string[]): Promise<Hint[]> {
  const hints: Hint[] = []
  const ignored = (await udevProperties(attached, roots)).includes('E:ID_MM_DEVICE_IGNORE=1')
  if (!ignored && (await runs('ModemManager', roots))) {
    hints.push({
      kind: 'modem-manager',
      what: 'ModemManager runs: it opens each new port for about ten seconds and sends AT commands into it',
      remedy: `${INSTALL_RULES}; or: sudo systemctl disable --now ModemManager`,
    })
  }
  const ids = `${attached.usb.vendorId ?? ''}:${attached.usb.productId ?? ''}`
  const brlttyRules = rules.some((name) => name.includes('brltty'))
  if (BRLTTY_IDS.has(ids) && (brlttyRules || (await runs('brltty', roots)))) {
    hints.push({
      kind: 'brltty',
      what: `brltty takes ${ids} for a braille display and grabs it half a second after it is plugged in`,
      remedy: 'sudo apt remove brltty; or, where a braille display is in use: sudo systemctl mask brltty-udev.service',
    })
  }
  return hints
}

/** Interfaces of a serial kind that no kernel driver took. */
async function kernelDriver({ usb, usbFolder, transport }: Attached): Promise<Hint[]> {
  if (usbFolder === undefined || transport === 'serial') return []
  for (const name of await namesIn(usbFolder)) {
    const interfaceClass = await textOf(join(usbFolder, name, 'bInterfaceClass'))
    const bound = await stat(join(usbFolder, name, 'driver')).catch(() => undefined)
    const module = interfaceClass === '02' ? 'cdc_acm' : usb.vendorId === '0403' ? 'ftdi_sio' : undefined
    if (interfaceClass === undefined || bound !== undefined || module === undefined) continue
    const what = 'the system has not made a serial port of this device'
    return [{ kind: 'kernel-driver', what, remedy: `sudo modprobe ${module}` }]
  }
  return []
}

/** Everything that keeps this device from working well, with its remedy. */
export async function hintsFor(attached: Attached, roots: DetectionRoots, identity: Identity): Promise<Hint[]> {
  const rules = await ruleFiles(roots)
  const hints = await permission(attached, roots, identity)
  if (attached.transport === 'serial' && attached.stableName === undefined) {
    hints.push({
      kind: 'no-udev',
      what: `there is no stable name for it in ${roots.byId}: under another number it will not be found again`,
      remedy: 'install udev (sudo apt install udev), or start it, and plug the device in again',
    })
  }
  if (!rules.includes(RULES_FILE)) {
    hints.push({ kind: 'udev-rule', what: 'the udev rules of qkd-gw are not installed', remedy: INSTALL_RULES })
  }
  hints.push(...(await neighbours(attached, roots, rules)), ...(await kernelDriver(attached)))
  const { latencyTimerMs = 0 } = attached
  if (latencyTimerMs > 2) {
    hints.push({
      kind: 'latency',
      what: `the converter holds short answers back for ${latencyTimerMs} ms`,
      remedy: `udev rule: ACTION=="add", SUBSYSTEM=="usb-serial", DRIVER=="ftdi_sio", ATTR{latency_timer}="1"`,
    })
  }
  return hints
}
