import { spawnSync } from 'node:child_process'
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
  chmodSync,
  chownSync,
} from 'node:fs'
import { afterEach, expect, it } from 'vitest'
import { EXIT } from '../../src/base/error-codes.js'
import { RULES_FILE } from '../../src/device/detection-hints.js'

const folder = new URL('../../udev/', import.meta.url).pathname
const rules = readFileSync(`${folder}${RULES_FILE}`, 'utf8')
const cleanups: (() => void)[] = []
afterEach(() => {
  for (const cleanup of cleanups.splice(0).reverse()) cleanup()
})

/** What udev would do for a node; it really sets owner, mode and links, so the node must be harmless. */
function udevTest(node: string, localRules: string): string {
  const place = '/run/udev/rules.d'
  const made = [`${place}/${RULES_FILE}`, `${place}/91-qkd-gw-local.rules`]
  mkdirSync(place, { recursive: true })
  cleanups.push(() => made.forEach((file) => rmSync(file, { force: true })))
  const path = `/dev/${node}`
  if (existsSync(path)) {
    const { uid, gid, mode } = statSync(path)
    cleanups.push(() => {
      chownSync(path, uid, gid)
      chmodSync(path, mode & 0o777)
    })
  }
  copyFileSync(`${folder}${RULES_FILE}`, made[0] ?? '')
  writeFileSync(made[1] ?? '', localRules)
  const result = spawnSync('udevadm', ['test', `/sys/class/tty/${node}`], { encoding: 'utf8' })
  cleanups.push(() => rmSync('/dev/qkd-gw', { recursive: true, force: true }))
  if (result.error !== undefined) throw new Error(`udevadm is missing: apt-get install udev (${result.error.message})`)
  return result.stdout + result.stderr
}

it('the rules are read without a complaint and give a recognised port its group, name and service', () => {
  const local =
    'KERNEL=="tty63", ENV{ID_SERIAL_SHORT}="TDC1-0019", ENV{QKD_GW}="tdc1", ENV{SYSTEMD_WANTS}="brltty-device@.service"\n'
  const said = udevTest('tty63', local)
  expect(said).not.toMatch(/qkd-gw[^\n]*rules:\d+[^\n]*(invalid|unknown|ignor|fail)/i)
  expect(said).toMatch(/92-qkd-gw\.rules:\d+ GROUP \d+/)
  expect(said).toMatch(/92-qkd-gw\.rules:\d+ MODE 0660/)
  expect(said).toMatch(/92-qkd-gw\.rules:\d+ LINK 'qkd-gw\/TDC1-0019'/)
  expect(said).toContain('ID_MM_DEVICE_IGNORE=1')
  expect(said).toContain('SYSTEMD_WANTS=qkd-gw@TDC1-0019.service')
  expect(said).not.toMatch(/SYSTEMD_WANTS=.*brltty/)
})

it('the rules leave every other port alone', () => {
  const said = udevTest('tty62', '')
  expect(said).not.toMatch(/92-qkd-gw\.rules:\d+ (GROUP|MODE|LINK)/)
  expect(said).not.toContain('ID_MM_DEVICE_IGNORE')
})

it('no rule recognises a device without a product or serial string, nor by the numbers of a converter', () => {
  const example = readFileSync(`${folder}91-qkd-gw-local.rules.example`, 'utf8').replaceAll('#ATTRS', 'ATTRS')
  const lines = `${rules}\n${example}`.split('\n').filter((line) => /ENV\{QKD_GW\}="/.test(line))
  expect(lines.length).toBeGreaterThan(5)
  for (const line of lines) {
    expect(line).toMatch(/ATTRS\{(product|serial)\}=="/)
    expect(line).toMatch(/ATTRS\{(idVendor|manufacturer)\}=="/)
    if (/(0403|10c4|1a86|067b|2341|221a)/.test(line)) expect(line).toMatch(/ATTRS\{serial\}=="/)
  }
})

it('the service is one that systemd accepts, without a start limit, and rests after what no restart can mend', () => {
  const unit = readFileSync(`${folder}qkd-gw@.service`, 'utf8')
  const setting = (name: string): string | undefined => new RegExp(`^${name}=(.*)$`, 'm').exec(unit)?.[1]
  expect(setting('StartLimitIntervalSec')).toBe('0')
  const { usage, configuration, hostKeyUnknown, hostKeyChanged, keyFileUnusable, notADevice } = EXIT
  const final = [usage, configuration, hostKeyUnknown, hostKeyChanged, keyFileUnusable, notADevice]
  expect(setting('RestartPreventExitStatus')?.split(' ').map(Number)).toEqual([
    ...final,
    EXIT.secondInstance,
    EXIT.unsafeNotAllowed,
  ])
  expect(Number(setting('RestartMaxDelaySec'))).toBeGreaterThan(Number(setting('RestartSec')))
  expect(unit).toMatch(/^Group=/m)
  expect(unit).not.toMatch(/^BindsTo=/m)
})
