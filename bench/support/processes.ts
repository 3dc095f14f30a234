import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { startCli } from '../../test/support/cli.js'

const ticksPerSecond = Number(execFileSync('getconf', ['CLK_TCK'], { encoding: 'utf8' }))

/** CPU time that a process has used so far, user and system, ms. */
export function cpuMs(pid: number): number {
  // The name in parentheses may hold spaces: what counts begins after it.
  const fields = readFileSync(`/proc/${pid}/stat`, 'latin1')
    .replace(/^.*\) /s, '')
    .split(' ')
  return ((Number(fields[11]) + Number(fields[12])) * 1_000) / ticksPerSecond
}

/** An emulated QIX unit as a process of its own; resolves with its path. */
export async function startUnitProcess(pair: string, rate: number): Promise<string> {
  const unit = startCli(['emulate', 'qix', '--pair', pair, '--rate', String(rate), '--json'])
  return unit.line('ready', (line) =>
    line['event'] === 'ready' && typeof line['path'] === 'string' ? line['path'] : undefined,
  )
}
