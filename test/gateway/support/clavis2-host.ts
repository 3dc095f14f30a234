/** The stand-in of the maker's host program as a program of its own, and the flags of a gateway that runs it. */
import { createSocket } from 'node:dgram'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { freeUdpPort } from '../../drivers/clavis2/support.js'
import { tempFolder } from './lab.js'

const root = join(import.meta.dirname, '../../..')

export interface Clavis2Host {
  readonly device: string
  readonly flags: readonly string[]
  /** The file that the program reads. */
  readonly file: string
  /** Commands a fault and resolves with what the program says to it. */
  fault(text: string): Promise<string>
}

export const optionFlags = (options: Readonly<Record<string, string>>): string[] =>
  Object.entries(options).flatMap(([name, value]) => ['--driver-option', `${name}=${value}`])

/** `initialKey`: hex digits, as somebody carried them to the program's file. */
export async function installClavis2Host(initialKey?: string): Promise<Clavis2Host> {
  const folder = tempFolder()
  const file = join(folder, 'vectis.conf')
  const [port, control] = [await freeUdpPort(), await freeUdpPort()]
  const program = join(root, 'dist/drivers/clavis2/emulator-program.js')
  const environment = { FILE: file, PORT: port, CONTROL: control, ROUND_MS: 200, KEYS: 4 }
  const exports = Object.entries(environment).map(([name, value]) => `export CLAVIS2_EMULATOR_${name}='${value}'`)
  const script = ['#!/bin/sh', ...exports, `exec '${process.execPath}' '${program}' "$@"`, '']
  writeFileSync(join(folder, 'QKDSequence'), script.join('\n'), { mode: 0o755 })
  if (initialKey !== undefined) {
    writeFileSync(file, `[installation]\ninitial_secret_key = ${initialKey}\n`, { mode: 0o600 })
  }
  const options = {
    'installation-file': file,
    'log-folder': join(folder, 'log'),
    'key-port': String(port),
    'reply-timeout-ms': '200',
    'retry-pause-ms': '50',
    'bob-address': '127.0.0.1',
  }
  return {
    device: `clavis2:${folder}`,
    flags: optionFlags(options),
    file,
    fault: (text) =>
      new Promise((resolve, reject) => {
        const socket = createSocket('udp4')
        socket.once('error', reject)
        socket.once('message', (message) => {
          socket.close()
          resolve(message.toString())
        })
        socket.send(text, control, '127.0.0.1')
      }),
  }
}
