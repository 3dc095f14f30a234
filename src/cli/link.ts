import type { Command } from 'commander'
import { EXIT } from '../base/error-codes.js'
import { GatewayError } from '../base/errors.js'
import type { AuditResult, SiteEvidence } from '../link/audit.js'
import type { CliEnvironment } from './environment.js'

interface AuditFlags {
  json?: boolean
  spendKey?: boolean
  siteAgents?: string
}

/** `qkd-gw link audit`: do the two sites of a link hold the same keys? */
export function addLinkCommand(program: Command, env: CliEnvironment): void {
  const link = program.command('link').description('what the two ends of a link hold, and what to do where they differ')
  link
    .command('audit')
    .description('say in one line whether the two sites of a link hold the same keys')
    .argument('<siteA>', "journal of one end's gateway (<id>.journal in its state folder), or that folder")
    .argument('<siteB>', 'the same of the other end; copy it here if it is on another machine')
    .option('--json', 'for machines: {"verdict", "sentence", "firstDifferingKey", "keys", "spentKey"}')
    .option('--spend-key', 'take one key at the first SiteAgent and the same one at the second, and compare them')
    .option('--site-agents <A,B>', 'host:port of both SiteAgents, for --spend-key')
    .addHelpText(
      'after',
      '\nExit codes: 0 the sites agree, 11 it cannot be told now (owed, on its way, unknown), 13 the keys differ.\n',
    )
    .action(async (siteA: string, siteB: string, flags: AuditFlags) => {
      const auditing = await import('../link/audit.js')
      const [a, b] = await Promise.all([evidence('A', siteA), evidence('B', siteB)])
      const result = auditing.audit(a, b)
      const spent = flags.spendKey === true ? await spendKey(flags, env) : undefined
      show(result, spent, flags.json === true, env)
    })
  link
    .command('accept-divergence')
    .description('let keys flow again although the two stores have parted; both sites drop what is unsettled')
    .option('--state-folder <folder>', 'the state folder of the gateway (default: as for attach)')
    .requiredOption('--id <device id>', 'the gateway of this device')
    .action(async (flags: { stateFolder?: string; id: string }) => {
      const { askGateway, statusSocketPath } = await import('../gateway/status-socket.js')
      const { defaultStateFolder } = await import('../gateway/state-folder.js')
      const folder = flags.stateFolder ?? defaultStateFolder(env.env)
      await askGateway(statusSocketPath(folder, flags.id), { request: 'acceptDivergence' })
      env.stdout.write('accepted: keys flow again once both gateways are connected\n')
    })
}

async function evidence(name: string, given: string): Promise<SiteEvidence> {
  const { statSync, readdirSync } = await import('node:fs')
  const paths = await import('node:path')
  const { fileJournal } = await import('../link/journal.js')
  const info = statSync(given, { throwIfNoEntry: false })
  if (info === undefined) throw new GatewayError('E_USAGE', `${given}: there is no such file or folder`)
  let path = given
  if (info.isDirectory()) {
    const journals = readdirSync(given).filter((file) => file.endsWith('.journal'))
    const [only] = journals
    if (only === undefined || journals.length > 1) {
      throw new GatewayError('E_USAGE', `${given}: ${journals.length} journals where one is expected`, {
        remedy: journals.length === 0 ? 'name the state folder of a gateway' : `name one of ${journals.join(', ')}`,
      })
    }
    path = paths.join(given, only)
  }
  const journal = fileJournal(path).load()
  if (journal === undefined) throw new GatewayError('E_USAGE', `${path}: this journal is empty`)
  return { name, journal }
}

interface SpentKey {
  keyId: string
  equal: boolean
}

/** Takes one key out of both stores. Its value is compared here and never shown. */
async function spendKey({ siteAgents }: AuditFlags, env: CliEnvironment): Promise<SpentKey> {
  const [addressA, addressB, more] = siteAgents?.split(',') ?? []
  if (addressA === undefined || addressB === undefined || more !== undefined) {
    throw new GatewayError('E_USAGE', '--spend-key needs --site-agents A,B: host:port of both SiteAgents')
  }
  const { timingSafeEqual } = await import('node:crypto')
  const { wipe } = await import('../base/wipe.js')
  const { unary } = await import('../rpc/bridge.js')
  const { openChannel } = await import('../rpc/channel.js')
  const { IKey } = await import('../rpc/gen/cqp/remote/keys_pb.js')
  const { ISiteAgent } = await import('../rpc/gen/cqp/remote/site_pb.js')
  const a = await openChannel({ address: addressA, what: '--site-agents' })
  const b = await openChannel({ address: addressB, what: '--site-agents' })
  try {
    const options = { deadlineMs: 35_000, signal: env.signal }
    const [siteA, siteB] = await Promise.all(
      [a, b].map(
        async ({ client }) => (await unary(client, ISiteAgent.method.getSiteDetails, {}, options)).message.url,
      ),
    )
    const { message: first } = await unary(a.client, IKey.method.getSharedKey, { siteTo: siteB ?? '' }, options)
    const opt = { case: 'keyId' as const, value: first.keyId }
    const { message: second } = await unary(b.client, IKey.method.getSharedKey, { siteTo: siteA ?? '', opt }, options)
    const [valueA, valueB] = [first.keyValue, second.keyValue]
    const equal = valueA.length > 0 && valueA.length === valueB.length && timingSafeEqual(valueA, valueB)
    wipe(valueA, valueB)
    return { keyId: first.keyId.toString(), equal }
  } finally {
    await Promise.all([a.close(), b.close()])
  }
}

function show(result: AuditResult, spent: SpentKey | undefined, json: boolean, env: CliEnvironment): void {
  const differ = result.verdict === 'differ' || spent?.equal === false
  if (json) {
    const document = {
      verdict: differ ? 'differ' : result.verdict,
      sentence: result.sentence,
      ...(result.firstDifferingKey === undefined ? {} : { firstDifferingKey: result.firstDifferingKey.toString() }),
      ...(result.keys === undefined ? {} : { keys: result.keys }),
      ...(spent === undefined ? {} : { spentKey: spent }),
    }
    env.stdout.write(`${JSON.stringify(document)}\n`)
  } else {
    const compared =
      spent === undefined ? '' : `; key ${spent.keyId}, taken at both, is ${spent.equal ? 'the same' : 'NOT the same'}`
    env.stdout.write(`${result.sentence}${compared}\n`)
  }
  if (differ) env.setExitCode(EXIT.keysDiffer)
  else if (result.verdict !== 'agree') env.setExitCode(EXIT.checkFailed)
}
