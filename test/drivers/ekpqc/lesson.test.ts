import pino from 'pino'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { driver } from '../../../drivers/ekpqc/driver.js'
import { emulator } from '../../../drivers/ekpqc/emulator.js'
import { isPairDevice, type PairDevice } from '../../../src/device/pair-contract.js'
import { type Attached, attach, untilDevice } from '../support/attached.js'
import { peerOf, record, sessionWith } from '../support/pair.js'

let fibres = 0

interface End extends Attached {
  pair: PairDevice
  lines: string[]
}

async function end(side: 'alice' | 'bob', fibre: string, pty: boolean, options: Record<string, string>): Promise<End> {
  const lines: string[] = []
  const attached = await attach({
    driver,
    emulator,
    side,
    pty,
    driverOptions: { speed: '200', 'key-bytes': '1', 'runs-per-key': '2', ...options },
    emulatorOptions: { speed: '200', fibre },
    seed: side === 'alice' ? 11 : 12,
    log: pino({ level: 'info' }, { write: (line: string) => void lines.push(line) }),
  })
  if (!isPairDevice(attached.device)) throw new Error('no pair device')
  await untilDevice(attached.device.state, 'identified')
  return { ...attached, pair: attached.device, lines }
}

describe.each([
  ['in memory', false],
  ['on real ttys', true],
] as const)('a BB84 lesson on two boards %s', (_name, pty) => {
  let alice: End
  let bob: End
  let failures: () => Error[]

  beforeEach(async () => {
    const fibre = `fibre${(fibres += 1)}`
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
    expect(bob.lines.join('')).toMatch(/sifted[ *]+"/)
    expect(failures()).toEqual([])
    await Promise.all([alice.pair.pair.quiesce(), bob.pair.pair.quiesce()])
    await Promise.all([alice.pair.pair.end(), bob.pair.pair.end()])
    expect(bob.pair.state.value.state).toBe('identified')
  })
})

describe('a BB84 lesson in which something goes wrong', () => {
  let alice: End
  let bob: End
  const failures: Error[] = []

  beforeEach(async () => {
    const fibre = `fibre${(fibres += 1)}`
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
