import { Option, type Command } from 'commander'
import { EXIT } from '../base/error-codes.js'
import { GatewayError } from '../base/errors.js'
import { demoFaults } from '../demo/faults.js'
import type { CliEnvironment } from './environment.js'

function wholeNumber(text: string): number {
  const value = Number(text)
  if (!Number.isInteger(value) || value < 1) {
    throw new GatewayError('E_USAGE', `--keys ${text}: a whole number from 1 is wanted`)
  }
  return value
}

/** `qkd-gw demo`: the whole chain on built-in stand-ins; `npm start` runs it. */
export function addDemoCommand(program: Command, env: CliEnvironment): void {
  const names = demoFaults.map((fault) => `  ${fault.name.padEnd(16)} ${fault.what}`).join('\n')
  program
    .command('demo')
    .description('two sites on this machine, from emulated devices to equal keys at two stand-in SiteAgents')
    .option('--keys <n>', 'end after exactly this many keys at each site', wholeNumber)
    .addOption(
      new Option('--fault <name>', 'inject a fault at site A once keys run').choices(
        demoFaults.map((fault) => fault.name),
      ),
    )
    .option('--json', 'print one JSON document at the end, and nothing else on stdout (needs --keys)')
    .option('--timeout <seconds>', 'give up if the keys have not come by then', Number)
    .addHelpText(
      'after',
      `
Faults:
${names}

Examples:
  npm start                                 runs until Ctrl+C
  npm start -- --keys 100 --json            ends by itself; exit code 0 only if the keys of both sites are equal
  npm start -- --keys 200 --fault unplug

Exit codes: 0 equal (or ended by Ctrl+C), 13 the keys of the sites differ.`,
    )
    .action(async (options: { keys?: number; fault?: string; json?: boolean; timeout?: number }) => {
      if (options.json === true && options.keys === undefined) {
        throw new GatewayError('E_USAGE', '--json prints its document at the end, so it needs --keys')
      }
      const { findFault, runDemo } = await import('../demo/run.js')
      // The emulated units send 20 frames a second; a minute is for starting and for a fault.
      const timeoutMs = options.timeout === undefined ? 90_000 + (options.keys ?? 0) * 200 : options.timeout * 1_000
      const result = await runDemo(
        {
          keys: options.keys,
          fault: options.fault === undefined ? undefined : findFault(options.fault),
          json: options.json === true,
          timeoutMs,
        },
        env,
      )
      if (result === undefined) return
      if (options.json === true) env.stdout.write(`${JSON.stringify(result, null, 2)}\n`)
      if (!result.identical) env.setExitCode(EXIT.keysDiffer)
    })
}
