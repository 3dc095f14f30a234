/**
 * The long forms of the QIX tests: a unit unplugged and plugged in a thousand times in mid-frame, and a million inputs
 * for the codec. `node --import tsx test/nightly/qix.ts [rounds] [inputs]`; exit code 0 when all held.
 */
import { randomBytes, randomInt } from 'node:crypto'
import { readdirSync } from 'node:fs'
import { encodeFrame, FRAME_BYTES, QixDecoder } from '../../drivers/qix/protocol.js'
import { bench, stateOf } from '../drivers/qix/support.js'

const [rounds = 1_000, inputs = 1_000_000] = process.argv.slice(2).map(Number)

function check(holds: boolean, what: string): void {
  if (!holds) throw new Error(what)
}

const openDescriptors = (): number => readdirSync('/proc/self/fd').length

async function unplugAndReplug(): Promise<void> {
  const made = await bench({ rate: '200' })
  const { ear, unit, device } = made
  await ear.untilKeys(1)
  const before = openDescriptors()
  let slowestMs = 0
  for (let round = 0; round < rounds; round += 1) {
    await unit.fault('unplug', ['10'])
    await stateOf(device.state, ({ state }) => state === 'absent')
    const since = performance.now()
    await stateOf(device.state, ({ state }) => state === 'producing')
    slowestMs = Math.max(slowestMs, performance.now() - since)
    for (const key of ear.events.splice(0)) if (key.type === 'key') key.key.fill(0)
  }
  check(device.facts()['losses'] === rounds, `${String(device.facts()['losses'])} losses in ${rounds} rounds`)
  check(openDescriptors() <= before + 2, `${before} descriptors became ${openDescriptors()}`)
  check(slowestMs < 2_000, `one replug took ${Math.round(slowestMs)} ms`)
  await made.stop()
  process.stdout.write(`${rounds} times unplugged and back, at most ${Math.round(slowestMs)} ms\n`)
}

/** Random bytes, frames, halves of frames and sync bytes, cut anywhere: never an error, never growth, no frame lost. */
function fuzz(): void {
  const decoder = new QixDecoder()
  const heapBefore = process.memoryUsage().heapUsed
  let sent = 0
  let found = 0
  for (let count = 0; count < inputs; count += 1) {
    const kind = randomInt(4)
    const frame = encodeFrame({ id: BigInt(count), key: randomBytes(32), status: 1 })
    const input =
      kind === 0
        ? randomBytes(randomInt(64))
        : kind === 1
          ? frame.subarray(0, randomInt(FRAME_BYTES))
          : kind === 2
            ? Uint8Array.of(0x5a, 0xa5)
            : frame
    if (kind === 3) sent += 1
    const cut = randomInt(input.length + 1)
    for (const part of [input.subarray(0, cut), input.subarray(cut)]) {
      for (const item of decoder.push(part)) if (item.type === 'frame') found += 1
      check(decoder.pendingBytes < FRAME_BYTES, 'the decoder holds a whole frame')
    }
  }
  decoder.push(new Uint8Array(2 * FRAME_BYTES))
  check(found >= sent - 1, `${found} frames found of ${sent}`)
  const grownMb = (process.memoryUsage().heapUsed - heapBefore) / 1e6
  check(grownMb < 100, `the heap grew by ${Math.round(grownMb)} MB`)
  process.stdout.write(`${inputs} inputs, ${found} of ${sent} frames\n`)
}

fuzz()
await unplugAndReplug()
