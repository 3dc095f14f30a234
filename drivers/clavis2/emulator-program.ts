/**
 * The emulator as a program, called like the maker's: `--alice --ip_bob <ip>` or `--bob --line_attenuation <dB>`. What the
 * maker's program has no argument for comes from the environment:
 *
 *   CLAVIS2_EMULATOR_FILE      installation file; default /var/idq/vectis.conf
 *   CLAVIS2_EMULATOR_PORT      UDP port of the keys; default 5323
 *   CLAVIS2_EMULATOR_ORDER     little or big
 *   CLAVIS2_EMULATOR_ROUND_MS  length of a round; default 1000
 *   CLAVIS2_EMULATOR_KEYS      keys of a round; default 4
 *   CLAVIS2_EMULATOR_CONTROL   UDP port on 127.0.0.1 that takes faults as text ("drop 3") and answers with a sentence
 */
import { createSocket } from 'node:dgram'
import { parseArgs } from 'node:util'
import { systemClock } from '../../src/base/clock.js'
import { messageOf } from '../../src/base/errors.js'
import { systemRandom } from '../../src/base/random.js'
import { EmulatedHost } from './emulator.js'
import { INSTALLATION_FILE } from './installation-file.js'
import { KEY_PORT } from './protocol.js'

function print(line: string): void {
  process.stdout.write(`${line}\n`)
}

function sideOf(args: readonly string[]): 'alice' | 'bob' {
  const { values } = parseArgs({
    args: [...args],
    options: {
      alice: { type: 'boolean' },
      bob: { type: 'boolean' },
      ip_bob: { type: 'string' },
      line_attenuation: { type: 'string' },
    },
  })
  if (values.alice === true && values.ip_bob !== undefined) return 'alice'
  if (values.bob === true && !Number.isNaN(Number(values.line_attenuation))) return 'bob'
  throw new Error('usage: --alice --ip_bob <ip> | --bob --line_attenuation <dB>')
}

function listenForFaults(port: number, host: EmulatedHost): void {
  const socket = createSocket('udp4')
  socket.on('message', (message, from) => {
    const [name = '', ...args] = message.toString().trim().split(/\s+/)
    let answer: string
    try {
      answer = host.fault(name, args)
    } catch (error) {
      answer = messageOf(error)
    }
    socket.send(answer, from.port, from.address, () => {})
  })
  socket.bind(port, '127.0.0.1')
}

async function main(args: readonly string[], env: Readonly<Record<string, string | undefined>>): Promise<void> {
  const host = new EmulatedHost({
    side: sideOf(args),
    installationFile: env['CLAVIS2_EMULATOR_FILE'] ?? INSTALLATION_FILE,
    host: '127.0.0.1',
    port: Number(env['CLAVIS2_EMULATOR_PORT'] ?? KEY_PORT),
    order: env['CLAVIS2_EMULATOR_ORDER'] === 'big' ? 'big' : 'little',
    roundMs: Number(env['CLAVIS2_EMULATOR_ROUND_MS'] ?? 1_000),
    keysPerRound: Number(env['CLAVIS2_EMULATOR_KEYS'] ?? 4),
    epochMs: 0,
    clock: systemClock,
    random: systemRandom,
    print,
    // A moment later, so that whoever commanded it hears of it.
    exit: (code) => void setTimeout(() => process.exit(code), 50),
  })
  if (!(await host.start())) process.exit(1)
  const control = env['CLAVIS2_EMULATOR_CONTROL']
  if (control !== undefined) listenForFaults(Number(control), host)
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => process.exit(0))
  // Nobody reads us any more: whoever started us is gone.
  process.stdout.on('error', () => process.exit(1))
}

main(process.argv.slice(2), process.env).catch((error: unknown) => {
  print(`ERROR ${messageOf(error)}`)
  process.exit(2)
})
