import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { PassThrough, Readable } from 'node:stream'
import { Command } from 'commander'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { systemClock } from '../../src/base/clock.js'
import { GatewayError } from '../../src/base/errors.js'
import { systemRandom } from '../../src/base/random.js'
import { addDecodeCommand } from '../../src/cli/decode.js'
import { formatTraceRecord, TRACE_FORMAT } from '../../src/io/wire-trace.js'

const RECORDED = Buffer.from('11ef018011ef0100a12bca2c11ef010011ef018011ef0100a1faa509', 'hex')
let folder = ''

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'qkd-gw-decode-'))
  await writeFile(join(folder, 'two-hz.raw'), RECORDED)
})
afterAll(() => rm(folder, { recursive: true, force: true }))

/** Runs `qkd-gw decode …` in this process; resolves with what it printed. */
async function decode(args: readonly string[], stdin: Uint8Array = new Uint8Array()): Promise<string> {
  const stdout = new PassThrough()
  const printed: Buffer[] = []
  stdout.on('data', (chunk: Buffer) => printed.push(chunk))
  const program = new Command('qkd-gw').exitOverride().configureOutput({ writeErr: () => {}, writeOut: () => {} })
  addDecodeCommand(program, {
    stdin: Readable.from([Buffer.from(stdin)]) as unknown as NodeJS.ReadStream,
    stdout: stdout as unknown as NodeJS.WriteStream,
    stderr: stdout as unknown as NodeJS.WriteStream,
    env: {},
    cwd: folder,
    clock: systemClock,
    random: systemRandom,
    signal: new AbortController().signal,
    setExitCode: () => {},
  })
  for (const command of program.commands)
    command.exitOverride().configureOutput({ writeErr: () => {}, writeOut: () => {} })
  await program.parseAsync(['node', 'qkd-gw', 'decode', ...args])
  return Buffer.concat(printed).toString()
}

describe('qkd-gw decode', () => {
  it('prints for machines what is in a recording, as exact numbers', async () => {
    expect(JSON.parse(await decode(['two-hz.raw', '--json']))).toEqual({
      format: 'tdc1',
      unit: '2 ns',
      patternsAre: 'inputs',
      records: 7,
      events: 2,
      dummies: 5,
      wraps: 3,
      outOfOrder: 0,
      patterns: { '1': 2 },
      first: 157_700_445,
      last: 407_711_701,
      spanPs: 500_022_512_000,
      spanAsWrittenPs: -36_848_400_000,
      firstPs: 315_400_890_000,
      lastPs: 815_423_402_000,
      firstValue: '2cca2ba1',
      lastValue: '09a5faa1',
      firstPattern: 1,
      lastPattern: 1,
      repeated: 0,
      invalid: 0,
      gaps: 0,
      strayBytes: 0,
      epoch: null,
      notes: [],
    })
  })

  it('prints for people the same in words, with the reason for the format', async () => {
    const text = await decode(['two-hz.raw'])
    expect(text).toMatch(/raw records of a TDC1/)
    expect(text).toMatch(/told by {9}its words follow each other/)
    expect(text).toMatch(/records {9}7: 2 events, 5 dummies/)
    expect(text).toMatch(/span {12}500\.022512 ms/)
  })

  it('reads standard input, and takes the format that it is given', async () => {
    const summary: unknown = JSON.parse(await decode(['-', '--format', 'a4', '--json'], RECORDED))
    expect(summary).toMatchObject({ format: 'a4', events: 2, wraps: 3 })
  })

  it('says what speaks against a format that was asked for', async () => {
    const padded = Buffer.concat([RECORDED, Buffer.from('a1faa50a', 'hex')])
    const summary: unknown = JSON.parse(await decode(['-', '--format', 'a1', '--json'], padded))
    expect(summary).toMatchObject({ format: 'a1' })
    expect(JSON.stringify(summary)).toMatch(/by its content it looks like tdc1/)
  })

  it('decodes what came from the device in a wire trace of ours', async () => {
    const lines = [
      JSON.stringify({
        format: TRACE_FORMAT,
        version: 1,
        startedUnixMs: 1,
        path: '/dev/x',
        driver: 'tdc1',
        masked: false,
      }),
      formatTraceRecord({ atUs: 0, direction: 'note', text: 'open' }),
      formatTraceRecord({ atUs: 5, direction: 'tx', bytes: Buffer.from('*RST;TTL;time 0;timestamp;counts?\r\n') }),
      formatTraceRecord({ atUs: 9, direction: 'rx', bytes: RECORDED.subarray(0, 6) }),
      formatTraceRecord({ atUs: 12, direction: 'rx', bytes: RECORDED.subarray(6) }),
    ]
    const summary: unknown = JSON.parse(await decode(['-', '--json'], Buffer.from(`${lines.join('\n')}\n`)))
    expect(summary).toMatchObject({ format: 'tdc1', events: 2, spanPs: 500_022_512_000 })
    expect(JSON.stringify(summary)).toMatch(/wire trace of driver tdc1/)
  })

  it('says that a file is cut off', async () => {
    const summary: unknown = JSON.parse(await decode(['-', '--json'], RECORDED.subarray(0, 26)))
    expect(summary).toMatchObject({
      records: 6,
      strayBytes: 2,
      notes: ['the last record is cut off after 2 of 4 bytes'],
    })
  })

  it('refuses with a code, the name of the file and a remedy', async () => {
    const refusal = async (args: readonly string[], stdin?: Uint8Array): Promise<GatewayError> => {
      const error = await decode(args, stdin).then(
        () => undefined,
        (reason: unknown) => reason,
      )
      if (error instanceof GatewayError) return error
      throw new Error(`not refused: ${String(error)}`)
    }
    const missing = await refusal(['no-such-file.ts'])
    expect([missing.code, missing.exitCode]).toEqual(['E_USAGE', 2])
    expect(missing.message).toBe('no-such-file.ts is not there')
    expect((await refusal(['.'])).message).toBe('. is a folder')
    expect((await refusal(['-'])).message).toBe('standard input is empty')
    const wrong = await refusal(['two-hz.raw', '--format', 't1'])
    expect([wrong.code, wrong.exitCode]).toEqual(['E_FORMAT', 2])
    expect(wrong.message).toMatch(/^two-hz\.raw: no T1 epoch file/)
    const cut = await refusal(['-', '--format', 't2'], Buffer.from('02000000f2010000', 'hex'))
    expect(cut.message).toMatch(/ends inside its header/)
    const noText = await refusal(['two-hz.raw', '--format', 'a0'])
    expect(noText.message).toBe('two-hz.raw: line 1: expected 8 hexadecimal digits')
    const noLabview = await refusal(['-', '--format', 'labview'], Buffer.from('a'))
    expect(noLabview.message).toMatch(/^standard input: line 1: expected five digits/)
    await expect(decode(['two-hz.raw', '--format', 'nonsense'])).rejects.toThrow(/Allowed choices/)
  })
})
