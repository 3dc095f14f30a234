import type { Command } from 'commander'
import { sleep } from '../base/clock.js'
import type { DetectedDevice, DetectionOptions } from '../device/detection.js'
import type { CliEnvironment } from './environment.js'

interface DevicesFlags {
  watch?: boolean
  json?: boolean
}

const LOOK_MS = 1_000

function usbText({ usb }: DetectedDevice): string {
  const ids = usb.vendorId === undefined ? '' : `${usb.vendorId}:${usb.productId ?? ''}`
  return [ids, usb.manufacturer, usb.product, usb.serialNumber]
    .filter((part) => part !== undefined && part !== '')
    .join(' ')
}

function sentences(devices: readonly DetectedDevice[]): string {
  if (devices.length === 0) {
    return 'No device found: nothing on USB is a serial port or known to a driver.\nOther ports can be named: qkd-gw attach <path> --driver <name>\n'
  }
  return devices
    .map((device) => {
      const lines = [device.path]
      if (device.node !== null && device.node !== device.path) lines.push(`  node     ${device.node}`)
      if (usbText(device) !== '') lines.push(`  usb      ${usbText(device)}`)
      for (const { driver, score, reason } of device.guesses)
        lines.push(`  driver   ${driver}, ${score} of 100: ${reason}`)
      if (device.guesses.length === 0) lines.push('  driver   unknown; name it with --driver')
      for (const { name, pid, locked } of device.holders) {
        lines.push(`  held by  ${name} (pid ${pid})${locked ? ', exclusively' : ''}`)
      }
      for (const { what, remedy } of device.hints) lines.push(`  mind     ${what}`, `           → ${remedy}`)
      return `${lines.join('\n')}\n`
    })
    .join('\n')
}

/** What came and what went, a line each. */
function changes(before: readonly DetectedDevice[], after: readonly DetectedDevice[]): string {
  const here = (devices: readonly DetectedDevice[], path: string): boolean =>
    devices.some((device) => device.path === path)
  return [
    ...before.filter(({ path }) => !here(after, path)).map(({ path }) => `gone: ${path}\n`),
    ...after.filter(({ path }) => !here(before, path)).map(({ path }) => `new: ${path}\n`),
  ].join('')
}

async function listDevices(flags: DevicesFlags, env: CliEnvironment, detection: DetectionOptions): Promise<void> {
  const { detectDevices } = await import('../device/detection.js')
  const show = (devices: readonly DetectedDevice[]): void => {
    env.stdout.write(flags.json === true ? `${JSON.stringify({ devices })}\n` : sentences(devices))
  }
  let shown = await detectDevices(detection)
  show(shown)
  if (flags.watch !== true) return
  while (!env.signal.aborted) {
    await sleep(env.clock, LOOK_MS, env.signal).catch(() => {})
    if (env.signal.aborted) return
    const now = await detectDevices(detection)
    if (JSON.stringify(now) === JSON.stringify(shown)) continue
    if (flags.json !== true) {
      env.stdout.write(`\n${new Date(env.clock.nowMs()).toISOString()}\n${changes(shown, now)}\n`)
    }
    shown = now
    show(shown)
  }
}

/**
 * `qkd-gw devices`: what is attached, by stable name, and what each device is. Opens and resets nothing. `detection`
 * says where to look, this system by default.
 */
export function addDevicesCommand(program: Command, env: CliEnvironment, detection: DetectionOptions = {}): void {
  program
    .command('devices')
    .description('what is attached, which driver it is for, who holds it, and what is missing; opens nothing')
    .option('--watch', 'go on, and show the list again whenever it changes')
    .option('--json', 'one JSON object: {"devices": [...]}; with --watch one a line')
    .action((flags: DevicesFlags) => listDevices(flags, env, detection))
}
