import { createReadStream } from 'node:fs'
import { stat } from 'node:fs/promises'
import { resolve } from 'node:path'
import { Option, type Command } from 'commander'
import pc from 'picocolors'
import { codeOf, GatewayError, messageOf } from '../base/errors.js'
import { FORMAT_NAMES, FORMAT_TITLES, type FormatName } from '../device/event-formats/format-names.js'
import type { DecodeSummary } from '../device/event-formats/summary.js'
import type { CliEnvironment } from './environment.js'

interface DecodeFlags {
  format?: FormatName
  source?: 'card' | 'tdc1'
  lostWraps?: 'auto' | 'card' | 'tdc1' | 'none'
  json?: true
}

const HELP = `
Formats:
${FORMAT_NAMES.map((name) => `  ${name.padEnd(8)} ${FORMAT_TITLES[name]}`).join('\n')}
Without --format the format is told by content; our own wire traces are recognised too. What cannot be told is refused.

In the JSON: records = events + dummies; wraps counts over all records; patterns, first, last, spanPs and spanAsWrittenPs
are over events only. first and last are times with wraps undone, in the unit that "unit" names (1/256 ns for 64-bit
values, 2 ns ticks for a TDC1, 1/8 ns since the epoch's beginning for t2, indices for t4); firstPs and lastPs are the
same in ps; firstValue and lastValue are the records as written, hexadecimal. spanPs is after repair, spanAsWrittenPs is
what the file's own numbers say. Numbers beyond 2^53 are decimal strings.

Exit codes: 0 decoded (see "notes" for what was repaired or doubted), 2 no such file, a wrong format, or none that can be told.
`

/** `qkd-gw decode FILE`: what is in a recording of detections. */
export function addDecodeCommand(program: Command, env: CliEnvironment): void {
  program
    .command('decode')
    .description('what is in a recording: events, dummies, wraps, patterns, time span')
    .argument('<file>', 'the recording, or - for standard input')
    .addOption(new Option('--format <name>', 'the format, where content does not tell it').choices(FORMAT_NAMES))
    .addOption(new Option('--source <unit>', 'which unit wrote an a0 file').choices(['card', 'tdc1']))
    .addOption(
      new Option('--lost-wraps <counter>', 'whose lost wraps are put back in 64-bit values').choices([
        'auto',
        'card',
        'tdc1',
        'none',
      ]),
    )
    .option('--json', 'for machines: one object')
    .addHelpText('after', HELP)
    .action(async (file: string, flags: DecodeFlags) => {
      const { decodeStream } = await import('../device/event-formats/open-stream.js')
      const name = file === '-' ? 'standard input' : file
      const { summary, detection } = await decodeStream(await openInput(file, env), {
        name,
        format: flags.format,
        settings: { source: flags.source, lostWraps: flags.lostWraps },
        signal: env.signal,
      })
      env.stdout.write(
        flags.json === true
          ? `${JSON.stringify(summary, null, 2)}\n`
          : renderSummary(name, summary, detection?.because),
      )
    })
}

async function openInput(file: string, env: CliEnvironment): Promise<AsyncIterable<Uint8Array>> {
  if (file === '-') return env.stdin
  const path = resolve(env.cwd, file)
  try {
    const found = await stat(path)
    if (found.isDirectory())
      throw new GatewayError('E_USAGE', `${file} is a folder`, { remedy: 'name one recording in it' })
  } catch (error) {
    if (error instanceof GatewayError) throw error
    const why = codeOf(error) === 'ENOENT' ? 'is not there' : `cannot be read: ${messageOf(error)}`
    throw new GatewayError('E_USAGE', `${file} ${why}`, { remedy: 'check the name of the file', details: { file } })
  }
  return readFileChunks(path, file)
}

async function* readFileChunks(path: string, file: string): AsyncGenerator<Uint8Array> {
  const stream = createReadStream(path, { highWaterMark: 1 << 20 })
  try {
    for await (const chunk of stream as AsyncIterable<Uint8Array>) yield chunk
  } catch (error) {
    if (error instanceof GatewayError) throw error
    throw new GatewayError('E_USAGE', `${file} cannot be read: ${messageOf(error)}`, { details: { file } })
  } finally {
    stream.destroy()
  }
}

/** A span of ps in the unit that people think in. */
export function duration(ps: number | string | null): string {
  if (ps === null) return '-'
  const value = Number(ps)
  const size = Math.abs(value)
  if (size >= 1e12) return `${(value / 1e12).toFixed(9)} s`
  if (size >= 1e9) return `${(value / 1e9).toFixed(6)} ms`
  if (size >= 1e6) return `${(value / 1e6).toFixed(6)} µs`
  return `${value} ps`
}

const PATTERN_TITLES: Readonly<Record<DecodeSummary['patternsAre'], string>> = {
  inputs: 'input patterns',
  channels: 'channels',
  qubits: 'qubits',
  bases: 'base bits',
  entries: 'entries',
  bits: 'bits',
}

/** The summary for a person. */
export function renderSummary(name: string, summary: DecodeSummary, because?: string): string {
  const line = (title: string, text: string): string => `  ${title.padEnd(15)} ${text}`
  const patterns = Object.entries(summary.patterns)
  const shown = patterns.slice(0, 16).map(([pattern, count]) => `${pattern}: ${count}`)
  if (patterns.length > shown.length) shown.push(`and ${patterns.length - shown.length} more`)
  const end = (time: number | string | null, pattern: number | null, value: string | null): string =>
    time === null
      ? '-'
      : `${time}${summary.unit === null ? '' : ` × ${summary.unit}`}${pattern === null ? '' : `, pattern ${pattern}`}${value === null ? '' : `, written ${value}`}`
  const lines = [
    `${pc.bold(name)}: ${FORMAT_TITLES[summary.format]} (${summary.format})`,
    ...(because === undefined ? [] : [line('told by', because)]),
    ...(summary.epoch === null ? [] : [line('epoch', summary.epoch)]),
    line('records', `${summary.records}: ${summary.events} events, ${summary.dummies} dummies`),
    line('wraps', String(summary.wraps)),
    line('out of order', String(summary.outOfOrder)),
    line(PATTERN_TITLES[summary.patternsAre], shown.length === 0 ? '-' : shown.join(', ')),
    line('first', end(summary.first, summary.firstPattern, summary.firstValue)),
    line('last', end(summary.last, summary.lastPattern, summary.lastValue)),
    line('span', duration(summary.spanPs)),
    ...(summary.spanAsWrittenPs === summary.spanPs ? [] : [line('span as written', duration(summary.spanAsWrittenPs))]),
    ...summary.notes.map((note) => pc.yellow(`  ! ${note}`)),
  ]
  return `${lines.join('\n')}\n`
}
