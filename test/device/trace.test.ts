import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, expect, it } from 'vitest'
import fc from 'fast-check'
import { systemClock } from '../../src/base/clock.js'
import { systemRandom } from '../../src/base/random.js'
import { pieceJson, pieceRows } from '../../src/cli/trace-view.js'
import { plainDecoder } from '../../src/device/trace-contract.js'
import type { DeviceLine } from '../../src/io/contract.js'
import { openPtyLine } from '../../src/io/pty.js'
import { encodeFrame } from '../../drivers/qix/protocol.js'
import { trace } from '../../drivers/qix/trace.js'
import { runCommand, type CommandProcess } from './processes.js'

const folder = mkdtempSync(join(tmpdir(), 'qkd-gw-trace-'))
afterAll(() => rmSync(folder, { recursive: true }))
const cleanups: (() => unknown)[] = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
})

const key = Uint8Array.from({ length: 32 }, (_, index) => 0xc0 + index)
const frame = (id: number): Uint8Array => encodeFrame({ id: BigInt(id), key, status: 1 })
const hexOf = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')

it('every byte comes out of the decoder exactly once, whatever came and however it was cut', () => {
  const piece = fc.oneof(
    fc.nat(1_000).map(frame),
    fc.uint8Array({ maxLength: 70 }),
    fc.constant(frame(1).subarray(0, 20)),
  )
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 8 }), (chunks) => {
      const decoder = trace.createDecoder()
      const pieces = [...chunks.flatMap((chunk) => decoder.push('rx', Uint8Array.from(chunk))), ...decoder.flush()]
      const out = pieces.flatMap(({ parts }) => parts.flatMap(({ bytes }) => [...bytes]))
      expect(out).toEqual(chunks.flatMap((chunk) => [...chunk]))
    }),
  )
})

it('shows ids and states of frames, and neither the key nor the checksum that gives part of it away', () => {
  const decoder = trace.createDecoder()
  const [piece] = decoder.push('rx', frame(17))
  if (piece === undefined) throw new Error('no piece')
  const rows = pieceRows(1_250_000, 'rx', piece, false)
  expect(rows.split('\n')[0]).toBe(
    '    1.250000 <  5a a5 00 00 00 00 00 00 00 11 ·· ·· ·· ·· ·· ··  Z.........······  frame 17, ok',
  )
  const json = pieceJson(1_250_000, 'rx', piece, false)
  for (const byte of key) expect(rows).not.toContain(byte.toString(16))
  expect(json).toContain(`"hex":"5aa50000000000000011${'..'.repeat(32)}01${'..'.repeat(4)}"`)
  expect(pieceJson(0, 'rx', piece, true)).toContain(hexOf(key))
})

it('shows stray text and hides every other byte that it does not understand', () => {
  const decoder = trace.createDecoder()
  const pieces = [
    ...decoder.push('rx', frame(1).subarray(12)),
    ...decoder.push('rx', frame(2)),
    ...decoder.push('rx', Buffer.from('AT+GCAP\r')),
    ...decoder.push('rx', frame(3)),
  ]
  expect(pieces.map(({ label, parts }) => [label, parts.some(({ secret }) => secret)])).toEqual([
    ['no frame', true],
    ['frame 2, ok', true],
    ['no frame', false],
    ['frame 3, ok', true],
  ])
  expect(plainDecoder().push('rx', key)[0]?.parts[0]?.secret).toBe(true)
})

async function line(): Promise<DeviceLine> {
  const made = await openPtyLine({ clock: systemClock, random: systemRandom })
  cleanups.push(() => made.close())
  return made
}

function command(...args: string[]): CommandProcess {
  const process = runCommand(args)
  cleanups.push(() => process.child.kill('SIGKILL'))
  return process
}

const labelled = (label: string) => (item: Record<string, unknown>) => item['label'] === label
const noted = (text: RegExp) => (item: Record<string, unknown>) => text.test(String(item['text']))

it('traces a live line, and records it without its keys unless asked for by name', async () => {
  const device = await line()
  const file = join(folder, 'masked')
  const live = command('trace', device.path, '--driver', 'qix', '--json', '--record', file)
  await live.next(noted(/^open .* at 9600 baud$/))
  await device.send(frame(5))
  expect(await live.next(labelled('frame 5, ok'))).toMatchObject({ direction: 'rx', bytes: 47 })
  live.child.kill('SIGTERM')
  expect(await live.ended).toBe(0)
  expect(statSync(file).mode & 0o777).toBe(0o600)
  expect(readFileSync(file, 'utf8')).not.toContain(hexOf(key.subarray(0, 4)))
  expect(live.output()).not.toContain(hexOf(key.subarray(0, 4)))
  const shown = command('trace', '--replay', file, '--json')
  await shown.next(noted(/key bytes replaced by zeros/))
  await shown.next(noted(/^frame 5, ok$/))
  expect(await shown.next(labelled('47 bytes'))).toMatchObject({ direction: 'rx' })
})

it('plays a full recording again on a pseudo-terminal, byte for byte', async () => {
  const device = await line()
  const file = join(folder, 'full')
  const live = command('trace', device.path, '--driver', 'qix', '--json', '--record', file, '--show-keys')
  await live.next(noted(/^open/))
  for (const id of [1, 2, 3]) await device.send(frame(id))
  await live.next(labelled('frame 3, ok'))
  live.child.kill('SIGTERM')
  await live.ended
  expect(readFileSync(file, 'utf8')).toContain(hexOf(key))
  const player = command('trace', '--replay', file, '--play', '--json')
  const { path } = await player.next(({ event }) => event === 'ready')
  const again = command('trace', String(path), '--driver', 'qix', '--json', '--show-keys')
  await again.next(noted(/^open/))
  expect(await again.next(labelled('frame 3, ok'))).toMatchObject({ hex: hexOf(frame(3)) })
})

it('speaks to a device that says nothing by itself, through its driver, unless it is only to listen', async () => {
  const emulated = command('emulate', 'tdc1', '--json')
  const { path } = await emulated.next(({ event }) => event === 'ready')
  const live = command('trace', String(path), '--driver', 'tdc1', '--json')
  const received = ({ direction }: Record<string, unknown>): boolean => direction === 'rx'
  const records = ({ label }: Record<string, unknown>): boolean => / records, /.test(String(label))
  expect(await live.next(labelled('command'))).toMatchObject({ direction: 'tx' })
  expect(await live.next(received)).toMatchObject({ label: 'answer' })
  await live.next(records)
  // Unplugged while it tagged: what it answers when it is back is none of its records.
  emulated.child.stdin.write('unplug 100 now\n')
  await live.next(noted(/^unplugged/))
  await live.next(noted(/^open/))
  expect(await live.next(received)).toMatchObject({ label: 'answer' })
  await live.next(records)
  live.child.kill('SIGTERM')
  expect(await live.ended).toBe(0)
  const quiet = command('trace', String(path), '--driver', 'tdc1', '--json', '--listen')
  await quiet.next(noted(/^open/))
  quiet.child.kill('SIGTERM')
  expect(await quiet.ended).toBe(0)
  expect(quiet.output()).not.toContain('"tx"')
})

it('names who holds the port, and refuses a call that names nothing', async () => {
  const device = await line()
  const first = command('trace', device.path, '--driver', 'qix', '--json')
  await first.next(noted(/^open/))
  const second = command('trace', device.path, '--driver', 'qix')
  expect(await second.ended).not.toBe(0)
  expect(second.errors()).toContain(`(pid ${first.child.pid})`)
  const nothing = command('trace')
  expect(await nothing.ended).toBe(2)
})
