import { spawn, spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync, chmodSync, chownSync, realpathSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { SerialPortMock } from 'serialport'
import { afterEach, describe, expect, it } from 'vitest'
import { systemClock } from '../../src/base/clock.js'
import { permissionError } from '../../src/io/permission.js'
import { callOutPath, createSerialOpener } from '../../src/io/serial.js'
import type { SerialBinding, SerialBindingPort } from '../../src/io/serial-binding.js'
import { silentLogger } from '../../src/observe/log.js'
import type { DeviceLine } from '../../src/io/contract.js'
import { closeOf, hear, never, ptyLine, realOpener } from './support.js'

const cleanups: (() => unknown)[] = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
})

async function line(): Promise<DeviceLine> {
  const made = await ptyLine()
  cleanups.push(() => made.close())
  return made
}

const settings = { baudRate: 9_600 }

describe('the serial port on a pseudo-terminal', () => {
  it('carries all byte values both ways and names the node that it opened', async () => {
    const device = await line()
    const port = await realOpener(device.path, settings, never)
    cleanups.push(() => port.close())
    const all = Uint8Array.from({ length: 256 }, (_, index) => index)
    const up = hear(port, 256)
    await device.send(all)
    expect(await up).toEqual(all)
    const down = hear(device, 256)
    await port.write(all, 1_000)
    expect(await down).toEqual(all)
    expect(port.path).toBe(realpathSync(device.path))
  })

  it('sets the line rate, and changes it in place', async () => {
    const device = await line()
    const port = await realOpener(device.path, { baudRate: 115_200 }, never)
    cleanups.push(() => port.close())
    expect(await device.lineRate()).toBe(115_200)
    await port.setBaudRate?.(19_200)
    expect(await device.lineRate()).toBe(19_200)
  })

  it('notices within a second that an idle device is unplugged', async () => {
    const device = await line()
    const port = await realOpener(device.path, settings, never)
    port.onData(() => {})
    const closed = closeOf(port)
    const before = performance.now()
    await device.unplug()
    expect((await closed).cause).toBe('unplugged')
    expect(performance.now() - before).toBeLessThan(1_000)
  })

  it('notices within a second that a device is unplugged to which nobody listens', async () => {
    const device = await line()
    const port = await realOpener(device.path, settings, never)
    const closed = closeOf(port)
    await device.send(new Uint8Array(100))
    const before = performance.now()
    await device.unplug()
    expect((await closed).cause).toBe('unplugged')
    expect(performance.now() - before).toBeLessThan(1_000)
  })

  it('ends, and spins not, when the device is unplugged while data flow, twenty times over', async () => {
    const device = await line()
    for (let round = 0; round < 20; round += 1) {
      const port = await realOpener(device.path, settings, never)
      const closed = closeOf(port)
      const some = hear(port, 2_000)
      const flood = (async () => {
        while (device.plugged) await device.send(new Uint8Array(4_000).fill(round))
      })()
      await some
      await device.unplug()
      expect((await closed).cause).toBe('unplugged')
      await flood
      await port.close()
      await device.plug()
    }
    const before = process.cpuUsage()
    await new Promise((resolve) => setTimeout(resolve, 300))
    const { user, system } = process.cpuUsage(before)
    expect(user + system).toBeLessThan(150_000)
  })

  it('refuses a second opening and names who holds the port', async () => {
    const device = await line()
    const node = realpathSync(device.path)
    const holder = spawn('perl', [
      '-e',
      'open(my $f,"+<",$ARGV[0]) or die; flock($f,2) or die; $|=1; print "held\n"; sleep 60',
      node,
    ])
    cleanups.push(() => holder.kill('SIGKILL'))
    await new Promise((resolve) => holder.stdout.once('data', resolve))
    const opening = realOpener(device.path, settings, never)
    await expect(opening).rejects.toMatchObject({
      code: 'E_DEVICE_BUSY',
      message: `${device.path} is held by perl (pid ${holder.pid})`,
    })
  })

  it('opens again at once after a clean close', async () => {
    const device = await line()
    for (let round = 0; round < 5; round += 1) {
      const port = await realOpener(device.path, settings, never)
      await port.close()
      expect((await closeOf(port)).cause).toBe('closed')
    }
  })

  it('gives every write a deadline, also when the line takes nothing more', async () => {
    const device = await line()
    const port = await realOpener(device.path, { baudRate: 9_600, softwareFlowControl: true }, never)
    cleanups.push(() => port.close())
    await device.send(Uint8Array.of(0x13)) // XOFF: the host may not send.
    let outcome: unknown
    for (let round = 0; round < 30 && outcome === undefined; round += 1) {
      outcome = await port.write(new Uint8Array(4_096), 100).then(
        () => undefined,
        (error: unknown) => error,
      )
    }
    expect(outcome).toMatchObject({ code: 'E_DEADLINE' })
    await port.close()
    await expect(port.write(Uint8Array.of(1), 100)).rejects.toMatchObject({ code: 'E_DEVICE_IO' })
  })
})

describe('paths that cannot be opened', () => {
  it('says that a node is absent', async () => {
    await expect(realOpener('/dev/serial/by-id/usb-nothing', settings, never)).rejects.toMatchObject({
      code: 'E_DEVICE_ABSENT',
    })
  })

  it('refuses files, folders and devices that are no serial port without opening them', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'qkd-gw-test-'))
    cleanups.push(() => rmSync(folder, { recursive: true }))
    const file = join(folder, 'tty')
    writeFileSync(file, 'x')
    for (const path of [file, folder, '/dev/null']) {
      await expect(realOpener(path, settings, never)).rejects.toMatchObject({ code: 'E_DEVICE_NOT_A_DEVICE' })
    }
  })

  it('names owner, group, mode, our user and groups, and the command that helps', async () => {
    const device = await line()
    const node = realpathSync(device.path)
    chownSync(node, 0, 20)
    chmodSync(node, 0o660)
    const script = `
      import { createSerialOpener } from ${JSON.stringify(new URL('../../src/io/serial.ts', import.meta.url).pathname)}
      import { systemClock } from ${JSON.stringify(new URL('../../src/base/clock.ts', import.meta.url).pathname)}
      import { silentLogger } from ${JSON.stringify(new URL('../../src/observe/log.ts', import.meta.url).pathname)}
      const open = createSerialOpener({ clock: systemClock, log: silentLogger })
      open(${JSON.stringify(node)}, { baudRate: 9600 }, new AbortController().signal).catch((error) =>
        console.log(JSON.stringify({ code: error.code, message: error.message, remedy: error.remedy })))
    `
    const result = spawnSync(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', script], {
      uid: 65_534,
      gid: 65_534,
      encoding: 'utf8',
    })
    const said: unknown = JSON.parse(result.stdout || JSON.stringify(result.stderr))
    expect(said).toMatchObject({ code: 'E_DEVICE_PERMISSION' })
    expect(said).toHaveProperty(
      'message',
      `${node} may not be opened: owner root, group dialout, mode 0660; this process is nobody (uid 65534) with groups nogroup`,
    )
    expect(said).toHaveProperty('remedy', 'sudo usermod -aG dialout nobody, then log in anew')
  })

  it('tells a group that the process dropped from one that the user lacks', async () => {
    const device = await line()
    const node = realpathSync(device.path)
    chownSync(node, 0, 20)
    chmodSync(node, 0o660)
    const etc = mkdtempSync(join(tmpdir(), 'qkd-gw-etc-'))
    cleanups.push(() => rmSync(etc, { recursive: true }))
    writeFileSync(join(etc, 'passwd'), 'root:x:0:0::/root:/bin/sh\nqkd:x:901:901::/:/bin/false\n')
    writeFileSync(join(etc, 'group'), 'dialout:x:20:qkd\nqkd:x:901:\n')
    const error = await permissionError(node, { uid: 901, gids: [901] }, etc)
    expect(error.remedy).toContain('SupplementaryGroups=dialout')
    const lacking = await permissionError(node, { uid: 901, gids: [901] }, '/nowhere')
    expect(lacking.remedy).toContain('usermod -aG 20 901')
  })
})

describe('the serial port on other bindings', () => {
  afterEach(() => SerialPortMock.binding.reset())

  it('reads, writes and sees the unplug of a port of the mock binding', async () => {
    SerialPortMock.binding.createPort('/dev/ROBOT', { record: true })
    let opened: Awaited<ReturnType<typeof SerialPortMock.binding.open>> | undefined
    const binding: SerialBinding = {
      async open(options) {
        opened = await SerialPortMock.binding.open(options)
        return opened
      },
    }
    const open = createSerialOpener({ clock: systemClock, log: silentLogger, binding })
    const port = await open('/dev/ROBOT', { baudRate: 9_600, dtr: true }, never)
    await expect(open('/dev/ROBOT', settings, never)).rejects.toMatchObject({ code: 'E_DEVICE_BUSY' })
    const heard = hear(port, 3)
    opened?.emitData(Buffer.from('abc'))
    expect(Buffer.from(await heard).toString()).toBe('abc')
    await port.write(Buffer.from('xyz'), 1_000)
    expect(opened?.recording.toString()).toBe('xyz')
    const closed = closeOf(port)
    port.onData(() => {})
    await new Promise((resolve) => setImmediate(resolve))
    // Private in the mock, but the only way to the unplug that the real binding reports.
    const pending: unknown = opened === undefined ? undefined : Reflect.get(opened, 'pendingRead')
    if (typeof pending !== 'function') throw new Error('the mock has no read under way')
    Reflect.apply(pending, opened, [Object.assign(new Error('gone'), { disconnect: true })])
    expect((await closed).cause).toBe('unplugged')
  })

  it('gives up an opening that never returns, and closes it should it come after all', async () => {
    let late: ((port: SerialBindingPort) => void) | undefined
    let closes = 0
    const binding: SerialBinding = { open: () => new Promise((resolve) => (late = resolve)) }
    const open = createSerialOpener({ clock: systemClock, log: silentLogger, binding, openTimeoutMs: 50 })
    await expect(open('/dev/cu.stuck', settings, never)).rejects.toMatchObject({ code: 'E_DEADLINE' })
    const port: SerialBindingPort = {
      isOpen: true,
      close: async () => void (closes += 1),
      read: () => new Promise(() => {}),
      write: async () => {},
      update: async () => {},
      set: async () => {},
    }
    late?.(port)
    await new Promise((resolve) => setImmediate(resolve))
    expect(closes).toBe(1)
  })

  it('gives up an opening when it is no longer wanted', async () => {
    const binding: SerialBinding = { open: () => new Promise(() => {}) }
    const open = createSerialOpener({ clock: systemClock, log: silentLogger, binding })
    const controller = new AbortController()
    const opening = open('/dev/cu.stuck', settings, controller.signal)
    controller.abort()
    await expect(opening).rejects.toMatchObject({ code: 'E_CANCELLED' })
  })

  it('opens the call-out port on macOS and leaves other systems alone', () => {
    expect(callOutPath('/dev/tty.usbmodemTDC1_00121', 'darwin')).toBe('/dev/cu.usbmodemTDC1_00121')
    expect(callOutPath('/dev/tty.usbmodemTDC1_00121', 'linux')).toBe('/dev/tty.usbmodemTDC1_00121')
    expect(callOutPath('/dev/ttyUSB0', 'darwin')).toBe('/dev/ttyUSB0')
  })

  it('tries "access denied" of Windows again for a bounded time and then explains it', async () => {
    SerialPortMock.binding.createPort('COM3')
    let refusals = 2
    const binding: SerialBinding = {
      open(options) {
        refusals -= 1
        if (refusals >= 0) return Promise.reject(new Error('Opening COM3: Access denied'))
        return SerialPortMock.binding.open(options)
      },
    }
    const options = { clock: systemClock, log: silentLogger, binding, platform: 'win32' as const, accessDeniedMs: 600 }
    const port = await createSerialOpener(options)('COM3', settings, never)
    await port.close()
    refusals = 1_000
    await expect(createSerialOpener(options)('COM3', settings, never)).rejects.toMatchObject({
      code: 'E_DEVICE_BUSY',
      message: 'COM3: access denied; another program holds it, or Windows has not yet let go of it',
    })
  })
})
