import { Option, type Command } from 'commander'
import { GatewayError } from '../base/errors.js'
import type { CliEnvironment } from './environment.js'

interface DummyFlags {
  side: 'alice' | 'bob'
  siteAgent?: string
  id?: string
  host: string
  port: number
  bytesPerKey: number
  qubits: number
  frameMs: number
  dialect: 'upstream' | 'openqkd'
}

function wholeNumber(option: string, least: number, most: number): (text: string) => number {
  return (text) => {
    const value = Number(text)
    if (Number.isInteger(value) && value >= least && value <= most) return value
    throw new GatewayError('E_USAGE', `${option} ${text}: a whole number from ${least} to ${most} is wanted`)
  }
}

/** `qkd-gw standin dummy`: a C++ Dummy device that prints JSON lines and takes commands on stdin. */
export function addStandinDummy(standin: Command, env: CliEnvironment): void {
  standin
    .command('dummy')
    .description('a C++ Dummy device, Alice or Bob; says what happens in JSON lines, takes commands on stdin')
    .addOption(new Option('--side <side>', 'end of the fibre').choices(['alice', 'bob'] as const).makeOptionMandatory())
    .option('--site-agent <host:port>', 'the SiteAgent to register with')
    .option('--id <id>', 'device id (default: as the original makes it)')
    .option('--host <address>', 'address to listen on', '127.0.0.1')
    .option('--port <port>', 'port to listen on, 0 for a free one', wholeNumber('--port', 0, 65_535), 0)
    .option(
      '--bytes-per-key <n>',
      "16 upstream, 32 in OpenQKDNetwork's fork",
      wholeNumber('--bytes-per-key', 1, 255),
      16,
    )
    .option('--qubits <n>', 'qubits of a frame', wholeNumber('--qubits', 8, 1_000_000), 100_000)
    .option('--frame-ms <ms>', 'length of a frame', wholeNumber('--frame-ms', 1, 60_000), 1_000)
    .addOption(
      new Option('--dialect <name>', 'numbering of its registration')
        .choices(['upstream', 'openqkd'] as const)
        .default('upstream' as const),
    )
    .addHelpText('after', '\nCommands on stdin: fault NAME VALUE, quit.\n')
    .action(async (flags: DummyFlags) => {
      const { runDummyProcess } = await import('../standin/dummy-process.js')
      const { qubits, ...options } = flags
      await runDummyProcess({ ...options, qubitsPerFrame: qubits, clock: env.clock, random: env.random }, env)
    })
}
