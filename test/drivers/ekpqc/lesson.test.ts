import pino from 'pino'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { driver } from '../../../drivers/ekpqc/driver.js'
import { emulator } from '../../../drivers/ekpqc/emulator.js'
import { systemClock } from '../../../src/base/clock.js'
import { createMemoryLines } from '../../../src/io/memory-line.js'
import { silentLogger } from '../../../src/observe/log.js'
import { type FrameAnswers, isPairDevice, type PairDevice } from '../../../src/device/pair-contract.js'
import { type Attached, attach, untilDevice } from '../support/attached.js'
import { peerOf, record, seededRandom, sessionWith } from '../support/pair.js'

let fibres = 0
/** Tests of other processes use the same machine. */
const newFibre = (): string => `test-${process.pid}-${(fibres += 1)}`

const lines = createMemoryLines()

/** One emulated board and a port at the other end of its cable. */
interface Board {
  fault(name: string, args: readonly string[]): Promise<string>
  facts(): Readonly<Record<string, string | number | boolean>>
  say(text: string): Promise<void>
  /** Waits until the board has said `text`; resolves with all since the last time. */
  hears(text: string): Promise<string>
  stop(): Promise<void>
}

interface End extends Attached {
  pair: PairDevice
  lines: string[]
}

async function end(
  side: 'alice' | 'bob',
  fibre: string,
  pty: boolean,
  options: Record<string, string>,
  speed = '200',
): Promise<End> {
  const lines: string[] = []
  const attached = await attach({
    driver,
    emulator,
    side,
    pty,
    driverOptions: { speed: '200', 'key-bytes': '1', 'runs-per-key': '2', ...options },
    emulatorOptions: { speed, fibre },
    seed: side === 'alice' ? 11 : 12,
    log: pino({ level: 'info' }, { write: (line: string) => void lines.push(line) }),
  })
  if (!isPairDevice(attached.device)) throw new Error('no pair device')
  await untilDevice(attached.device.state, 'identified')
  return { ...attached, pair: attached.device, lines }
}

/** An emulated board without a driver. */
async function startBoard(options: Record<string, string>): Promise<Board> {
  const line = lines.create(`board-${(fibres += 1)}`)
  const board = emulator.create({ line, options, clock: systemClock, random: seededRandom(5), log: silentLogger })
  const ending = new AbortController()
  const running = board.run(ending.signal)
  const port = await lines.openSerial(line.path, { baudRate: emulator.baudRate }, ending.signal)
  let heard = ''
  let changed: () => void = () => {}
  port.onData((chunk) => {
    heard += Buffer.from(chunk).toString('latin1')
    changed()
  })
  return {
    fault: (name, args) => board.fault(name, args),
    facts: () => board.facts(),
    say: (text) => port.write(Buffer.from(text, 'latin1'), 1_000, ending.signal),
    async hears(text) {
      while (!heard.includes(text)) await new Promise<void>((resolve) => (changed = resolve))
      const found = heard
      heard = ''
      return found
    },
    async stop() {
      ending.abort()
      await running
    },
  }
}

describe('the other boards of the kit, emulated', () => {
  it('carry four bytes by infrared, printed without a leading zero, and stop listening at #', async () => {
    const air = newFibre()
    const unused = { line: lines.create(`board-${(fibres += 1)}`), clock: systemClock, random: seededRandom(5) }
    const options = { board: 'classical', air }
    const board = emulator.create({ ...unused, log: silentLogger, options })
    // No driver is for it.
    expect(board).toMatchObject({ attachable: false })
    await board.run(AbortSignal.abort())
    const [a, b] = await Promise.all([startBoard({ board: 'classical', air }), startBoard({ board: 'classical', air })])
    await a.say('*IDN? ')
    expect(await a.hears('\n')).toBe('Classical\r\n')
    await b.say('RECV ')
    // It says nothing when it begins to listen.
    while (!(b.facts()['listening'] === true)) await new Promise((resolve) => setImmediate(resolve))
    await a.say('SEND \x07\x07\x07A')
    expect(await b.hears('7070741')).toBe('7070741')
    await b.say('recv ')
    while (!(b.facts()['listening'] === true)) await new Promise((resolve) => setImmediate(resolve))
    await b.say('#')
    expect(await b.hears('\n')).toBe('Listening interrupted!\r\n')
    await b.say('NONSENSE ')
    expect(await b.hears('\n')).toBe('Unknown command\n')
    await Promise.all([a.stop(), b.stop()])
  })

  it("are Eve's with two voltages and two motors", async () => {
    const eve = await startBoard({ board: 'eve', fibre: newFibre(), onward: newFibre(), speed: '1000' })
    await eve.say('*IDN? ')
    expect(await eve.hears('\n')).toBe('QuantumEve\r\n')
    await eve.say('SETPOL1 2 ')
    expect(await eve.hears('\n')).toBe('OK\r\n')
    await eve.say('VOLTS? ')
    expect(await eve.hears('0.000\r\n0.000\r\n')).toBe('0.000\r\n0.000\r\n')
    await eve.stop()
  })

  it('refuse a fibre of no name and an Eve that stands nowhere', async () => {
    await expect(startBoard({ board: 'eve', fibre: 'a', onward: 'a' })).rejects.toThrow(/both a/)
    const line = lines.create(`board-${(fibres += 1)}`)
    const context = { line, clock: systemClock, random: seededRandom(5), log: silentLogger }
    const board = emulator.create({ ...context, options: { fibre: '../elsewhere' } })
    expect(board).toMatchObject({ attachable: true })
    await expect(board.run(new AbortController().signal)).rejects.toMatchObject({ code: 'E_USAGE' })
  })
})

describe.each([
  ['in memory', false],
  ['on real ttys', true],
] as const)('a BB84 lesson on two boards %s', (_name, pty) => {
  let alice: End
  let bob: End
  let failures: () => Error[]

  beforeEach(async () => {
    const fibre = newFibre()
    ;[alice, bob] = await Promise.all([end('alice', fibre, pty, { 'show-bits': 'on' }), end('bob', fibre, pty, {})])
  })
  afterEach(async () => {
    await Promise.all([alice.stop(), bob.stop()])
  })

  async function begin(): Promise<void> {
    const atAlice = sessionWith(peerOf(bob.pair.pair.services))
    const atBob = sessionWith(peerOf(alice.pair.pair.services))
    failures = () => [...atAlice.failures, ...atBob.failures]
    await bob.pair.pair.prepare(atBob)
    await alice.pair.pair.prepare(atAlice)
    bob.pair.pair.start('byId')
    alice.pair.pair.start('byId')
  }

  it('gives both ends the same keys, step by step', async () => {
    const [atAlice, atBob] = [record(alice.pair), record(bob.pair)]
    await begin()
    await Promise.all([atAlice.untilKeys(3), atBob.untilKeys(3)])
    expect(atBob.keys.slice(0, 3)).toEqual(atAlice.keys.slice(0, 3))
    expect(bob.pair.state.value.state).toBe('producing')
    const told = alice.lines.join('')
    expect(told).toContain('BB84 with 16 pulses (demonstrator, not secure)')
    expect(told).toMatch(/Alice sends {4,}[HDVA]/)
    expect(bob.lines.join('')).toMatch(/for the key[ *]+"/)
    for (const step of [1, 2, 3, 4, 5]) {
      expect(told).toContain(`run 0, step ${step} of 5`)
      expect(bob.lines.join('')).toContain(`run 0, step ${step} of 5`)
    }
    expect(told).toMatch(/QBER so far 0\.0 %/)
    for (const end of [alice, bob])
      expect(end.lines.join('')).toMatch(
        /window \d+: \d+ bits of 2 runs, key of 8 bits made .*demonstrator, not secure/,
      )
    expect(failures()).toEqual([])
    await Promise.all([alice.pair.pair.quiesce(), bob.pair.pair.quiesce()])
    await Promise.all([alice.pair.pair.end(), bob.pair.pair.end()])
    expect(bob.pair.state.value.state).toBe('identified')
  })
})

describe('a BB84 lesson with Eve between the two boards', () => {
  async function lesson(fault?: string): Promise<{ qber: number; compared: number; keys: number; told: string }> {
    const [fibre, onward] = [newFibre(), newFibre()]
    const eve = await startBoard({ board: 'eve', fibre, onward, speed: '1000' })
    if (fault !== undefined) await eve.fault(fault, [])
    const options = { speed: '1000', 'compare-percent': '90', 'key-bytes': '1', 'runs-per-key': '8' }
    const [alice, bob] = await Promise.all([
      end('alice', fibre, false, options, '1000'),
      end('bob', onward, false, options, '1000'),
    ])
    const [atAlice, atBob] = [record(alice.pair), record(bob.pair)]
    await bob.pair.pair.prepare(sessionWith(peerOf(alice.pair.pair.services)))
    await alice.pair.pair.prepare(sessionWith(peerOf(bob.pair.pair.services)))
    bob.pair.pair.start('byId')
    alice.pair.pair.start('byId')
    const enough = new Promise<void>((resolve) => {
      bob.pair.subscribe(() => (Number(bob.pair.facts()['bitsCompared']) >= 300 ? resolve() : undefined))
    })
    await enough
    const { bitsCompared, bitsDiffering } = bob.pair.facts()
    await Promise.all([alice.stop(), bob.stop(), eve.stop()])
    for (const { id, hex } of atBob.keys)
      expect(new Map(atAlice.keys.map((key) => [key.id, key.hex])).get(id)).toBe(hex)
    const compared = Number(bitsCompared)
    return {
      compared,
      qber: Number(bitsDiffering) / compared,
      keys: atAlice.keys.length + atBob.keys.length,
      told: bob.lines.join(''),
    }
  }

  it('shows a QBER near a quarter, says what that means, and makes no key', async () => {
    const { qber, keys, told } = await lesson()
    // 300 bits with an error chance of 1/4: five standard deviations on either side.
    expect(qber).toBeGreaterThan(0.12)
    expect(qber).toBeLessThan(0.38)
    expect(keys).toBe(0)
    expect(told).toContain('somebody measures and resends the pulses')
  }, 60_000)

  it('shows none where she only lets the light pass', async () => {
    const { qber, told } = await lesson('pass')
    expect(qber).toBe(0)
    expect(told).not.toContain('measures and resends')
  }, 60_000)
})

describe("Alice's board", () => {
  it('has her run at hand when Bob asks about it before his answer that the run is over', async () => {
    const alice = await end('alice', newFibre(), false, {})
    const asked = new Promise<readonly FrameAnswers[]>((resolve, reject) => {
      const session = sessionWith(
        peerOf({
          startDetecting: async () => {},
          stopDetecting: async () => {
            const frames = [{ frameId: 0n, bases: new Uint8Array(16) }]
            const answer = alice.pair.pair.services.verifyBases?.(frames, new AbortController().signal)
            await answer?.then(resolve, reject)
          },
        }),
      )
      void alice.pair.pair.prepare(session).then(() => alice.pair.pair.start('byId'))
    })
    expect((await asked)[0]).toMatchObject({ frameId: 0n })
    await alice.stop()
  })
})

describe('a BB84 lesson in which something goes wrong', () => {
  let alice: End
  let bob: End
  const failures: Error[] = []

  beforeEach(async () => {
    const fibre = newFibre()
    ;[alice, bob] = await Promise.all([end('alice', fibre, false, {}), end('bob', fibre, false, {})])
    failures.splice(0)
    const sessions = [
      sessionWith(peerOf(bob.pair.pair.services)),
      sessionWith(peerOf(alice.pair.pair.services)),
    ] as const
    for (const session of sessions) session.fail = (error) => void failures.push(error)
    await bob.pair.pair.prepare(sessions[1])
    await alice.pair.pair.prepare(sessions[0])
  })
  afterEach(async () => {
    await Promise.all([alice.stop(), bob.stop()])
  })

  const start = (): void => {
    bob.pair.pair.start('byId')
    alice.pair.pair.start('byId')
  }

  it('drops a run whose light did not come, resets the board and goes on with equal keys', async () => {
    const [atAlice, atBob] = [record(alice.pair), record(bob.pair)]
    await alice.emulator.fault('dark', [])
    // The emulator sees no DTR: opening anew does what its pulse does.
    const reopened = new Promise<void>((resolve) => {
      bob.pair.state.subscribe(({ state }) => {
        if (state !== 'opening') return
        void bob.emulator.fault('reset', []).then(() => resolve())
      })
    })
    start()
    await reopened
    await atBob.untilKeys(2)
    const byId = new Map(atAlice.keys.map(({ id, hex }) => [id, hex]))
    for (const { id, hex } of atBob.keys) expect(byId.get(id)).toBe(hex)
    expect(bob.lines.join('')).toContain('resetting the board')
    expect(failures).toEqual([])
  })

  it('survives a board that is unplugged and put back in the middle of a run', async () => {
    const atBob = record(bob.pair)
    const atAlice = record(alice.pair)
    start()
    await atBob.untilKeys(1)
    await alice.line.unplug()
    await untilDevice(alice.pair.state, 'absent')
    await alice.line.plug()
    await untilDevice(alice.pair.state, 'identified', 'producing')
    await bob.emulator.fault('reset', [])
    const before = atBob.keys.length
    await atBob.untilKeys(before + 2)
    const byId = new Map(atAlice.keys.map(({ id, hex }) => [id, hex]))
    for (const { id, hex } of atBob.keys) expect(byId.get(id) ?? hex).toBe(hex)
  })
})

describe('a board that says nothing', () => {
  it('is shown as silent, asked again and used once it answers', async () => {
    const lines: string[] = []
    const attached = await attach({
      driver,
      emulator,
      driverOptions: { speed: '200' },
      emulatorOptions: { speed: '200' },
      log: pino({ level: 'info' }, { write: (line: string) => void lines.push(line) }),
    })
    await attached.emulator.fault('hang', ['0'])
    const state = await untilDevice(attached.device.state, 'silent')
    expect(state).toMatchObject({ state: 'silent' })
    await attached.emulator.fault('resume', [])
    await untilDevice(attached.device.state, 'identified')
    await attached.stop()
  })
})

describe('the port of another board of the kit', () => {
  it('is not used: it is said which board it is and what to do', async () => {
    const attached = await attach({
      driver,
      emulator,
      driverOptions: { speed: '200' },
      emulatorOptions: { speed: '200', board: 'classical', air: newFibre() },
    })
    expect(await untilDevice(attached.device.state, 'silent')).toMatchObject({
      reason: expect.stringMatching(
        /the board says it is "Classical", not "Quantum" \(give the port of the kit's quantum board/,
      ) as string,
    })
    await attached.stop()
  })
})
