import type { Command } from 'commander'
import pc from 'picocolors'
import { EXIT } from '../base/error-codes.js'
import { GatewayError } from '../base/errors.js'
import type { PartStatus } from '../observe/status.js'
import type { GatewayStatus } from '../gateway/status-socket.js'
import { age } from './age.js'
import type { CliEnvironment } from './environment.js'
import { keysLine, linkLines } from './status-link.js'

const good = new Set(['producing', 'serving', 'proven', 'registered', 'started', 'delivering', 'idle'])
const bad = new Set(['needs-attention', 'diverged', 'down', 'failed', 'absent', 'mismatch', 'stopped', 'busy'])

function colour(state: string): string {
  if (good.has(state)) return pc.green(state)
  return bad.has(state) ? pc.red(state) : pc.yellow(state)
}

const indent = ' '.repeat(16)
/** Shown in words, or with the keys. */
const told = new Set([
  ...['received', 'delivered', 'held', 'sacrificed', 'sacrificedPercent', 'dropped', 'owedHere', 'owedThere', 'stages'],
  ...['proposed', 'verified', 'inFlight', 'inDoubt', 'siteTotal', 'lastConfirmedMs', 'otherTotal', 'otherConfirmedMs'],
  ...['skewMs', 'skewMaxMs'],
])

function partLines(name: string, part: PartStatus, status: GatewayStatus, nowMs: number): string {
  const lines = [`  ${name.padEnd(13)} ${colour(part.state)}  since ${age(nowMs - part.sinceMs)}`]
  if (part.reason !== undefined && part.reason !== '') lines.push(`${indent}${part.reason}`)
  if (part.needs !== undefined) lines.push(`${indent}${pc.bold('needs')} ${part.needs}`)
  if (name === 'link') lines.push(...linkLines(part, status.counts, nowMs).map((line) => `${indent}${line}`))
  const facts = Object.entries(part.facts ?? {}).filter(
    ([key, value]) => value !== undefined && value !== '' && !(name === 'link' && told.has(key)),
  )
  if (facts.length > 0) {
    const shown = facts.map(
      ([key, value]) => `${key} ${typeof value === 'object' ? JSON.stringify(value) : String(value)}`,
    )
    lines.push(pc.dim(`${indent}${shown.join(' · ')}`))
  }
  return lines.join('\n')
}

/** One gateway's status for a person. */
export function renderStatus(status: GatewayStatus, nowMs: number): string {
  const head = `${pc.bold(status.id)}  ${status.device}  (pid ${status.pid}, up ${age(nowMs - status.startedAtMs)})`
  const parts = Object.entries(status.parts).map(([name, part]) => partLines(name, part, status, nowMs))
  const discarded = Object.entries(status.counts['discardedByDevice'] ?? {})
  const keys = [
    keysLine(status.counts),
    ...(discarded.length === 0
      ? []
      : [`withheld by the device: ${discarded.map(([reason, count]) => `${String(count)} ${reason}`).join(', ')}`]),
  ]
  const warnings = status.warnings.map((warning) => pc.yellow(`  ! ${warning}`))
  return [head, ...parts, `  ${'keys'.padEnd(13)} ${keys.join(`\n${indent}`)}`, ...warnings].join('\n')
}

/** `qkd-gw status`: asks every running gateway of the state folder over its local socket. */
export function addStatusCommand(program: Command, env: CliEnvironment): void {
  program
    .command('status')
    .description('where each part of the chain stands, since when, why, and what it needs')
    .option('--state-folder <folder>', 'the state folder of the gateway (default: as for attach)')
    .option('--id <device id>', 'only the gateway of this device')
    .option('--json', 'for machines: {"gateways": [...]}')
    .addHelpText('after', '\nExit codes: 0 at least one gateway answered, 12 none runs.\n')
    .action(async (options: { stateFolder?: string; id?: string; json?: boolean }) => {
      const { askGateway, statusSockets } = await import('../gateway/status-socket.js')
      const { defaultStateFolder } = await import('../gateway/state-folder.js')
      const folder = options.stateFolder ?? defaultStateFolder(env.env)
      const gateways: GatewayStatus[] = []
      for (const path of statusSockets(folder)) {
        try {
          const status = (await askGateway(path, { request: 'status' })) as GatewayStatus
          if (options.id === undefined || status.id === options.id) gateways.push(status)
        } catch {
          // A socket whose process is gone.
        }
      }
      if (options.json === true) env.stdout.write(`${JSON.stringify({ gateways }, null, 2)}\n`)
      if (gateways.length === 0) {
        if (options.json === true) return env.setExitCode(EXIT.notRunning)
        throw new GatewayError('E_NOT_RUNNING', `no gateway runs with the state folder ${folder}`, {
          remedy: 'start one with qkd-gw attach, or name its folder with --state-folder',
        })
      }
      if (options.json !== true) {
        env.stdout.write(`${gateways.map((status) => renderStatus(status, env.clock.nowMs())).join('\n\n')}\n`)
      }
    })
}
