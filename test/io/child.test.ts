import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { systemClock } from '../../src/base/clock.js'
import { createLineSplitter, type ProgramEnd, startProgram } from '../../src/io/child.js'

interface Ran {
  end: ProgramEnd
  out: string
  err: string
}

async function run(script: string): Promise<Ran> {
  let out = ''
  let err = ''
  const program = startProgram({
    command: process.execPath,
    args: ['-e', script],
    clock: systemClock,
    onStdout: (chunk) => (out += Buffer.from(chunk).toString()),
    onStderr: (chunk) => (err += Buffer.from(chunk).toString()),
  })
  return { end: await program.ended, out, err }
}

describe('a program of somebody else', () => {
  it('has handed over all its output when it has ended', async () => {
    const { end, out, err } = await run(
      "process.stdout.write('a'.repeat(300000)); console.error('b'); process.exitCode = 3",
    )
    expect(end).toMatchObject({ how: 'exited', code: 3 })
    expect(out).toHaveLength(300_000)
    expect(err).toBe('b\n')
  })

  it('that does not exist is an end, not an exception', async () => {
    const program = startProgram({
      command: '/nonexistent/QKDSequence',
      args: [],
      clock: systemClock,
      onStdout: () => {},
      onStderr: () => {},
    })
    expect(await program.ended).toMatchObject({ how: 'notStarted' })
    expect(await program.stop(10)).toMatchObject({ how: 'notStarted' })
  })

  it('is asked to end, and made to where it does not obey', async () => {
    const started = (script: string): Promise<() => Promise<ProgramEnd>> =>
      new Promise((resolve) => {
        const program = startProgram({
          command: process.execPath,
          args: ['-e', `${script}; setInterval(() => {}, 1000); console.log('up')`],
          clock: systemClock,
          onStdout: () => resolve(() => program.stop(100)),
          onStderr: () => {},
        })
      })
    const obedient = await started("process.on('SIGTERM', () => process.exit(0))")
    expect(await obedient()).toMatchObject({ how: 'exited', code: 0 })
    const stubborn = await started("process.on('SIGTERM', () => {})")
    expect(await stubborn()).toMatchObject({ how: 'killed', signal: 'SIGKILL' })
  })
})

describe('the line splitter', () => {
  it('gives the same lines for any chunking', () => {
    const line = fc.stringMatching(/^[a-zµ€ ]{0,12}$/)
    fc.assert(
      fc.property(fc.array(line, { maxLength: 8 }), fc.array(fc.nat(9), { maxLength: 40 }), (lines, sizes) => {
        const bytes = Buffer.from(lines.map((text) => `${text}\r\n`).join(''))
        const heard: string[] = []
        const splitter = createLineSplitter(100, (text) => heard.push(text))
        let at = 0
        for (const size of sizes) splitter.push(bytes.subarray(at, (at += size)))
        splitter.push(bytes.subarray(at))
        splitter.end()
        expect(heard).toEqual(lines)
      }),
    )
  })

  it('cuts a line that never ends and goes on with the next', () => {
    const heard: string[] = []
    const splitter = createLineSplitter(5, (text) => heard.push(text))
    for (let i = 0; i < 100; i += 1) splitter.push(Buffer.from('x'.repeat(1000)))
    splitter.push(Buffer.from('\nok\nrest'))
    splitter.end()
    expect(heard).toEqual(['xxxxx', 'ok', 'rest'])
  })
})
