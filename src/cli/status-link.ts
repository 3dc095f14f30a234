/** The link of one gateway in plain words: the keys, both SiteAgents, what is under way, what verifying costs. */
import type { JsonValue, PartStatus } from '../observe/status.js'
import { DROP_REASONS } from '../link/counts.js'
import { age } from './age.js'

type Fields = Readonly<Record<string, JsonValue | undefined>>

const stageWords: Readonly<Record<string, string>> = {
  proposed: 'being verified',
  verified: 'verified',
  onItsWay: 'on its way to this SiteAgent',
  ahead: 'here, not yet there',
  due: 'there, not yet here',
  inDoubt: 'of unknown fate at this SiteAgent',
}

function fieldsOf(value: JsonValue | undefined): Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? value : {}
}

function grouped(value: JsonValue | undefined): string {
  return typeof value === 'number' || typeof value === 'string' ? BigInt(value).toLocaleString('en') : '0'
}

/** "1,234 received = 1,100 delivered + 30 held + 80 sacrificed + 24 dropped (…)". */
export function keysLine(counts: Fields): string {
  const dropped = Object.entries(fieldsOf(counts['dropped']))
  const lost = dropped.reduce((sum, [, keys]) => sum + BigInt(Number(keys)), 0n)
  const why = dropped.map(([reason, keys]) => {
    const known = Object.entries(DROP_REASONS).find(([name]) => name === reason)
    return `${grouped(keys)} ${reason}${known === undefined ? '' : `: ${known[1]}`}`
  })
  return (
    `${grouped(counts['received'])} received = ${grouped(counts['delivered'])} delivered + ${grouped(counts['held'])} held` +
    ` + ${grouped(counts['sacrificed'])} sacrificed + ${lost.toLocaleString('en')} dropped${why.length === 0 ? '' : ` (${why.join('; ')})`}`
  )
}

function siteText(name: string, total: JsonValue | undefined, atMs: JsonValue | undefined, nowMs: number): string {
  const keys = total === undefined ? 'tells no total' : `${grouped(total)} keys`
  const confirmed = typeof atMs === 'number' ? `confirmed ${age(nowMs - atMs)} ago` : 'not confirmed yet'
  return `${name} ${keys}, ${confirmed}`
}

function skewText({ skewMs, skewMaxMs }: Fields): string {
  if (typeof skewMs !== 'number') return ''
  return `; the last batch came to them ${skewMs} ms apart${typeof skewMaxMs === 'number' ? `, at most ${skewMaxMs} ms lately` : ''}`
}

/** Lines below the link's own state. */
export function linkLines(link: PartStatus, counts: Fields, nowMs: number): string[] {
  const facts: Fields = link.facts ?? {}
  const lines = [
    `SiteAgents: ${siteText('this one', facts['siteTotal'], facts['lastConfirmedMs'], nowMs)}; ` +
      `${siteText('the other one', facts['otherTotal'], facts['otherConfirmedMs'], nowMs)}${skewText(facts)}`,
  ]
  const stages = Object.entries(fieldsOf(facts['stages'])).flatMap(([stage, value]) => {
    const { batches, keys } = fieldsOf(value)
    return Number(batches) > 0 ? [`${Number(batches)} (${grouped(keys)} keys) ${stageWords[stage] ?? stage}`] : []
  })
  lines.push(`batches: ${stages.length === 0 ? 'none under way' : stages.join('; ')}`)
  const percent = facts['sacrificedPercent']
  if (typeof percent === 'number') {
    const rate = Number(counts['sacrificedPerSecond'] ?? 0)
    lines.push(`given up to verify the others: ${percent} % of the keys, ${rate} keys/s of late`)
  }
  const owed = [
    ...(Number(facts['owedHere']) > 0 ? [`this SiteAgent is owed ${grouped(facts['owedHere'])} keys`] : []),
    ...(Number(facts['owedThere']) > 0 ? [`the other SiteAgent is owed ${grouped(facts['owedThere'])} keys`] : []),
  ]
  if (owed.length > 0) lines.push(owed.join('; '))
  return lines
}
