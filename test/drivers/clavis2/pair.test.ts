import { readFile, stat } from 'node:fs/promises'
import pino from 'pino'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { createClavis2Driver } from '../../../drivers/clavis2/driver.js'
import { keyDigits } from '../../../drivers/clavis2/installation-file.js'
import { type Clock, systemClock } from '../../../src/base/clock.js'
import type { Side } from '../../../src/device/contract.js'
import {
  isPairDevice,
  PairCallError,
  type PairDevice,
  type PairPeer,
  type PairServices,
} from '../../../src/device/pair-contract.js'
import { contextFor, peerOf, record, sessionWith } from '../support/pair.js'
import { type Installation, installation, ProgramInProcess } from './support.js'

const never = new AbortController().signal
const INITIAL = Uint8Array.from({ length: 32 }, (_, i) => 0xf0 ^ i)

class End {
  readonly lines: string[] = []
  device!: PairDevice
  seen!: ReturnType<typeof record>
  program!: ProgramInProcess
  at!: Installation
  readonly #stop = new AbortController()
  #running: Promise<void> = Promise.resolve()

  static async create(side: Side, options: Record<string, string> = {}, clock: Clock = systemClock): Promise<End> {
    const end = new End()
    end.at = await installation()
    end.program = new ProgramInProcess(end.at)
    const device = createClavis2Driver(end.program.system).create({
      ...contextFor(side, clock, { ...end.at.options, ...options }, side === 'alice' ? 3 : 4),
      log: pino({ level: 'debug' }, { write: (line: string) => void end.lines.push(line) }),
    })
    if (!isPairDevice(device)) throw new Error('no pair device')
    end.device = device
    end.seen = record(device)
    const identified = new Promise<void>((resolve) => {
      device.state.subscribe(({ state }) => (state === 'identified' ? resolve() : undefined))
    })
    end.#running = device.run(end.#stop.signal)
    await identified
    return end
  }

  async close(): Promise<void> {
    this.#stop.abort()
    await this.#running
    await this.at.remove()
  }
}

async function* batches(...lists: bigint[][]): AsyncGenerator<readonly bigint[]> {
  for (const list of lists) yield list
}

describe('a Clavis2 pair', () => {
  let alice: End
  let bob: End

  beforeEach(async () => {
    ;[alice, bob] = await Promise.all([End.create('alice'), End.create('bob')])
  })
  afterEach(async () => {
    await Promise.all([alice.close(), bob.close()])
  })

  it('runs both programs on the same initial key and gives both sites the same keys in order', async () => {
    const atAlice = sessionWith(peerOf(bob.device.pair.services), INITIAL)
    const atBob = sessionWith(peerOf(alice.device.pair.services), INITIAL)
    await bob.device.pair.prepare(atBob)
    await alice.device.pair.prepare(atAlice)
    bob.device.pair.start('byArrival')
    alice.device.pair.start('byArrival')
    await bob.seen.untilKeys(12)
    expect(alice.program.starts).toEqual(['--alice --ip_bob 127.0.0.1'])
    expect(bob.program.starts).toEqual(['--bob --line_attenuation 3.000000'])
    expect(bob.device.state.value.state).toBe('producing')
    await alice.device.pair.quiesce()
    await bob.device.pair.quiesce()
    await Promise.all([alice.device.pair.end(), bob.device.pair.end()])
    expect(bob.seen.keys).toEqual(alice.seen.keys)
    expect(new Set(bob.seen.keys.map(({ hex }) => hex)).size).toBe(bob.seen.keys.length)
    expect(bob.seen.keys.map(({ id }) => id)).toEqual(bob.seen.keys.map((_, i) => BigInt(i + 1)))
    expect([...atAlice.failures, ...atBob.failures]).toEqual([])
    expect((await stat(bob.at.file)).mode & 0o777).toBe(0o600)
    const figures = bob.seen.events.flatMap((event) => (event.type === 'figure' ? [event.path.join('/')] : []))
    expect(new Set(figures)).toEqual(
      new Set(['Alignment/Visibility', 'ErrorCorrection/QBER', 'Key/Key size', 'Key/Line length', 'Key/Key Rate']),
    )
    const said = [...alice.lines, ...bob.lines].join('')
    for (const { hex } of alice.seen.keys) expect(said).not.toContain(hex)
    expect(bob.device.state.value.state).toBe('identified')
  })

  it('makes different keys where the two ends were given different initial keys', async () => {
    await bob.device.pair.prepare(sessionWith(peerOf({}), INITIAL))
    await alice.device.pair.prepare(
      sessionWith(
        peerOf(bob.device.pair.services),
        INITIAL.map((byte) => byte ^ 1),
      ),
    )
    bob.device.pair.start('byId')
    alice.device.pair.start('byId')
    await bob.seen.untilKeys(2)
    expect(bob.seen.keys[0]?.id).toBe(alice.seen.keys[0]?.id)
    expect(bob.seen.keys[0]?.hex).not.toBe(alice.seen.keys[0]?.hex)
  })

  it('starts the program again when it ends, and goes on', async () => {
    await bob.device.pair.prepare(sessionWith(peerOf({}), INITIAL))
    await alice.device.pair.prepare(sessionWith(peerOf(bob.device.pair.services), INITIAL))
    bob.device.pair.start('byId')
    alice.device.pair.start('byId')
    await bob.seen.untilKeys(2)
    alice.program.host?.fault('exit', ['3'])
    const before = alice.seen.keys.length
    await alice.seen.untilKeys(before + 2)
    expect(alice.program.starts).toHaveLength(2)
    expect(alice.lines.join('')).toContain('starting it again')
  })
})

describe('a Clavis2 Bob', () => {
  let bob: End
  const services = (): PairServices => bob.device.pair.services

  async function begin(
    ordering: 'byId' | 'byArrival',
    options: Record<string, string> = {},
  ): Promise<ReturnType<typeof sessionWith>> {
    bob = await End.create('bob', options)
    const session = sessionWith(peerOf({}), INITIAL)
    const ready = new Promise<void>((resolve) => {
      bob.device.subscribe((event) => (event.type === 'figure' && event.path[1] === 'Key Rate' ? resolve() : undefined))
    })
    await bob.device.pair.prepare(session)
    bob.device.pair.start(ordering)
    await ready
    return session
  }
  afterEach(() => bob.close())

  it('takes each id once although upstream repeats all earlier ids with each message', async () => {
    const session = await begin('byArrival')
    await services().useKeyIds?.(batches([1n], [1n, 2n], [1n, 2n]), never)
    expect(bob.seen.keys.map(({ id }) => id)).toEqual([1n, 2n])
    expect(bob.device.facts()).toMatchObject({ idsUsed: 2, idsRepeated: 3 })
    expect(session.failures).toEqual([])
  })

  it('never gives an empty key out: a key that his unit lacks ends the session and is named', async () => {
    const session = await begin('byArrival')
    bob.program.host?.fault('lose', ['2'])
    await expect(services().useKeyIds?.(batches([1n, 2n]), never)).rejects.toMatchObject({ status: 'notFound' })
    expect(session.failures[0]).toMatchObject({ code: 'E_LINK_MISMATCH' })
    expect(session.failures[0]?.message).toContain('key 2')
    expect(bob.seen.keys.map(({ id }) => id)).toEqual([1n])
  })

  it('only drops such a key where the gateways agree by id', async () => {
    const session = await begin('byId')
    bob.program.host?.fault('lose', ['1'])
    await services().useKeyIds?.(batches([1n, 2n]), never)
    expect(bob.seen.events).toContainEqual({ type: 'discarded', reason: 'invalid', count: 1, id: 1n })
    expect(bob.seen.keys.map(({ id }) => id)).toEqual([2n])
    expect(session.failures).toEqual([])
  })

  it('refuses key 0, a second stream, and ids without a session', async () => {
    await begin('byId')
    await expect(services().useKeyIds?.(batches([0n]), never)).rejects.toMatchObject({ status: 'invalidArgument' })
    let release: () => void = () => {}
    async function* held(): AsyncGenerator<readonly bigint[]> {
      yield [1n]
      await new Promise<void>((resolve) => (release = resolve))
    }
    const first = services().useKeyIds?.(held(), never)
    await bob.seen.untilKeys(1)
    await expect(services().useKeyIds?.(batches([2n]), never)).rejects.toMatchObject({ status: 'failedPrecondition' })
    release()
    await first
    await bob.device.pair.end()
    await expect(services().useKeyIds?.(batches([3n]), never)).rejects.toThrow('no session is running')
  })

  /** A key that CQPToolkit's wrapper writes with one digit less. */
  const SHORT = Uint8Array.from(INITIAL).fill(5, 3, 4)

  it.each([
    ['before the session is agreed on', true],
    ['after', false],
  ])(
    "ends a session in which CQPToolkit's wrapper would begin with another key, whose key comes %s",
    async (_when, early) => {
      bob = await End.create('bob')
      const session = sessionWith(peerOf({}), SHORT)
      let give: (key: Uint8Array) => void = () => {}
      if (!early) session.initialKey = () => new Promise((resolve) => (give = resolve))
      const failed = new Promise<Error>((resolve) => (session.fail = resolve))
      await bob.device.pair.prepare(session)
      if (early) while (bob.program.starts.length === 0) await new Promise((resolve) => setImmediate(resolve))
      bob.device.pair.start('byArrival')
      give(Uint8Array.from(SHORT))
      expect(await failed).toMatchObject({ code: 'E_LINK_MISMATCH' })
      expect(bob.program.starts).toHaveLength(early ? 1 : 0)
      expect(await readFile(bob.at.file, 'utf8')).toMatch(/^initial_secret_key = [0-9A-F]{64}$/m)
    },
  )

  it.each([
    ['upstream', 63],
    ['full', 64],
  ] as const)('writes such a key as it is told to: %s', async (spelling, digits) => {
    bob = await End.create('bob', { 'key-spelling': spelling })
    const session = sessionWith(peerOf({}), SHORT)
    await bob.device.pair.prepare(session)
    while (bob.program.starts.length === 0) await new Promise((resolve) => setImmediate(resolve))
    bob.device.pair.start('byArrival')
    expect(keyDigits(await readFile(bob.at.file))).toHaveLength(digits)
    expect(session.failures).toEqual([])
    expect(bob.lines.join('')).toMatch(
      spelling === 'full' ? /written in full, as was asked for/ : /without leading zeros/,
    )
  })

  it('thinks nothing of it where the peer is a gateway', async () => {
    bob = await End.create('bob')
    const session = sessionWith(peerOf({}), SHORT)
    await bob.device.pair.prepare(session)
    bob.device.pair.start('byId')
    while (bob.program.starts.length === 0) await new Promise((resolve) => setImmediate(resolve))
    expect(session.failures).toEqual([])
  })
})

describe('a Clavis2 Alice', () => {
  let alice: End
  afterEach(() => alice.close())

  /** A peer whose UseKeyID answers as told. */
  function peer(send: (ids: readonly bigint[]) => Promise<void>, end = async (): Promise<void> => {}): PairPeer {
    return { ...peerOf({}), useKeyIds: () => ({ send, end }) }
  }

  it('ends the session where Bob cannot be told of a key, and does not give that key out', async () => {
    alice = await End.create('alice')
    const told: bigint[] = []
    const session = sessionWith(
      peer(async (ids) => {
        if (told.length === 1) throw new PairCallError('unavailable', 'cut')
        told.push(...ids)
      }),
      INITIAL,
    )
    const failed = new Promise<void>(
      (resolve) => (session.fail = (error) => void (session.failures.push(error), resolve())),
    )
    await alice.device.pair.prepare(session)
    alice.device.pair.start('byArrival')
    await failed
    expect(session.failures[0]).toMatchObject({ code: 'E_PEER_UNREACHABLE' })
    expect(alice.seen.keys.map(({ id }) => id)).toEqual([1n])
    expect(told).toEqual([1n])
  })

  it('ends the stream of ids when she is asked to quiesce, and makes no more keys', async () => {
    alice = await End.create('alice')
    let over = false
    await alice.device.pair.prepare(
      sessionWith(
        peer(
          async () => {},
          async () => void (over = true),
        ),
        INITIAL,
      ),
    )
    alice.device.pair.start('byId')
    await alice.seen.untilKeys(3)
    await alice.device.pair.quiesce()
    expect(over).toBe(true)
    const count = alice.seen.keys.length
    await new Promise((resolve) => setTimeout(resolve, 60))
    expect(alice.seen.keys).toHaveLength(count)
  })

  it('tells Bob of a key before her own site gets it', async () => {
    alice = await End.create('alice')
    const order: string[] = []
    alice.device.subscribe((event) => (event.type === 'key' ? order.push(`key ${event.id}`) : undefined))
    await alice.device.pair.prepare(
      sessionWith(
        peer(async ([id]) => void order.push(`told ${id}`)),
        INITIAL,
      ),
    )
    alice.device.pair.start('byArrival')
    await alice.seen.untilKeys(2)
    expect(order.slice(0, 4)).toEqual(['told 1', 'key 1', 'told 2', 'key 2'])
  })

  it('fails a session whose initial key has the wrong length', async () => {
    alice = await End.create('alice')
    const session = sessionWith(
      peer(async () => {}),
      new Uint8Array(25),
    )
    const failed = new Promise<Error>((resolve) => (session.fail = resolve))
    await alice.device.pair.prepare(session)
    alice.device.pair.start('byArrival')
    expect(await failed).toMatchObject({ code: 'E_CONFIG' })
  })

  it('gives a session up whose program ends again and again', async () => {
    // The pauses between the starts, a twentieth of their length.
    const hasty: Clock = { ...systemClock, after: (delayMs, fn) => systemClock.after(delayMs / 20, fn) }
    alice = await End.create('alice', {}, hasty)
    const session = sessionWith(
      peer(async () => {}),
      INITIAL,
    )
    const failed = new Promise<Error>((resolve) => (session.fail = resolve))
    await alice.device.pair.prepare(session)
    const exits = setInterval(() => alice.program.exit(1), 5)
    alice.device.pair.start('byArrival')
    expect(await failed).toMatchObject({ code: 'E_DEVICE_IO' })
    clearInterval(exits)
    expect(alice.program.starts).toHaveLength(5)
  }, 30_000)
})

describe('a Clavis2 device', () => {
  it('says that the program is missing, refuses sessions until it is there, and stops', async () => {
    const at = await installation()
    const { system } = new ProgramInProcess(at)
    const device = createClavis2Driver(system).create(
      contextFor('bob', systemClock, { ...at.options, program: `${at.folder}/elsewhere/QKDSequence` }),
    )
    if (!isPairDevice(device)) throw new Error('no pair device')
    const missing = new Promise<string>((resolve) => {
      device.state.subscribe((state) => (state.state === 'absent' ? resolve(state.reason) : undefined))
    })
    const stop = new AbortController()
    const running = device.run(stop.signal)
    expect(await missing).toContain('elsewhere/QKDSequence cannot be run')
    await expect(device.pair.prepare(sessionWith(peerOf({}), INITIAL))).rejects.toMatchObject({
      code: 'E_DEVICE_ABSENT',
    })
    stop.abort()
    await running
    expect(device.state.value.state).toBe('stopped')
    await at.remove()
  })

  it('names a wrong option', () => {
    const create = (options: Record<string, string>): unknown =>
      createClavis2Driver(new ProgramInProcess({} as Installation).system).create(
        contextFor('bob', systemClock, options),
      )
    expect(() => create({ 'device-id': '13' })).toThrow('device-id: must be from 1 to 12')
    expect(() => create({ 'key-bytes': '33' })).toThrow('key-bytes')
  })
})
