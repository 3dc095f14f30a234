import { Argument, type Command } from 'commander'
import { GatewayError } from '../base/errors.js'
import type { CliEnvironment } from './environment.js'
import { siteActions, type SiteAction, type SiteFlags } from './site-flags.js'

function number(option: string, least: number): (text: string) => number {
  return (text) => {
    const value = Number(text)
    if (!Number.isFinite(value) || value < least) {
      throw new GatewayError('E_USAGE', `${option} ${text}: a number from ${least} is wanted`)
    }
    return value
  }
}

function keyNumber(text: string): bigint {
  if (!/^(0x[0-9a-f]+|\d+)$/i.test(text)) {
    throw new GatewayError('E_USAGE', `--key-id ${text}: a number is wanted, decimal or 0x…`)
  }
  return BigInt(text)
}

/** `qkd-gw site`: the everyday work with a SiteAgent. */
export function addSiteCommand(program: Command, env: CliEnvironment): void {
  program
    .command('site')
    .description('ask and steer a SiteAgent: what it knows, start and stop links, keys, statistics')
    .argument('<address>', 'the SiteAgent, host:port')
    .addArgument(new Argument('<action>', 'what to do').choices(siteActions))
    .argument('[what]', 'the other SiteAgent (join, unjoin, keep-up, key), or a device id (unregister)')
    .option('--json', 'print JSON: one document, or one line each for keep-up and stats')
    .option('--csv', 'stats: comma-separated values')
    .option('--id <id>', 'device at this site; default: the first that fits one of the other site')
    .option('--other-id <id>', 'device at the other site')
    .option('--key-id <n>', 'key: the key with this number, and not a fresh one', keyNumber)
    .option(
      '--filter <path>',
      'stats: only this, root first, parts joined by "/", for example "Key Generation/Key Generated"; repeat for several',
      (text: string, before: readonly string[]) => [...before, text],
      [] as readonly string[],
    )
    .option('--exclude', 'stats: everything but what --filter names')
    .option('--rate <ms>', 'stats: at most one report in so many milliseconds', number('--rate', 0), 0)
    .option('--seconds <s>', 'stats, keep-up: end after so long', number('--seconds', 0))
    .option('--timeout <s>', 'how long one call may take', number('--timeout', 0.1), 15)
    .option(
      '--stalled-after <s>',
      'keep-up: start again when no key has come for so long; 0 for never',
      number('--stalled-after', 0),
      120,
    )
    .option('--static', 'keep-up: a static link, started again by registering its left device anew')
    .option('-s, --tls', 'the SiteAgent speaks TLS')
    .option('--rootca <file>', 'certificates of the authorities that it is checked against')
    .option('--cert <file>', 'own certificate, to show if asked')
    .option('--key <file>', "own certificate's private key")
    .addHelpText(
      'after',
      `
Actions:
  details              its own address, its devices, its key stores
  devices              its devices
  join OTHER           start the link between a device here and one at OTHER (same kind, Alice's site is the left one)
  unjoin OTHER         stop it
  keep-up OTHER        start it, and start it again whenever keys stop
  key OTHER            a key shared with OTHER, fresh or by --key-id; OTHER may be a pkcs11: address as shown with a key
  stats                its statistics, as they come
  unregister ID        take every registration of a device away

How keep-up starts a link again:
  C++ SiteAgent        EndKeyExchange, then StartNode, at the left site with the whole path
  Java SiteAgent       StartNode at the left site, with a deadline: a success is never answered
  static link          with --static: the left device's registration is taken away and made anew, as it was

The sites' own spelling of their addresses is looked up, not typed.

Examples:
  qkd-gw site 45.55.2.5:8000 details
  qkd-gw site 45.55.2.5:8000 join 104.131.5.7:8000
  qkd-gw site 45.55.2.5:8000 key 104.131.5.7:8000 --key-id 17`,
    )
    .action(async (address: string, action: SiteAction, what: string | undefined, flags: SiteFlags) => {
      const { runSiteAction } = await import('./site-actions.js')
      await runSiteAction({ address, action, what, flags, env })
    })
}
