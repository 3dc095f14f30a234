/** A Clavis2 pair whose host programs are processes of their own, which may be killed at any moment. */
import { createSocket } from 'node:dgram'
import { readFileSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { driver } from '../../../drivers/clavis2/driver.js'
import { systemClock } from '../../../src/base/clock.js'
import { isPairDevice, type PairDevice, type PairSession } from '../../../src/device/pair-contract.js'
import { contextFor, peerOf, sessionWith } from '../support/pair.js'
import { freeUdpPort, type Installation, installation } from './support.js'

const PROGRAM = fileURLToPath(new URL('../../../drivers/clavis2/emulator-program.ts', import.meta.url))
const TSX = createRequire(import.meta.url).resolve('tsx')
const LONGEST_WAIT_MS = 60_000

/** A shell script that is the host program for the driver: the emulator as a process of its own. */
function script(folder: string, port: number, control: number): string {
  return [
    '#!/bin/sh',
    // At once whole: half a number is another process.
    `echo $$ > ${folder}/pid.new && mv ${folder}/pid.new ${folder}/pid`,
    `export CLAVIS2_EMULATOR_FILE=${folder}/vectis.conf CLAVIS2_EMULATOR_PORT=${port}`,
    `export CLAVIS2_EMULATOR_CONTROL=${control} CLAVIS2_EMULATOR_ROUND_MS=100`,
    `exec ${process.execPath} --import ${TSX} ${PROGRAM} "$@"`,
    '',
  ].join('\n')
}

export interface ProgramEnd {
  readonly device: PairDevice
  readonly at: Installation
  readonly control: number
  /** The running program's process, or the last one's. */
  pid(): number
  stop(): Promise<void>
}

export async function startProgramEnd(side: 'alice' | 'bob'): Promise<ProgramEnd> {
  const at = await installation()
  const control = await freeUdpPort()
  await writeFile(at.program, script(at.folder, at.port, control), { mode: 0o755 })
  const device = driver.create(contextFor(side, systemClock, at.options, side === 'alice' ? 5 : 6))
  if (!isPairDevice(device)) throw new Error('no pair device')
  const stopping = new AbortController()
  const identified = new Promise<void>((resolve) => {
    device.state.subscribe(({ state }) => (state === 'identified' ? resolve() : undefined))
  })
  const running = device.run(stopping.signal)
  await identified
  return {
    device,
    at,
    control,
    pid() {
      const pid = Number(readFileSync(join(at.folder, 'pid'), 'utf8'))
      if (!(pid > 1)) throw new Error(`no process: ${pid}`)
      return pid
    },
    async stop() {
      stopping.abort()
      await running
      await at.remove()
    },
  }
}

/** Commands a fault; resolves with what the program says to it. */
export function command(port: number, text: string): Promise<string> {
  return new Promise((resolve) => {
    const socket = createSocket('udp4')
    socket.on('message', (message) => {
      socket.close()
      resolve(message.toString())
    })
    socket.send(text, port, '127.0.0.1')
  })
}

export interface RunningPair {
  readonly ends: readonly [ProgramEnd, ProgramEnd]
  readonly failures: readonly Error[]
  /** Keys that came at both ends, with one value; another value is an error that `moreKeys` rejects with. */
  keys(): number
  /** Resolves once so many more keys came at both ends. Rejects where they do not come, or differ. */
  moreKeys(count: number): Promise<void>
  /** Of the programs that ran last. */
  lastPids(): readonly number[]
  stop(): Promise<void>
}

/** Both ends at work in a session. */
export async function startPair(): Promise<RunningPair> {
  const ends = [await startProgramEnd('alice'), await startProgramEnd('bob')] as const
  const [alice, bob] = ends
  const atAlice = new Map<bigint, string>()
  let equal = 0
  let different: Error | undefined
  let look: () => void = () => {}
  alice.device.subscribe((event) => {
    if (event.type === 'key') atAlice.set(event.id, Buffer.from(event.key).toString('hex'))
  })
  bob.device.subscribe((event) => {
    if (event.type !== 'key') return
    const hex = Buffer.from(event.key).toString('hex')
    if (atAlice.get(event.id) === hex) equal += 1
    else different = new Error(`key ${event.id} is not the same at both ends`)
    for (const id of atAlice.keys()) if (id <= event.id) atAlice.delete(id)
    look()
  })
  const initial = Uint8Array.from({ length: 32 }, (_, i) => 0xa5 ^ (7 * i))
  const failures: Error[] = []
  let pids: readonly number[] = []
  const session = (peer: PairDevice): PairSession => ({
    ...sessionWith(peerOf(peer.pair.services), initial),
    fail: (error) => void failures.push(error),
  })
  await bob.device.pair.prepare(session(alice.device))
  await alice.device.pair.prepare(session(bob.device))
  bob.device.pair.start('byId')
  alice.device.pair.start('byId')
  return {
    ends,
    failures,
    keys: () => equal,
    lastPids: () => pids,
    moreKeys(count) {
      const goal = equal + count
      return new Promise((resolve, reject) => {
        const timer = setTimeout(() => {
          const facts = JSON.stringify(ends.map(({ device }) => device.facts()))
          reject(new Error(`no keys for ${LONGEST_WAIT_MS} ms: ${failures.map(String).join(', ')} ${facts}`))
        }, LONGEST_WAIT_MS)
        look = () => {
          if (different === undefined && equal < goal) return
          clearTimeout(timer)
          if (different === undefined) resolve()
          else reject(different)
        }
        look()
      })
    },
    async stop() {
      pids = ends.map((end) => end.pid())
      await Promise.all(ends.map(({ device }) => device.pair.quiesce()))
      await Promise.all(ends.map(({ device }) => device.pair.end()))
      await Promise.all(ends.map((end) => end.stop()))
    },
  }
}
