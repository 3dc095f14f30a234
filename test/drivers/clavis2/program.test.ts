import { createSocket } from 'node:dgram'
import { createRequire } from 'node:module'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { driver } from '../../../drivers/clavis2/driver.js'
import { systemClock } from '../../../src/base/clock.js'
import { isPairDevice, type PairDevice } from '../../../src/device/pair-contract.js'
import { contextFor, peerOf, record, sessionWith } from '../support/pair.js'
import { freeUdpPort, type Installation, installation } from './support.js'

const PROGRAM = fileURLToPath(new URL('../../../drivers/clavis2/emulator-program.ts', import.meta.url))
const TSX = createRequire(import.meta.url).resolve('tsx')

/** A shell script that is the host program for the driver: the emulator as a process of its own. */
function script(folder: string, port: number, control: number): string {
  return [
    '#!/bin/sh',
    `export CLAVIS2_EMULATOR_FILE=${folder}/vectis.conf CLAVIS2_EMULATOR_PORT=${port}`,
    `export CLAVIS2_EMULATOR_CONTROL=${control} CLAVIS2_EMULATOR_ROUND_MS=100`,
    `exec ${process.execPath} --import ${TSX} ${PROGRAM} "$@"`,
    '',
  ].join('\n')
}

function command(port: number, text: string): Promise<string> {
  return new Promise((resolve) => {
    const socket = createSocket('udp4')
    socket.on('message', (message) => {
      socket.close()
      resolve(message.toString())
    })
    socket.send(text, port, '127.0.0.1')
  })
}

describe('the driver with a host program of its own process', () => {
  const ends: {
    device: PairDevice
    at: Installation
    control: number
    stop: AbortController
    running: Promise<void>
  }[] = []

  beforeEach(async () => {
    const { writeFile } = await import('node:fs/promises')
    for (const side of ['alice', 'bob'] as const) {
      const at = await installation()
      const control = await freeUdpPort()
      await writeFile(at.program, script(at.folder, at.port, control), { mode: 0o755 })
      const device = driver.create(contextFor(side, systemClock, at.options, side === 'alice' ? 5 : 6))
      if (!isPairDevice(device)) throw new Error('no pair device')
      const stop = new AbortController()
      const identified = new Promise<void>((resolve) => {
        device.state.subscribe(({ state }) => (state === 'identified' ? resolve() : undefined))
      })
      ends.push({ device, at, control, stop, running: device.run(stop.signal) })
      await identified
    }
  })
  afterEach(async () => {
    for (const { at, stop, running } of ends.splice(0)) {
      stop.abort()
      await running
      await at.remove()
    }
  })

  it('makes the same keys at both ends, and lives through lost, damaged and foreign answers and an ending program', async () => {
    const [alice, bob] = ends
    if (alice === undefined || bob === undefined) throw new Error('two ends')
    const initial = Uint8Array.from({ length: 32 }, (_, i) => 0xa5 ^ (7 * i))
    const [heardAlice, heardBob] = [record(alice.device), record(bob.device)]
    const [atAlice, atBob] = [
      sessionWith(peerOf(bob.device.pair.services), initial),
      sessionWith(peerOf(alice.device.pair.services), initial),
    ]
    await bob.device.pair.prepare(atBob)
    await alice.device.pair.prepare(atAlice)
    bob.device.pair.start('byId')
    alice.device.pair.start('byId')
    await heardBob.untilKeys(4)
    expect(await command(alice.control, 'drop 1')).toContain('drop')
    expect(await command(bob.control, 'corrupt 2')).toContain('corrupt')
    expect(await command(alice.control, 'foreign 2')).toContain('foreign')
    expect(await command(bob.control, 'garbage 20')).toContain('20 lines')
    expect(await command(bob.control, 'no-such-fault')).toContain('there is no fault')
    await heardBob.untilKeys(heardBob.keys.length + 8)
    await command(alice.control, 'exit 9')
    const { length } = heardAlice.keys
    await heardAlice.untilKeys(length + 1)
    await alice.device.pair.quiesce()
    await bob.device.pair.quiesce()
    await Promise.all([alice.device.pair.end(), bob.device.pair.end()])
    const atAliceById = new Map(heardAlice.keys.map(({ id, hex }) => [id, hex]))
    for (const { id, hex } of heardBob.keys) expect(atAliceById.get(id)).toBe(hex)
    expect(heardBob.keys.length).toBeGreaterThanOrEqual(12)
    expect([...atAlice.failures, ...atBob.failures]).toEqual([])
    expect(alice.device.facts()).toMatchObject({ inSession: false })
  })
})
