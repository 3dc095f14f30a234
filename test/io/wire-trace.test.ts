import fc from 'fast-check'
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, it } from 'vitest'
import { systemClock } from '../../src/base/clock.js'
import { createMemoryLines } from '../../src/io/memory-line.js'
import {
  createTraceFile,
  readTraceFile,
  replayTrace,
  tapSerial,
  type TraceItem,
  type TraceRecord,
} from '../../src/io/wire-trace.js'
import { hear, never } from './support.js'

const folder = mkdtempSync(join(tmpdir(), 'qkd-gw-trace-'))
afterAll(() => rmSync(folder, { recursive: true }))

async function itemsOf(file: string): Promise<TraceItem[]> {
  const items: TraceItem[] = []
  for await (const item of readTraceFile(file)) items.push(item)
  return items
}

const header = { startedUnixMs: 1_700_000_000_000, path: '/dev/ttyUSB0', driver: 'qix', masked: false }
const anyRecord: fc.Arbitrary<TraceRecord> = fc.oneof(
  fc.record({
    atUs: fc.nat(),
    direction: fc.constantFrom('rx' as const, 'tx' as const),
    bytes: fc.uint8Array({ maxLength: 100 }).map((bytes) => Uint8Array.from(bytes)),
  }),
  fc.record({ atUs: fc.nat(), direction: fc.constant('note' as const), text: fc.string() }),
)

it('gives back what was written, whatever it was, and only to its owner', async () => {
  let count = 0
  await fc.assert(
    fc.asyncProperty(fc.array(anyRecord, { maxLength: 20 }), async (records) => {
      const file = join(folder, `trace-${(count += 1)}`)
      const writer = await createTraceFile(file, header)
      for (const record of records) writer.write(record)
      await writer.close()
      expect(statSync(file).mode & 0o777).toBe(0o600)
      const [first, ...rest] = await itemsOf(file)
      expect(first).toEqual({ type: 'header', header })
      expect(rest).toEqual(records.map((record) => ({ type: 'record', record })))
    }),
    { numRuns: 30 },
  )
})

it('leaves an existing file alone', async () => {
  const file = join(folder, 'precious')
  writeFileSync(file, 'x')
  await expect(createTraceFile(file, header)).rejects.toMatchObject({ code: 'E_USAGE' })
})

it('names file and line of what is no trace', async () => {
  const file = join(folder, 'broken')
  const good = JSON.stringify({ format: 'qkd-gw wire trace', version: 1, ...header })
  for (const [content, line] of [
    ['', 1],
    ['hello\n', 1],
    ['{"format":"other"}\n', 1],
    [`${good}\n12 rx 5aa\n`, 2],
    [`${good}\n12 rx 5aa5\n-3 rx 00\n`, 3],
    [`${good}\n12 note unquoted\n`, 2],
  ] as const) {
    writeFileSync(file, content)
    await expect(itemsOf(file)).rejects.toMatchObject({
      code: 'E_FORMAT',
      message: expect.stringContaining(`broken, line ${line}:`) as string,
    })
  }
  await expect(itemsOf(join(folder, 'absent'))).rejects.toMatchObject({ code: 'E_USAGE' })
  await expect(itemsOf(folder)).rejects.toMatchObject({ code: 'E_USAGE' })
})

it('hears both directions of a port, and what it heard can be played again', async () => {
  const lines = createMemoryLines()
  const line = lines.create('unit')
  const records: TraceRecord[] = []
  const open = tapSerial(lines.openSerial, {
    bytes: (direction, bytes) => records.push({ atUs: records.length * 1_000, direction, bytes: bytes.slice() }),
    note: (text) => records.push({ atUs: records.length * 1_000, direction: 'note', text }),
  })
  const port = await open('memory:unit', { baudRate: 9_600 }, never)
  const heard = hear(port, 4)
  await line.send(Uint8Array.of(1, 2))
  await port.write(Uint8Array.of(7), 100)
  await line.send(Uint8Array.of(3, 4))
  await heard
  await port.close()
  expect(
    records.map((record) => (record.direction === 'note' ? record.text : [record.direction, ...record.bytes])),
  ).toEqual(['open memory:unit at 9600 baud', ['rx', 1, 2], ['tx', 7], ['rx', 3, 4], 'closed'])
  const again = lines.create('again')
  const replayed = await lines.openSerial('memory:again', { baudRate: 9_600 }, never)
  const bytes = hear(replayed, 4)
  const items = (async function* (): AsyncGenerator<TraceItem> {
    for (const record of records) yield { type: 'record', record }
  })()
  expect(await replayTrace(items, again, { clock: systemClock, speed: 1, signal: never })).toBe(4)
  expect(await bytes).toEqual(Uint8Array.of(1, 2, 3, 4))
})
