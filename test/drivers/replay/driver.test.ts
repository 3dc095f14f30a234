import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { systemClock } from '../../../src/base/clock.js'
import { systemRandom } from '../../../src/base/random.js'
import type { Device, DeviceEvent } from '../../../src/device/contract.js'
import { findByScheme } from '../../../src/device/catalogue.js'
import { encodeQutag } from '../../../src/device/event-formats/channel-lists.js'
import { encodeT3 } from '../../../src/device/event-formats/epoch-lists.js'
import { encodeT2 } from '../../../src/device/event-formats/epoch-tags.js'
import { tdc1Bytes, tdc1Word } from '../../../src/device/event-formats/tdc1-words.js'
import { recordedDriver, withTraceReplay } from '../../../src/device/trace-replay.js'
import { createNodeIo } from '../../../src/io/node-io.js'
import { createTraceFile } from '../../../src/io/wire-trace.js'
import { silentLogger } from '../../../src/observe/log.js'
import { encodeFrame } from '../../../drivers/qix/protocol.js'
import { driver as qix } from '../../../drivers/qix/driver.js'
import { driver } from '../../../drivers/replay/driver.js'
import { ascends, Ear, stateOf } from '../../device/event-formats/ear.js'

const RECORDINGS = join(import.meta.dirname, '../../fixtures/recordings-devices')
const base = { clock: systemClock, random: systemRandom, log: silentLogger }
const stops: (() => Promise<void>)[] = []
let folder = ''

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'qkd-gw-replay-'))
})
afterEach(async () => {
  for (const stop of stops.splice(0)) await stop()
})
afterAll(() => rm(folder, { recursive: true, force: true }))

function run(device: Device): { ear: Ear; events: DeviceEvent[] } {
  const ear = new Ear()
  const events: DeviceEvent[] = []
  device.subscribe((event) => {
    events.push(event)
    ear.hear(event)
  })
  const ending = new AbortController()
  const running = device.run(ending.signal)
  stops.push(async () => {
    ending.abort()
    await running
  })
  return { ear, events }
}

function make(file: string, options: Record<string, string> = {}): Device {
  return driver.create({ ...base, device: file, side: 'alice', options, io: createNodeIo(base) })
}

const over = (device: Device) => stateOf(device.state, (now) => now.state === 'absent' && now.reason.endsWith('over'))

describe('a recording as a device', () => {
  it('is named by a scheme', () => {
    expect(findByScheme('replay:/data/run 1.ts')).toMatchObject({
      entry: { descriptor: { name: 'replay' } },
      rest: '/data/run 1.ts',
    })
  })

  it('plays every detection at full speed, and then says that it is over', async () => {
    const device = make(join(RECORDINGS, 'simulated-pair/alice.Aa1X.ts'), { speed: 'full' })
    const { ear } = run(device)
    await over(device)
    expect(ear.times).toHaveLength(51_532)
    expect(ascends(ear.times)).toBe(true)
    expect((ear.times.at(-1) ?? 0n) - (ear.times[0] ?? 0n)).toBe(4_299_850_967_000n)
    expect(device.facts()).toMatchObject({ format: 'a1X', events: 51_532, gaps: 0 })
  })

  it('plays at recorded speed, or a multiple of it', async () => {
    const startMs = performance.now()
    const device = make(join(RECORDINGS, 'simulated-pair/lowrate.tdc1.raw'), { speed: '20' })
    const { ear, events } = run(device)
    await ear.untilTags(20)
    const early = performance.now() - startMs
    const recorded = Number((ear.times.at(-1) ?? 0n) - (ear.times[0] ?? 0n)) / 1e9
    expect(early).toBeGreaterThan((recorded / 20) * 0.95)
    await over(device)
    expect(ear.times).toHaveLength(60)
    // Not in one piece: a slow source's detections come one by one.
    expect(events.filter((event) => event.type === 'tags').length).toBeGreaterThan(40)
    expect(device.facts()).toMatchObject({ dummies: 97 })
  })

  it('may begin again at its end, behind a gap, with a time line that goes on', async () => {
    const device = make(join(RECORDINGS, 's15-tdc1/tdc1-2hz.raw'), { speed: 'full', loop: 'on' })
    const { ear } = run(device)
    await ear.untilTags(6)
    expect(ascends(ear.times.slice(0, 6))).toBe(true)
    expect(ear.gaps.slice(0, 2).map((gap) => gap.after)).toEqual([2, 4])
  })

  it('names channels as inputs, and leaves out what stands behind its predecessor', async () => {
    const file = join(folder, 'x.qutag')
    const detections = [100, 200, 150, 300, 400].map((ns, i) => ({ timePs: BigInt(ns) * 1000n, channel: i + 1 }))
    await writeFile(file, encodeQutag(detections))
    const device = make(file, { speed: 'full', format: 'qutag' })
    const { ear } = run(device)
    await over(device)
    expect(ear.times).toEqual([100_000n, 200_000n, 300_000n, 400_000n])
    expect(ear.patterns).toEqual([1, 2, 8, 16])
    expect(ear.discarded.get('outOfOrder')).toBe(1)
  })

  it('plays times and patterns of the service protocol, and refuses those with bases alone', async () => {
    const entries = [
      { time: 330_517, base: 1 },
      { time: 330_522, base: 2 },
      { time: 400_000, base: 8 },
    ]
    const t2 = async (name: string, protocol: number, baseBits: number, bases = entries) => {
      const file = join(folder, name)
      await writeFile(file, encodeT2({ epoch: 0x1f2, extended: false, order: 17, baseBits, protocol }, bases))
      return make(file, { speed: 'full' })
    }
    const device = await t2('service', 0, 4)
    const { ear } = run(device)
    await over(device)
    expect(ear.times).toEqual([41_314_625n, 41_315_250n, 50_000_000n])
    expect(ear.patterns).toEqual([1, 2, 8])
    const bb84 = await t2(
      'bb84',
      1,
      1,
      entries.map(({ time }) => ({ time, base: 1 })),
    )
    const deaf = new Ear()
    bb84.subscribe((event) => deaf.hear(event))
    await expect(bb84.run(new AbortController().signal)).rejects.toMatchObject({
      code: 'E_CONFIG',
      message: expect.stringMatching(/protocol 1 with 1 base bits.*which detector clicked is not in it/) as string,
    })
    expect(deaf.times).toEqual([])
  })

  it('plays a T2 file of BB84 whose bits are in a T3 file: the detectors that clicked', async () => {
    const simulated = join(RECORDINGS, 'simulated-pair')
    const whole = make(join(simulated, 'alice.Aa1X.ts'), { speed: 'full' })
    const { ear: all } = run(whole)
    await over(whole)
    const device = make(join(simulated, 'epochs-key/t2/c758fa48'), {
      speed: 'full',
      bits: join(simulated, 'epochs-key/t3a/c758fa48'),
    })
    const { ear } = run(device)
    await over(device)
    expect(ear.times).toHaveLength(0x111b)
    // What clicked at several detectors stands in these files as a click of the first.
    const written = all.patterns.map((pattern) => ([1, 2, 4, 8].includes(pattern) ? pattern : 1))
    expect(ear.patterns).toEqual(written.slice(0, 0x111b))
  })

  it('refuses bits of another epoch, of another number of events, and for files that need none', async () => {
    const simulated = join(RECORDINGS, 'simulated-pair')
    const refusal = (file: string, bits: string): Promise<unknown> =>
      make(join(simulated, file), { speed: 'full', bits: join(simulated, bits) })
        .run(new AbortController().signal)
        .then(() => 'played', String)
    expect(await refusal('epochs-key/t2/c758fa48', 'epochs-key/t3a/c758fa49')).toMatch(/it is of epoch c758fa49/)
    // After sifting.
    expect(await refusal('epochs-key/t2/c758fa48', 'epochs-key/t3b/c758fa48')).toMatch(/430 bits, and .* 4379 events/)
    expect(await refusal('epochs-service/t2/c758fa48', 'epochs-key/t3a/c758fa48')).toMatch(
      /protocol 0 with 4 base bits/,
    )
    expect(await refusal('epochs-service/t2/c758fa48', 'epochs-service/t3a/c758fa48')).toMatch(/4 bits an entry/)
    expect(await refusal('alice.Aa1X.ts', 'epochs-key/t3a/c758fa48')).toMatch(/bits belong to t2 files alone/)
    expect(await refusal('epochs-key/t2/c758fa48', 'no/such/file')).toMatch(/no such file/)
  })

  it('that is missing, of no known format, or without detections is refused by name', async () => {
    const refuse = (file: string, options: Record<string, string> = {}) =>
      make(file, options).run(new AbortController().signal)
    await expect(refuse(join(folder, 'none'))).rejects.toMatchObject({
      code: 'E_CONFIG',
      message: expect.stringMatching(/none: no recording there/) as string,
    })
    await writeFile(join(folder, 'text'), 'hello\n')
    await expect(refuse(join(folder, 'text'))).rejects.toMatchObject({
      code: 'E_FORMAT',
      remedy: expect.stringMatching(/^name it with --driver-option format=…: a0, a2/) as string,
    })
    await writeFile(join(folder, 'words'), '01118aa8\n01118ba8\n')
    await expect(refuse(join(folder, 'words'))).rejects.toMatchObject({
      remedy: expect.stringContaining('--driver-option format=a0 --driver-option source=card') as string,
    })
    await writeFile(join(folder, 'bits'), encodeT3(1, true, 1, [0, 1, 1]))
    await expect(refuse(join(folder, 'bits'))).rejects.toMatchObject({
      code: 'E_CONFIG',
      message: expect.stringMatching(/a t3 file holds no detections/) as string,
    })
    expect(() => make('x', { speed: 'slow' })).toThrow(/"slow" is no speed/)
  })
})

describe('a wire trace as a device', () => {
  async function traceOf(name: string, driverName: string | undefined, chunks: readonly Uint8Array[]): Promise<string> {
    const file = join(folder, name)
    const header = {
      startedUnixMs: 1,
      path: '/dev/ttyX',
      masked: false,
      ...(driverName === undefined ? {} : { driver: driverName }),
    }
    const writer = await createTraceFile(file, header)
    chunks.forEach((bytes, i) => writer.write({ atUs: 1000 * i, direction: 'rx', bytes }))
    await writer.close()
    return file
  }

  it('of a tagger plays its detections', async () => {
    const words = Array.from({ length: 100 }, (_, i) => tdc1Word(5000 + 1000 * i, 1))
    const bytes = tdc1Bytes(words)
    const file = await traceOf('tdc1.trace', 'tdc1', [bytes.subarray(0, 130), bytes.subarray(130)])
    expect(recordedDriver(file)).toBe('tdc1')
    const device = make(file, { speed: 'full' })
    const { ear } = run(device)
    await over(device)
    expect(ear.times).toHaveLength(100)
  })

  it('of a tagger that was spoken to plays its detections and not its answers', async () => {
    const file = join(folder, 'conversation.trace')
    const words = tdc1Bytes(Array.from({ length: 9 }, (_, i) => tdc1Word(5000 + 1000 * i, 1)))
    const text = (said: string): Uint8Array => new TextEncoder().encode(said)
    const header = { startedUnixMs: 1, path: '/dev/ttyX', driver: 'tdc1' }
    const record = async (masked: boolean): Promise<void> => {
      const writer = await createTraceFile(file, { ...header, masked })
      const said = [
        ['tx', text('*IDN?\r\n')],
        ['rx', text('S-Fifteen Instruments TDC1\r\n')],
        ['tx', text('*RST;NIM;TIME 0;TIMESTAMP;COUNTS?\r\n')],
        ['rx', words.subarray(0, 14)],
        ['tx', text('INPKT\r\n')],
        ['rx', words.subarray(14)],
        ['tx', text('ABORT;STATUS?\r\n')],
        ['rx', text('0000 \r\n')],
      ] as const
      said.forEach(([direction, bytes], i) => writer.write({ atUs: 1000 * i, direction, bytes }))
      await writer.close()
    }
    await record(false)
    const device = make(file, { speed: 'full' })
    const { ear } = run(device)
    await over(device)
    const steps = ear.times.map((time) => Number(time - (ear.times[0] ?? 0n)))
    expect(steps).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8].map((i) => i * 2_000_000))
    await rm(file)
    await record(true)
    await expect(make(file).run(new AbortController().signal)).rejects.toMatchObject({
      code: 'E_FORMAT',
      remedy: expect.stringContaining('--show-keys') as string,
    })
  })

  it('of a key device is played to the driver of that device', async () => {
    const key = (value: number): Uint8Array => new Uint8Array(32).fill(value)
    const frames = [1, 2, 3].map((id) => encodeFrame({ id: BigInt(id), key: key(id), status: 1 }))
    const file = await traceOf(
      'qix.trace',
      'qix',
      frames.flatMap((frame) => [frame.slice(0, 20), frame.slice(20)]),
    )
    const context = withTraceReplay({
      ...base,
      device: `replay:${file}`,
      side: 'alice',
      options: { 'replay-speed': 'full' },
      io: createNodeIo(base),
    })
    expect(context.options).toEqual({})
    const device = qix.create(context)
    const { events } = run(device)
    await stateOf(device.state, (now) => now.state === 'absent' && now.reason.startsWith('unplugged'))
    expect(events).toEqual([1, 2, 3].map((id) => ({ type: 'key', id: BigInt(id), key: key(id) })))
  })

  it('of a key device is refused where its keys were masked when it was recorded', async () => {
    const file = join(folder, 'masked.trace')
    await (await createTraceFile(file, { startedUnixMs: 1, path: '/dev/ttyX', driver: 'qix', masked: true })).close()
    const context = { ...base, side: 'alice' as const, options: {}, io: createNodeIo(base) }
    expect(() => withTraceReplay({ ...context, device: `replay:${file}` })).toThrow(
      expect.objectContaining({ code: 'E_FORMAT', remedy: expect.stringContaining('--show-keys') as string }),
    )
  })

  it('is told from other files by its header', async () => {
    expect(recordedDriver(join(folder, 'text'))).toBeUndefined()
    expect(recordedDriver(join(folder, 'nothing there'))).toBeUndefined()
    const other = { ...base, device: '/dev/ttyUSB0', side: 'bob' as const, options: {}, io: createNodeIo(base) }
    expect(withTraceReplay(other)).toBe(other)
  })
})
