import { startCli } from '../../test/support/cli.js'

/** An emulated QIX unit as a process of its own; resolves with its path. */
export async function startUnitProcess(pair: string, rate: number): Promise<string> {
  const unit = startCli(['emulate', 'qix', '--pair', pair, '--rate', String(rate), '--json'])
  return unit.line('ready', (line) =>
    line['event'] === 'ready' && typeof line['path'] === 'string' ? line['path'] : undefined,
  )
}
