import {
  chmodSync,
  chownSync,
  mkdirSync,
  mkdtempSync,
  realpathSync,
  renameSync,
  rmSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs'
import { spawn } from 'node:child_process'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { systemClock } from '../../src/base/clock.js'
import { GatewayError } from '../../src/base/errors.js'
import { systemRandom } from '../../src/base/random.js'
import type { DeviceState } from '../../src/device/contract.js'
import { type Conversation, SerialSession, type SerialSessionOptions } from '../../src/device/serial-session.js'
import type { DeviceIo, DeviceLine } from '../../src/io/contract.js'
import { createMemoryLines } from '../../src/io/memory-line.js'
import { createNodeIo } from '../../src/io/node-io.js'
import { openPtyLine } from '../../src/io/pty.js'
import { silentLogger } from '../../src/observe/log.js'
import { ManualClock } from '../drivers/support/manual-clock.js'

const cleanups: (() => unknown)[] = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
})

const base = { clock: systemClock, random: systemRandom, log: silentLogger }

interface Running {
  session: SerialSession
  states: DeviceState[]
  until: (accept: (state: DeviceState) => boolean) => Promise<DeviceState>
  ended: Promise<void>
  stop(): Promise<void>
}

/** A running session; what arrives counts as life. */
function run(path: string, io: DeviceIo, more: Partial<SerialSessionOptions> = {}): Running {
  const session = new SerialSession({
    ...base,
    path,
    io,
    settings: { baudRate: 9_600 },
    silentAfterMs: 5_000,
    begin: (handle) => ({ onData: () => handle.alive(), end: () => {} }),
    ...more,
  })
  const states: DeviceState[] = []
  const waiting = new Set<() => void>()
  session.state.subscribe((state) => {
    states.push(state)
    for (const look of [...waiting]) look()
  })
  const ending = new AbortController()
  const ended = session.run(ending.signal)
  ended.catch(() => {})
  const running: Running = {
    session,
    states,
    ended,
    until: (accept) =>
      new Promise((resolve) => {
        const look = (): void => {
          const { value } = session.state
          if (!accept(value)) return
          waiting.delete(look)
          resolve(value)
        }
        waiting.add(look)
        look()
      }),
    async stop() {
      ending.abort()
      await ended.catch(() => {})
    },
  }
  cleanups.push(() => running.stop())
  return running
}

async function pty(): Promise<DeviceLine> {
  const line = await openPtyLine(base)
  cleanups.push(() => line.close())
  return line
}

const nodeIo = createNodeIo(base)

/** An io of in-memory lines whose openings a test can make fail. */
function memoryIo(onOpen: () => void = () => {}) {
  const lines = createMemoryLines()
  const line = lines.create('unit')
  const io: DeviceIo = {
    openSerial: (path, settings, signal) => {
      onOpen()
      return lines.openSerial(path, settings, signal)
    },
    watchPath: (path, listener) => lines.watch(path, listener),
    resolvePath: (path) => (lines.isPresent(path) ? path : undefined),
    stableNameOf: (path) => path,
  }
  return { io, line, path: line.path }
}

/** A name as udev makes them, and how it is pointed at a node. */
function stableName(): { folder: string; name: string; point: (line: DeviceLine) => void } {
  const folder = mkdtempSync(join(tmpdir(), 'qkd-gw-by-id-'))
  cleanups.push(() => rmSync(folder, { recursive: true }))
  const name = join(folder, 'usb-Acme_Unit_7-if00')
  return {
    folder,
    name,
    point(line) {
      symlinkSync(realpathSync(line.path), `${name}.new`)
      renameSync(`${name}.new`, name)
    },
  }
}

describe('finding the device', () => {
  it('learns the stable name at the first opening, and finds the device by it under another number', async () => {
    const { folder, name: stable, point } = stableName()
    const first = await pty()
    const second = await pty()
    point(first)
    const { session, until } = run(realpathSync(first.path), nodeIo, { stableFolder: folder })
    await until(({ state }) => state === 'open')
    expect(session.name).toBe(stable)
    unlinkSync(stable)
    await first.unplug()
    await until(({ state }) => state === 'absent')
    point(second)
    const state = await until((now) => now.state === 'open')
    expect(state).toMatchObject({ path: realpathSync(second.path) })
    await second.send(Uint8Array.of(1))
    await until((now) => now.state === 'producing')
  })

  it('lets go of a node that was given to another device while it was opened', async () => {
    const { name, point } = stableName()
    const [first, second] = [await pty(), await pty()]
    point(first)
    let openings = 0
    const io: DeviceIo = {
      ...nodeIo,
      async openSerial(path, settings, signal) {
        const transport = await nodeIo.openSerial(path, settings, signal)
        openings += 1
        if (openings === 1) point(second)
        return transport
      },
    }
    const { until, session } = run(name, io)
    expect(await until(({ state }) => state === 'open')).toMatchObject({ path: realpathSync(second.path) })
    expect(session.facts()).toMatchObject({ openings: 1 })
  })

  it.each([['the name', true] as const, ['the node', false] as const])(
    'follows its name to another node although the old one stays, %s given',
    async (_, byName) => {
      const { folder, name, point } = stableName()
      const [first, second] = [await pty(), await pty()]
      point(first)
      const { until, states } = run(byName ? name : realpathSync(first.path), nodeIo, { stableFolder: folder })
      await until(({ state }) => state === 'open')
      point(second)
      const there = realpathSync(second.path)
      expect(await until((now) => now.state === 'open' && now.path === there)).toMatchObject({ path: there })
      expect(states).toContainEqual(
        expect.objectContaining({ state: 'absent', reason: expect.stringContaining('stands for') as string }),
      )
    },
  )

  it('waits out no pause where the cable is back before the failed opening has ended', async () => {
    const { io, path, line } = memoryIo()
    let tries = 0
    const moved: DeviceIo = {
      ...io,
      async openSerial(...args) {
        tries += 1
        if (tries > 1) return io.openSerial(...args)
        await line.unplug()
        await line.plug()
        throw new GatewayError('E_DEVICE_ABSENT', 'it has just been pulled')
      },
    }
    const { until } = run(path, moved, { clock: new ManualClock() })
    await until(({ state }) => state === 'open')
    expect(tries).toBe(2)
  })

  it('waits out no pause where the cable is back before the lost port is closed', async () => {
    const { io, path, line } = memoryIo()
    const slowToClose: DeviceIo = {
      ...io,
      async openSerial(...args) {
        const transport = await io.openSerial(...args)
        const close = transport.close.bind(transport)
        transport.close = async () => {
          await close()
          await line.plug()
        }
        return transport
      },
    }
    const { until, session } = run(path, slowToClose, { clock: new ManualClock() })
    await until(({ state }) => state === 'open')
    const lost = until(({ state }) => state === 'absent')
    await line.unplug()
    await lost
    await until(({ state }) => state === 'open')
    expect(session.facts()).toMatchObject({ openings: 2, losses: 1 })
  })

  it('waits for a port that another program holds, names that program, and takes the port when it is free', async () => {
    const line = await pty()
    const holder = spawn('perl', [
      '-e',
      'open(my $f,"+<",$ARGV[0]) or die; flock($f,2) or die; $|=1; print "held\n"; sleep 60',
      realpathSync(line.path),
    ])
    cleanups.push(() => holder.kill('SIGKILL'))
    await new Promise((resolve) => holder.stdout.once('data', resolve))
    const { until, states } = run(line.path, nodeIo)
    const state = await until((now) => now.state === 'busy')
    expect(state).toMatchObject({ reason: expect.stringContaining(`perl (pid ${holder.pid})`) as string })
    holder.kill('SIGKILL')
    await until((now) => now.state === 'open')
    expect(states.filter((each) => each.state === 'busy')).toHaveLength(1)
  })

  it('waits for rights to the port, and opens it as soon as they are given', async () => {
    const line = await pty()
    const error = new GatewayError('E_DEVICE_PERMISSION', 'no rights', { remedy: 'sudo usermod' })
    let allowed = false
    const io: DeviceIo = {
      ...nodeIo,
      openSerial: (path, settings, signal) =>
        allowed ? nodeIo.openSerial(path, settings, signal) : Promise.reject(error),
    }
    const { until } = run(line.path, io)
    expect(await until((now) => now.state === 'refused')).toMatchObject({ reason: 'no rights (sudo usermod)' })
    allowed = true
    const node = realpathSync(line.path)
    chmodSync(node, 0o660)
    if (process.geteuid?.() === 0) chownSync(node, 0, 20)
    await until((now) => now.state === 'open')
  })

  it('goes on after any failure to open, with a reason each time, and never ends by itself', async () => {
    const failures = ['E_DEADLINE', 'E_DEVICE_IO', 'E_INTERNAL'] as const
    let opened = 0
    const { io, path } = memoryIo(() => {
      const code = failures[opened]
      opened += 1
      if (code !== undefined) throw new GatewayError(code, `failure ${opened}`)
    })
    const { until, states } = run(path, io)
    await until(({ state }) => state === 'open')
    expect(states.flatMap((state) => (state.state === 'refused' ? [state.reason] : []))).toEqual([
      'failure 1',
      'failure 2',
      'failure 3',
    ])
  })

  it('ends only for a path that never was a device', async () => {
    const { ended } = run('/dev/null', nodeIo)
    await expect(ended).rejects.toMatchObject({ code: 'E_DEVICE_NOT_A_DEVICE' })
    let calls = 0
    const { io, path, line } = memoryIo(() => {
      calls += 1
      if (calls === 2) throw new GatewayError('E_DEVICE_NOT_A_DEVICE', 'a moment of a cable being moved')
    })
    const { until } = run(path, io)
    await until(({ state }) => state === 'open')
    await line.unplug()
    await line.plug()
    await until(({ state }) => state === 'refused')
    await until(({ state }) => state === 'open')
  })
})

describe('a device that is open', () => {
  it('is spoken to by its driver, and opened again when that fails', async () => {
    const { io, path, line } = memoryIo()
    let tries = 0
    const ends: number[] = []
    const { until, session } = run(path, io, {
      begin: (handle): Conversation => ({
        onData: () => handle.alive(),
        end: () => ends.push(tries),
        async run() {
          tries += 1
          if (tries === 1) throw new Error('it did not answer')
          await handle.transport.write(Uint8Array.of(1), 1_000)
          handle.identified('Acme 7')
        },
      }),
    })
    await until(({ state }) => state === 'identified')
    expect(session.facts()).toMatchObject({ openings: 2, losses: 1 })
    expect(ends).toEqual([1])
    await line.send(Uint8Array.of(1))
    expect(await until(({ state }) => state === 'producing')).toMatchObject({ identity: 'Acme 7' })
  })

  it('has its round trip and the converter’s waiting time shown, with the remedy where it is spoken to', async () => {
    const { io, path } = memoryIo()
    const slow: DeviceIo = { ...io, latencyTimerMs: () => 16 }
    const running = run(path, slow, {
      begin: (handle): Conversation => ({
        onData: () => {},
        end: () => {},
        async run() {
          handle.roundTrip(16.234)
          handle.identified('Acme 7')
          await new Promise(() => {})
        },
      }),
    })
    await running.until(({ state }) => state === 'identified')
    expect(running.session.facts()).toMatchObject({
      roundTripMs: 16.2,
      latencyTimerMs: 16,
      latencyRemedy: expect.stringContaining('latency_timer') as string,
    })
    await running.stop()
    const listening = run(path, slow)
    await listening.until(({ state }) => state === 'open')
    expect(listening.session.facts()).toMatchObject({ latencyTimerMs: 16 })
    expect(listening.session.facts()).not.toHaveProperty('latencyRemedy')
  })

  it('reads the waiting time of the converter where the system tells it', () => {
    const ttyFolder = mkdtempSync(join(tmpdir(), 'qkd-gw-tty-'))
    cleanups.push(() => rmSync(ttyFolder, { recursive: true }))
    mkdirSync(join(ttyFolder, 'ttyUSB7/device'), { recursive: true })
    writeFileSync(join(ttyFolder, 'ttyUSB7/device/latency_timer'), '16\n')
    const io = createNodeIo({ ...base, ttyFolder })
    expect(io.latencyTimerMs?.('/dev/ttyUSB7')).toBe(16)
    expect(io.latencyTimerMs?.('/dev/ttyACM0')).toBeUndefined()
  })

  it('but silent is asked again first, then opened anew, then reset, with a pause between', async () => {
    const { io, path } = memoryIo()
    const tried: string[] = []
    let done: () => void = () => {}
    const all = new Promise<void>((resolve) => (done = resolve))
    const { until } = run(path, io, {
      silentAfterMs: 30,
      remedyPauseMs: 20,
      begin: () => {
        tried.push('open')
        return {
          onData: () => {},
          end: () => {},
          askAgain: async () => void tried.push('ask again'),
          reset: async () => {
            tried.push('reset')
            done()
          },
        }
      },
    })
    expect(await until(({ state }) => state === 'silent')).toMatchObject({
      reason: 'open, but nothing has come yet (not switched on, another port, or not at 9600 baud?)',
    })
    await all
    expect(tried).toEqual(['open', 'ask again', 'open', 'reset'])
  })

  it('and slow, not dead, is left alone: signs of life start the stages anew', async () => {
    const { io, path, line } = memoryIo()
    const tried: string[] = []
    const { until } = run(path, io, {
      silentAfterMs: 40,
      remedyPauseMs: 60_000,
      begin: (handle) => ({
        onData: () => handle.alive(),
        end: () => {},
        askAgain: async () => void tried.push('ask again'),
      }),
    })
    for (let round = 0; round < 5; round += 1) {
      await until(({ state }) => state === 'silent')
      await line.send(Uint8Array.of(1))
      await until(({ state }) => state === 'producing')
    }
    expect(tried).toEqual([])
  })

  it('is not touched when remedies are switched off', async () => {
    const { io, path } = memoryIo()
    const { until, session } = run(path, io, { silentAfterMs: 20, remedyPauseMs: undefined })
    await until(({ state }) => state === 'silent')
    await new Promise((resolve) => setTimeout(resolve, 100))
    expect(session.facts()).toMatchObject({ openings: 1 })
    expect(session.state.value.state).toBe('silent')
  })

  it('is closed when the session ends, whatever its driver still waits for', async () => {
    const { io, path } = memoryIo()
    const running = run(path, io, {
      begin: () => ({ onData: () => {}, end: () => {}, run: () => new Promise(() => {}) }),
    })
    await running.until(({ state }) => state === 'open')
    await running.stop()
    expect(running.session.state.value).toEqual({ state: 'stopped' })
    const again = run(path, io)
    await again.until(({ state }) => state === 'open')
  })
})
