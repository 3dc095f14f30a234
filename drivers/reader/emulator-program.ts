/**
 * A stand-in for the maker's reader program, called like it: `-a n` form, `-X` high word first, `-A` absolute time,
 * `-q n` stop after n events, `-f` fast mode; `-s`, `-D`, `-t`, `-U` are taken and passed over. What the real one has no
 * argument for comes from the environment:
 *
 *   READER_EMULATOR_RATE    events a second; default 10000
 *   READER_EMULATOR_LOG     file to which each run adds a line with its arguments
 *   READER_EMULATOR_FAULT   what happens after READER_EMULATOR_AFTER events (default 1000), in runs without -q only:
 *                           exit, complain, hang, garbage, cut (the last record is half written), flood (complains
 *                           without end and does not heed SIGTERM)
 *   READER_EMULATOR_ONCE    file that is made when the fault happened; with it there the program behaves
 */
import { appendFileSync, existsSync, writeFileSync } from 'node:fs'
import { eventValue, valueBytes, valueText } from '../../src/device/event-formats/event-values.js'

const STEP_MS = 5

interface Wishes {
  form: number
  highFirst: boolean
  absolute: boolean
  most: number
}

function parse(args: readonly string[]): Wishes {
  const wishes: Wishes = { form: 0, highFirst: false, absolute: false, most: Infinity }
  for (let i = 0; i < args.length; i++) {
    const [, letter = '', attached = ''] = /^-(.)(.*)$/.exec(args[i] ?? '') ?? []
    const value = (): string => (attached === '' ? (args[++i] ?? '') : attached)
    if (letter === 'a') wishes.form = Number(value())
    else if (letter === 'q') wishes.most = Number(value())
    else if (letter === 'X') wishes.highFirst = true
    else if (letter === 'A') wishes.absolute = true
    else if ('DtU'.includes(letter)) value()
    else if (!'sfZ'.includes(letter)) throw new Error(`unknown option ${args[i] ?? ''}`)
  }
  return wishes
}

function write(bytes: Uint8Array | string): Promise<void> {
  return new Promise((resolve) => {
    process.stdout.write(bytes, () => resolve())
  })
}

async function main(args: readonly string[], env: Readonly<Record<string, string | undefined>>): Promise<void> {
  const wishes = parse(args)
  const rate = Number(env['READER_EMULATOR_RATE'] ?? 10_000)
  const after = Number(env['READER_EMULATOR_AFTER'] ?? 1_000)
  const once = env['READER_EMULATOR_ONCE']
  const log = env['READER_EMULATOR_LOG']
  if (log !== undefined) appendFileSync(log, `${args.join(' ')}\n`)
  const fault =
    wishes.most === Infinity && !(once !== undefined && existsSync(once)) ? env['READER_EMULATOR_FAULT'] : undefined

  const encode = (values: readonly bigint[]): Uint8Array | string => {
    if (wishes.form === 1) return valueBytes(values, wishes.highFirst ? 'highFirst' : 'lowFirst')
    return valueText(values, wishes.form === 2 ? 'a2' : 'a0')
  }
  const startMs = Date.now()
  // Units of 1/256 ns; a real one cuts the Unix time to 54 bits too.
  let time = wishes.absolute ? (BigInt(startMs) * 256_000_000n) % 2n ** 54n : 0n
  const meanUnits = 256e9 / rate
  let sent = 0
  for (;;) {
    const due = Math.min(
      wishes.most,
      Math.floor(((Date.now() - startMs) / 1_000) * rate),
      fault === undefined ? Infinity : after,
    )
    const values: bigint[] = []
    for (; sent < due; sent++) {
      time += BigInt(1 + Math.floor(-Math.log(1 - Math.random()) * meanUnits))
      values.push(eventValue(time, 1 << (sent & 3)) | 0x300n)
    }
    if (values.length > 0) await write(encode(values))
    if (sent >= wishes.most) return
    if (fault !== undefined && sent >= after) {
      if (once !== undefined) writeFileSync(once, fault)
      return fail(fault)
    }
    await new Promise((resolve) => setTimeout(resolve, STEP_MS))
  }
}

async function fail(fault: string): Promise<void> {
  switch (fault) {
    case 'exit':
      process.exit(3)
      break
    case 'complain':
      process.stderr.write('Warning: DMA buffer overrun\n')
      break
    case 'flood':
      process.on('SIGTERM', () => {})
      for (;;) {
        await new Promise<void>((resolve) => {
          process.stderr.write(`${'Warning: DMA buffer overrun\n'.repeat(2_000)}`, () => resolve())
        })
      }
    case 'garbage':
      await write('this is no hexadecimal number\n')
      break
    case 'cut':
      await write(Uint8Array.of(1, 2, 3))
      return
  }
  // It hangs until it is stopped.
  setInterval(() => {}, 1_000)
}

try {
  await main(process.argv.slice(2), process.env)
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`)
  process.exitCode = 1
}
