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

function speedNumber(text: string): number {
  const value = Number(text)
  if (!Number.isInteger(value) || value < 1 || value > 1_000) {
    throw new GatewayError('E_USAGE', `--speed ${text}: a whole number from 1 to 1000 is wanted`)
  }
  return value
}

interface DemoFlags {
  keys?: number
  fault?: string
  device: string
  eve?: true
  speed?: number
  json?: boolean
  timeout?: number
}

/** What the boards of the kit need for one key at their own speed, with much to spare. */
const MS_PER_LESSON_KEY = 600_000

function checkLesson({ device, eve, speed, fault, keys }: DemoFlags): void {
  if (device !== 'ekpqc' && (eve !== undefined || speed !== undefined)) {
    throw new GatewayError('E_USAGE', '--eve and --speed belong to --device ekpqc')
  }
  if (device === 'ekpqc' && fault !== undefined) {
    throw new GatewayError('E_USAGE', '--fault belongs to --device qix: its faults are those of serial key streams')
  }
  if (eve !== undefined && keys !== undefined) {
    throw new GatewayError('E_USAGE', 'with --eve no key comes out, so --keys would wait for ever')
  }
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
    .addOption(
      new Option('--device <name>', 'what stands in the labs: serial key streams, or the teaching kit with its lesson')
        .choices(['qix', 'ekpqc'])
        .default('qix'),
    )
    .option('--eve', 'ekpqc: somebody measures the pulses and sends on what she found')
    .option('--speed <n>', 'ekpqc: how many times as fast as the kit (default: 5)', speedNumber)
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
  npm start -- --device ekpqc               a BB84 lesson on emulated boards of the teaching kit, told step by step
  npm start -- --device ekpqc --eve         the same with Eve between them: errors in a quarter of the bits, no key

Exit codes: 0 equal (or ended by Ctrl+C), 13 the keys of the sites differ.`,
    )
    .action(async (options: DemoFlags) => {
      checkLesson(options)
      if (options.json === true && options.keys === undefined) {
        throw new GatewayError('E_USAGE', '--json prints its document at the end, so it needs --keys')
      }
      const { findFault, runDemo } = await import('../demo/run.js')
      // The emulated units send 20 frames a second; a minute is for starting and for a fault.
      const { speed = 5 } = options
      const lesson = options.device === 'ekpqc' ? { speed, eve: options.eve === true } : undefined
      const msPerKey = lesson === undefined ? 200 : MS_PER_LESSON_KEY / speed + 20_000
      const timeoutMs =
        options.timeout === undefined ? 90_000 + (options.keys ?? 0) * msPerKey : options.timeout * 1_000
      const result = await runDemo(
        {
          keys: options.keys,
          fault: options.fault === undefined ? undefined : findFault(options.fault),
          lesson,
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
