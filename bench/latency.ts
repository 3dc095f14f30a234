/** From the last byte that a device sends to the event of its driver, through port (or USB cable), session and driver. */
import { mkdtemp, open, rm, writeFile } from 'node:fs/promises'
import { execFileSync } from 'node:child_process'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { performance } from 'node:perf_hooks'
import { EmulatedHost } from '../drivers/clavis2/emulator.js'
import { renderInstallationFile } from '../drivers/clavis2/installation-file.js'
import { KeyClient } from '../drivers/clavis2/key-client.js'
import { systemClock } from '../src/base/clock.js'
import { systemRandom } from '../src/base/random.js'
import { findEntry } from '../src/device/catalogue.js'
import type { Device, DriverContext } from '../src/device/contract.js'
import { eventValue, valueBytes } from '../src/device/event-formats/event-values.js'
import { isRandomDevice, type RandomDevice } from '../src/device/random-source.js'
import type { DeviceLine } from '../src/io/contract.js'
import { createMemoryLines } from '../src/io/memory-line.js'
import { createNodeIo } from '../src/io/node-io.js'
import { openPtyLine, ptyAvailable } from '../src/io/pty.js'
import { openDatagramPort } from '../src/io/udp.js'
import { createMemoryUsb, type MemoryUsb } from '../src/io/usb-memory.js'
import { serveUsb } from '../src/io/usb-socket-server.js'
import { silentLogger } from '../src/observe/log.js'
import { type Figure, inTurn, median } from './support/figures.js'

const SAMPLES = 100
const WARM_UP = 20
const LONGEST_MS = 30_000
const base = { clock: systemClock, random: systemRandom, log: silentLogger }

/** When the device last sent something; undefined once an event came of it. */
class LastByte {
  readonly samplesMs: number[] = []
  #sentMs: number | undefined
  #enough: () => void = () => {}
  readonly enough = new Promise<void>((resolve) => (this.#enough = resolve))

  sent(): void {
    this.#sentMs = performance.now()
  }

  event(): void {
    if (this.#sentMs === undefined) return
    this.samplesMs.push(performance.now() - this.#sentMs)
    this.#sentMs = undefined
    if (this.samplesMs.length >= SAMPLES + WARM_UP) this.#enough()
  }

  median(): number {
    return median(this.samplesMs.slice(WARM_UP))
  }
}

function timedLine(line: DeviceLine, last: LastByte): DeviceLine {
  return {
    path: line.path,
    transport: line.transport,
    get plugged() {
      return line.plugged
    },
    send(bytes) {
      last.sent()
      return line.send(bytes)
    },
    onData: (listener) => line.onData(listener),
    unplug: () => line.unplug(),
    plug: () => line.plug(),
    lineRate: () => line.lineRate(),
    close: () => line.close(),
  }
}

function timedUsb(usb: MemoryUsb, last: LastByte): MemoryUsb {
  return {
    io: usb.io,
    attach(device, fifoBytes) {
      const plug = usb.attach(device, fifoBytes)
      return {
        get plugged() {
          return plug.plugged
        },
        get lost() {
          return plug.lost
        },
        send(endpoint, bytes) {
          last.sent()
          plug.send(endpoint, bytes)
        },
        unplug: () => plug.unplug(),
        plug: () => plug.plug(),
      }
    },
  }
}

/** Asks a random source without end; its bytes count as the event. */
async function useUp({ source }: RandomDevice, last: LastByte, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    try {
      const bytes = await source.read(20_000, 5_000, signal)
      bytes.fill(0)
      last.event()
    } catch {
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
  }
}

/** Runs a device until enough was measured. */
async function measure(device: Device, last: LastByte): Promise<number> {
  const ending = new AbortController()
  const unsubscribe = device.subscribe(({ type }) => {
    if (type === 'key' || type === 'tags' || type === 'figure') last.event()
  })
  const running = [device.run(ending.signal)]
  if (isRandomDevice(device)) running.push(useUp(device, last, ending.signal))
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<void>((resolve) => (timer = setTimeout(resolve, LONGEST_MS)))
  await Promise.race([last.enough, late])
  clearTimeout(timer)
  ending.abort()
  unsubscribe()
  await Promise.all(running)
  return last.median()
}

interface Emulated {
  readonly driver: string
  readonly options?: Readonly<Record<string, string>>
  readonly emulatorOptions?: Readonly<Record<string, string>>
  readonly event: string
}

const EMULATED: readonly Emulated[] = [
  { driver: 'qix', emulatorOptions: { rate: '200' }, event: 'key' },
  { driver: 'tdc1', emulatorOptions: { rate: '20000' }, event: 'tags' },
  { driver: 'nox', options: { 'step-ms': '1' }, emulatorOptions: { rate: '20000' }, event: 'tags' },
  { driver: 'counter-cc1', emulatorOptions: { 'dwell-s': '0.02' }, event: 'figure' },
  {
    driver: 'counter-abacus',
    options: { 'poll-ms': '20' },
    emulatorOptions: { 'sampling-ms': '20' },
    event: 'figure',
  },
  { driver: 'qcicada', event: 'tested bytes' },
  { driver: 'swiftrng', event: 'tested bytes' },
  { driver: 'truerng', event: 'tested bytes' },
  { driver: 'quantis', event: 'tested bytes' },
]

async function emulatedMs({ driver, options = {}, emulatorOptions = {} }: Emulated): Promise<number> {
  const entry = findEntry(driver)
  const factory = await entry.loadEmulator?.()
  if (factory === undefined) return Number.NaN
  const last = new LastByte()
  const folder = await mkdtemp(join(tmpdir(), 'qkd-gw-bench-'))
  const { cables = 'serial', baudRate } = factory
  const line = cables === 'usb' ? createMemoryLines().create('unused') : await openPtyLine({ ...base, baudRate })
  const usb = createMemoryUsb(systemClock)
  const socket = join(folder, 'usb')
  const stopUsb = cables === 'serial' ? undefined : await serveUsb(socket, usb.io)
  const ending = new AbortController()
  const emulator = factory.create({
    ...base,
    // What counts of a device with two cables comes over USB.
    line: cables === 'serial' ? timedLine(line, last) : line,
    usb: timedUsb(usb, last),
    options: emulatorOptions,
  })
  const running = emulator.run(ending.signal)
  const context: DriverContext = {
    ...base,
    device: cables === 'usb' ? 'usb:' : line.path,
    side: 'alice',
    options: { ...options, ...(cables === 'serial' ? {} : { 'usb-socket': socket }) },
    io: createNodeIo(base),
  }
  try {
    return await measure((await entry.loadDriver()).create(context), last)
  } finally {
    ending.abort()
    await running
    await stopUsb?.()
    await line.close()
    await rm(folder, { recursive: true, force: true })
  }
}

/** The user's reader program is cat here: one event at a time through its pipe. */
async function readerMs(): Promise<number> {
  const folder = await mkdtemp(join(tmpdir(), 'qkd-gw-bench-'))
  const fifo = join(folder, 'events')
  execFileSync('mkfifo', [fifo])
  const last = new LastByte()
  const device = (await findEntry('reader').loadDriver()).create({
    ...base,
    device: '/bin/cat',
    side: 'alice',
    options: { args: fifo, format: 'a1', 'first-run': 'off' },
    io: createNodeIo(base),
  })
  const writing = (async () => {
    // Opens once cat has.
    const pipe = await open(fifo, 'w')
    let over = false
    void last.enough.then(() => (over = true))
    for (let i = 1; !over; i += 1) {
      last.sent()
      await pipe.write(valueBytes([eventValue(BigInt(i) * 51_200_000n + 7n, 1)], 'lowFirst'))
      await new Promise((resolve) => setTimeout(resolve, 5))
    }
    await pipe.close()
  })()
  try {
    return await measure(device, last)
  } finally {
    await Promise.race([writing, new Promise((resolve) => setTimeout(resolve, 1_000))])
    await rm(folder, { recursive: true, force: true })
  }
}

/** From the question on: a datagram each way. */
async function clavis2Ms(): Promise<number> {
  const folder = await mkdtemp(join(tmpdir(), 'qkd-gw-bench-'))
  const installationFile = join(folder, 'vectis.conf')
  await writeFile(installationFile, renderInstallationFile(systemRandom.bytes(32), 'full'))
  let keysReady: () => void = () => {}
  const ready = new Promise<void>((resolve) => (keysReady = resolve))
  const host = new EmulatedHost({
    ...{ side: 'alice', installationFile, host: '127.0.0.1', port: 0, order: 'little' },
    ...{ roundMs: 5, keysPerRound: 1_000, epochMs: Date.now(), clock: systemClock, random: systemRandom },
    print: (line) => (line.includes('Secret Key Rate') ? keysReady() : undefined),
    exit: () => {},
  })
  await host.start()
  await ready
  const client = new KeyClient({
    ...{ open: openDatagramPort, host: '127.0.0.1', port: host.port, order: 'little', deviceId: 1, keyLength: 32 },
    ...{ replyTimeoutMs: 1_000, retryPauseMs: 10, clock: systemClock, random: systemRandom },
  })
  const last = new LastByte()
  const never = new AbortController().signal
  for (let i = 0; i < SAMPLES + WARM_UP; i += 1) {
    last.sent()
    const { outcome } = await client.fetch(0n, never)
    if (outcome === 'key') last.event()
  }
  await client.close()
  host.stop()
  await rm(folder, { recursive: true, force: true })
  return last.median()
}

export async function run(): Promise<Figure[]> {
  if (!(await ptyAvailable())) return []
  const note = 'median; both ends in one process'
  const figure = (name: string, measured: () => Promise<number>) => async (): Promise<Figure[]> => [
    { name, value: await measured(), unit: 'ms', note },
  ]
  return inTurn([
    ...EMULATED.map((emulated) =>
      figure(`${emulated.driver}: last byte to ${emulated.event}`, () => emulatedMs(emulated)),
    ),
    figure('reader: last byte to tags', readerMs),
    figure('clavis2: question to key', clavis2Ms),
  ])
}
