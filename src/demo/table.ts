/** What a person sees while the demonstration runs: one small table and the latest news. */
import Table from 'cli-table3'
import pc from 'picocolors'
import type { PartStatus } from '../observe/status.js'
import type { GatewayStatus } from '../gateway/status-socket.js'
import type { SiteName } from './site.js'

export interface SiteView {
  name: SiteName
  status: GatewayStatus | undefined
  /** Keys that the SiteAgent has received. */
  keys: number
  keysPerSecond: number
}

export interface Comparison {
  /** The first so many keys of both sites were compared. */
  keys: number
  identical: boolean
}

function cell(part: PartStatus | undefined): string {
  if (part === undefined) return pc.dim('–')
  const well = ['producing', 'serving', 'proven', 'registered', 'started', 'delivering'].includes(part.state)
  return well ? pc.green(part.state) : pc.yellow(part.state)
}

function verdict(comparison: Comparison | undefined): string {
  if (comparison === undefined || comparison.keys === 0) return pc.dim('no keys to compare yet')
  return comparison.identical
    ? pc.green(`the first ${comparison.keys} keys of both SiteAgents are equal in value and order`)
    : pc.red(`the first ${comparison.keys} keys of the two SiteAgents DIFFER`)
}

/** The whole picture as lines of text. */
export function renderDemo(
  sites: readonly SiteView[],
  comparison: Comparison | undefined,
  news: readonly string[],
  elapsedMs: number,
): string {
  const table = new Table({
    head: ['site', 'device', 'tunnel', 'registration', 'session', 'keys at SiteAgent', 'keys/s'],
    style: { head: ['bold'], border: [] },
  })
  for (const site of sites) {
    const parts = site.status?.parts
    table.push([
      site.name,
      cell(parts?.['device']),
      cell(parts?.['tunnel']),
      cell(parts?.['registration']),
      cell(parts?.['session']),
      String(site.keys),
      site.keysPerSecond.toFixed(1),
    ])
  }
  const lines = [
    `after ${(elapsedMs / 1_000).toFixed(1)} s: ${verdict(comparison)}`,
    table.toString(),
    ...news.slice(-8),
  ]
  return lines.join('\n')
}

/** Redraws in place on a terminal; elsewhere prints the picture now and then. */
export class Screen {
  #linesDrawn = 0
  #lastPrintMs = -Infinity

  constructor(private readonly out: NodeJS.WriteStream) {}

  draw(text: string, nowMs: number): void {
    if (this.out.isTTY) {
      if (this.#linesDrawn > 0) this.out.write(`\x1b[${this.#linesDrawn}A\x1b[0J`)
      this.out.write(`${text}\n`)
      this.#linesDrawn = text.split('\n').length
      return
    }
    if (nowMs - this.#lastPrintMs < 5_000) return
    this.#lastPrintMs = nowMs
    this.out.write(`${text}\n\n`)
  }

  /** The last picture, whole, also where there is no terminal. */
  finish(text: string): void {
    this.#lastPrintMs = -Infinity
    this.draw(text, 0)
  }
}
