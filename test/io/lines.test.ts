import fc from 'fast-check'
import { existsSync, mkdtempSync, readlinkSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, expect, it } from 'vitest'
import { readAtOtherRate } from '../../src/io/line-rate.js'
import { createMemoryLines } from '../../src/io/memory-line.js'
import { closeOf, hear, never, ptyLine, realOpener } from './support.js'

const cleanups: (() => unknown)[] = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
})

it('keeps one name through unplugging and plugging in, and leaves nothing behind', async () => {
  const link = join(mkdtempSync(join(tmpdir(), 'qkd-gw-lines-')), 'unit')
  cleanups.push(() => rmSync(join(link, '..'), { recursive: true }))
  const line = await ptyLine(link)
  cleanups.push(() => line.close())
  const node = readlinkSync(link)
  await line.unplug()
  expect(existsSync(link)).toBe(false)
  expect(existsSync(node)).toBe(false)
  expect(await line.send(Uint8Array.of(1))).toBe(0)
  await line.plug()
  const port = await realOpener(link, { baudRate: 9_600 }, never)
  const heard = hear(port, 2)
  await line.send(Uint8Array.of(1, 2))
  expect(await heard).toEqual(Uint8Array.of(1, 2))
  await port.close()
  await line.close()
  expect(existsSync(link)).toBe(false)
})

it('does not overwrite a file that stands where its link should be', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'qkd-gw-lines-'))
  cleanups.push(() => rmSync(folder, { recursive: true }))
  writeFileSync(join(folder, 'unit'), 'precious')
  await expect(ptyLine(join(folder, 'unit'))).rejects.toMatchObject({ code: 'E_CONFIG' })
})

it('loses what nobody reads instead of stopping the device', async () => {
  const line = await ptyLine()
  cleanups.push(() => line.close())
  let sent = 0
  for (let round = 0; round < 20; round += 1) sent += await line.send(new Uint8Array(4_000))
  expect(sent).toBeGreaterThan(0)
  expect(sent).toBeLessThan(80_000)
})

it('joins driver and emulator in memory where there is no PTY', async () => {
  const lines = createMemoryLines()
  const line = lines.create('unit')
  const port = await lines.openSerial('memory:unit', { baudRate: 9_600 }, never)
  await expect(lines.openSerial('memory:unit', { baudRate: 9_600 }, never)).rejects.toMatchObject({
    code: 'E_DEVICE_BUSY',
  })
  const heard = hear(port, 3)
  await line.send(Uint8Array.of(1, 2, 3))
  expect(await heard).toEqual(Uint8Array.of(1, 2, 3))
  const back = hear(line, 1)
  await port.write(Uint8Array.of(9), 100)
  expect(await back).toEqual(Uint8Array.of(9))
  expect(await line.lineRate()).toBe(9_600)
  const presence: boolean[] = []
  lines.watch('memory:unit', (present) => presence.push(present))
  const closed = closeOf(port)
  await line.unplug()
  expect((await closed).cause).toBe('unplugged')
  await line.plug()
  expect(presence).toEqual([false, true])
  await line.close()
})

it('reads bytes unchanged at the rate at which they were sent, and as nonsense at any other usual rate', () => {
  const usual = [1_200, 2_400, 4_800, 9_600, 19_200, 38_400, 57_600, 115_200]
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 47, maxLength: 47 }), fc.constantFrom(...usual), (bytes, rate) => {
      const heard = readAtOtherRate(bytes, 9_600, rate)
      if (rate === 9_600) expect(heard).toEqual(bytes)
      else expect(heard).not.toEqual(bytes)
    }),
  )
  // Nine low bits are eighteen at twice the rate: a zero byte, whatever comes after.
  expect(readAtOtherRate(Uint8Array.of(0x00), 9_600, 19_200)[0]).toBe(0x00)
})
