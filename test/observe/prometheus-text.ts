/** A strict reader of Prometheus's text form 0.0.4: throws for what a scraper would refuse or warn of. */

export interface Metric {
  readonly type: string
  readonly help: string
  readonly samples: readonly Sample[]
}

export interface Sample {
  readonly name: string
  readonly labels: Readonly<Record<string, string>>
  readonly value: number
}

const namePattern = /^[a-zA-Z_:][a-zA-Z0-9_:]*$/
const samplePattern = /^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)$/
const labelPattern = /([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(?:,|$)/gy
const types = new Set(['counter', 'gauge', 'histogram', 'summary', 'untyped'])
const suffixes: Readonly<Record<string, readonly string[]>> = {
  histogram: ['_bucket', '_sum', '_count'],
  summary: ['', '_sum', '_count'],
}

function labelsOf(text: string, line: string): Record<string, string> {
  const labels: Record<string, string> = {}
  labelPattern.lastIndex = 0
  let end = 0
  for (let match = labelPattern.exec(text); match !== null && match[0] !== ''; match = labelPattern.exec(text)) {
    const [, name = '', value = ''] = match
    if (name in labels) throw new Error(`a label twice: ${line}`)
    labels[name] = value
    end = labelPattern.lastIndex
    if (end === text.length) break
  }
  if (end !== text.length) throw new Error(`labels that cannot be read: ${line}`)
  return labels
}

function numberOf(text: string, line: string): number {
  if (text === '+Inf' || text === 'Nan' || text === 'NaN' || text === '-Inf') {
    return text.endsWith('Inf') ? (text.startsWith('-') ? -Infinity : Infinity) : NaN
  }
  const value = Number(text)
  if (Number.isNaN(value)) throw new Error(`no number: ${line}`)
  return value
}

/** Every metric by its name. */
export function parsePrometheus(text: string): ReadonlyMap<string, Metric> {
  if (!text.endsWith('\n')) throw new Error('the last line has no end')
  const metrics = new Map<string, { type: string; help: string; samples: Sample[] }>()
  const series = new Set<string>()
  let present: { name: string; type: string; help: string; samples: Sample[] } | undefined
  for (const line of text.split('\n')) {
    if (line === '') continue
    const [, keyword, name = '', rest = ''] = /^# (HELP|TYPE) (\S+) (.*)$/.exec(line) ?? []
    if (keyword === 'HELP') {
      if (!namePattern.test(name) || metrics.has(name)) throw new Error(`a second or impossible name: ${line}`)
      if (rest === '') throw new Error(`no help: ${line}`)
      present = { name, type: '', help: rest, samples: [] }
      metrics.set(name, present)
      continue
    }
    if (keyword === 'TYPE') {
      if (present?.name !== name || present.type !== '') throw new Error(`a type without its help: ${line}`)
      if (!types.has(rest)) throw new Error(`no such type: ${line}`)
      // The default metrics of the process have gauges of that name; ours have none.
      const total = name.endsWith('_total')
      if (rest === 'counter' ? !total : total && name.startsWith('qkdgw_')) {
        throw new Error(`a counter ends in _total, and nothing else does: ${line}`)
      }
      present.type = rest
      continue
    }
    if (line.startsWith('#')) continue
    const [, sample = '', labelText = '', value = ''] = samplePattern.exec(line) ?? []
    const owner = present
    const fits = (suffixes[owner?.type ?? ''] ?? ['']).some((suffix) => sample === `${owner?.name}${suffix}`)
    if (owner === undefined || owner.type === '' || !fits) throw new Error(`a sample out of place: ${line}`)
    const labels = labelsOf(labelText, line)
    const key = `${sample}${JSON.stringify(Object.entries(labels).sort())}`
    if (series.has(key)) throw new Error(`a series twice: ${line}`)
    series.add(key)
    owner.samples.push({ name: sample, labels, value: numberOf(value, line) })
  }
  return metrics
}

/** The value of the only sample with these labels; undefined where there is none. */
export function valueOf(
  metrics: ReadonlyMap<string, Metric>,
  name: string,
  labels: Readonly<Record<string, string>> = {},
): number | undefined {
  const fits = (sample: Sample): boolean =>
    Object.entries(labels).every(([label, value]) => sample.labels[label] === value)
  return metrics.get(name)?.samples.find(fits)?.value
}

export function sumOf(metrics: ReadonlyMap<string, Metric>, name: string): number {
  return (metrics.get(name)?.samples ?? []).reduce((sum, { value }) => sum + value, 0)
}

/** Whether a scrape accounts for every key that the device gave. */
export function keysAddUp(metrics: ReadonlyMap<string, Metric>): boolean {
  const parts = ['qkdgw_keys_delivered_total', 'qkdgw_keys_held', 'qkdgw_keys_sacrificed_total']
  const accounted = parts.reduce((sum, name) => sum + (valueOf(metrics, name) ?? NaN), 0)
  return valueOf(metrics, 'qkdgw_keys_received_total') === accounted + sumOf(metrics, 'qkdgw_keys_dropped_total')
}
