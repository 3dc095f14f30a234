import { createSocket } from 'node:dgram'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Clavis2System } from '../../../drivers/clavis2/driver.js'
import { EmulatedHost, type EmulatedHostOptions } from '../../../drivers/clavis2/emulator.js'
import { systemClock } from '../../../src/base/clock.js'
import type { ProgramEnd, ProgramOptions, RunningProgram } from '../../../src/io/child.js'
import { openDatagramPort } from '../../../src/io/udp.js'
import { seededRandom } from '../support/pair.js'

export async function freeUdpPort(): Promise<number> {
  const socket = createSocket('udp4')
  await new Promise<void>((resolve) => socket.bind(0, '127.0.0.1', () => resolve()))
  const { port } = socket.address()
  await new Promise<void>((resolve) => socket.close(() => resolve()))
  return port
}

/** A folder with a file that may be run as the host program, and where the installation file will be. */
export interface Installation {
  folder: string
  program: string
  file: string
  port: number
  options: Record<string, string>
  remove(): Promise<void>
}

export async function installation(script = '#!/bin/sh\nexit 1\n'): Promise<Installation> {
  const folder = await mkdtemp(join(tmpdir(), 'clavis2-'))
  const program = join(folder, 'QKDSequence')
  const file = join(folder, 'vectis.conf')
  await writeFile(program, script, { mode: 0o755 })
  const port = await freeUdpPort()
  return {
    folder,
    program,
    file,
    port,
    options: {
      program,
      'installation-file': file,
      'log-folder': join(folder, 'log'),
      'key-port': String(port),
      'reply-timeout-ms': '100',
      'retry-pause-ms': '20',
    },
    remove: () => rm(folder, { recursive: true, force: true }),
  }
}

/** Runs the emulator inside this process where the driver starts its program. */
export class ProgramInProcess {
  host: EmulatedHost | undefined
  starts: string[] = []
  #end: (end: ProgramEnd) => void = () => {}

  constructor(
    private readonly at: Installation,
    private readonly options: Partial<EmulatedHostOptions> = {},
  ) {}

  readonly system: Clavis2System = {
    openDatagramPort,
    startProgram: (options) => this.#start(options),
  }

  exit(code: number): void {
    this.host?.stop()
    this.#end({ how: 'exited', code, message: `the program ended with code ${code}` })
  }

  #start(program: ProgramOptions): RunningProgram {
    const { args } = program
    this.starts.push(args.join(' '))
    const ended = new Promise<ProgramEnd>((resolve) => (this.#end = resolve))
    const host = new EmulatedHost({
      side: args.includes('--alice') ? 'alice' : 'bob',
      installationFile: this.at.file,
      host: '127.0.0.1',
      port: this.at.port,
      order: 'little',
      roundMs: 20,
      keysPerRound: 2,
      epochMs: Date.now(),
      clock: systemClock,
      random: seededRandom(9),
      print: (line) => program.onStdout(Buffer.from(`${line}\n`)),
      exit: (code) => this.exit(code),
      ...this.options,
    })
    this.host = host
    void host.start().then((ok) => (ok ? undefined : this.exit(1)))
    return {
      pid: 1,
      ended,
      stop: async () => {
        host.stop()
        const end: ProgramEnd = { how: 'killed', signal: 'SIGTERM', message: 'stopped' }
        this.#end(end)
        return end
      },
      setReading: () => {},
    }
  }
}
