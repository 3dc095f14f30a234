import { Option, type Command } from 'commander'
import { GatewayError } from '../base/errors.js'
import type { CliEnvironment } from './environment.js'

interface SiteAgentFlags {
  program: 'cpp' | 'java'
  name: string
  host: string
  port: number
  connectionAddress?: string
  seat: 'left' | 'right'
  dialect?: 'upstream' | 'openqkd'
  backingStore?: true
  keyTransfer?: string
  stopAfterKeys?: number
  fault: readonly string[]
}

function portNumber(text: string): number {
  const port = Number(text)
  if (!Number.isInteger(port) || port < 0 || port > 65_535) {
    throw new GatewayError('E_USAGE', `--port ${text}: a port from 0 to 65535 is wanted`)
  }
  return port
}

/** `qkd-gw standin site-agent`: a stand-in SiteAgent that prints JSON lines and takes commands on stdin. */
export function addStandinSiteAgent(standin: Command, env: CliEnvironment): void {
  standin
    .command('site-agent')
    .description(
      'a SiteAgent that behaves as the C++ or the Java one; says what happens in JSON lines, takes commands on stdin',
    )
    .addOption(new Option('--program <name>', 'which one').choices(['cpp', 'java'] as const).default('cpp'))
    .option('--name <name>', 'its name in reports', 'Site')
    .option('--host <address>', 'address to listen on', '127.0.0.1')
    .option('--port <port>', 'port to listen on, 0 for a free one', portNumber, 0)
    .option('--connection-address <host:port>', 'what it calls itself, where that is not what it listens on')
    .addOption(new Option('--seat <side>', 'side of the link').choices(['left', 'right'] as const).default('left'))
    .addOption(
      new Option('--dialect <name>', 'numbering of the registration it reads (default: as its program)').choices([
        'upstream',
        'openqkd',
      ] as const),
    )
    .option('--backing-store', 'keys and their numbering outlive a restart')
    .option('--key-transfer <host:port>', 'pass each key on to this service first, as the fork does')
    .option('--stop-after-keys <n>', 'read nothing more after so many keys of a session, as the fork does', Number)
    .option(
      '--fault <name=value>',
      'a switch to set from the start; repeat for several',
      (text: string, before: readonly string[]) => [...before, text],
      [] as readonly string[],
    )
    .addHelpText(
      'after',
      '\nCommands on stdin: digest N, range FROM N, keys, devices, restart [MS], kill-streams, fault NAME VALUE, quit.\n',
    )
    .action(async (flags: SiteAgentFlags) => {
      const { runJavaSiteAgentProcess, runSiteAgentProcess, setFault } =
        await import('../standin/site-agent-process.js')
      const { noFaults } = await import('../standin/cpp-options.js')
      const faults = noFaults()
      for (const text of flags.fault) {
        const [name = '', value = 'on'] = text.split('=', 2)
        setFault(faults, name, value)
      }
      const common = {
        name: flags.name,
        host: flags.host,
        port: flags.port,
        seat: flags.seat,
        ...(flags.dialect === undefined ? {} : { dialect: flags.dialect }),
        ...(flags.keyTransfer === undefined ? {} : { keyTransferAddress: flags.keyTransfer }),
        clock: env.clock,
      }
      if (flags.program === 'java') return runJavaSiteAgentProcess(common, env)
      await runSiteAgentProcess(
        {
          ...common,
          backingStore: flags.backingStore === true,
          faults,
          ...(flags.connectionAddress === undefined ? {} : { connectionAddress: flags.connectionAddress }),
          ...(flags.stopAfterKeys === undefined ? {} : { stopsReadingAfterKeys: flags.stopAfterKeys }),
          random: env.random,
        },
        env,
      )
    })
}
