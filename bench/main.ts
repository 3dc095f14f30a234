/**
 * `npm run bench [-- --json] [SUITE …]`: figures of this machine, as a table or as one JSON document on stdout. They say
 * how things compare within one run; nothing passes or fails by them.
 */
import { existsSync } from 'node:fs'
import { cpus, loadavg } from 'node:os'
import process from 'node:process'
import { parseArgs } from 'node:util'
import Table from 'cli-table3'
import type { Figure, Suite } from './support/figures.js'

/** In this order; a suite whose file is not there yet is passed over. */
const known = ['chain', 'tunnel', 'link', 'codecs', 'tdc1', 'latency'] as const

const { values, positionals } = parseArgs({
  options: { json: { type: 'boolean', default: false } },
  allowPositionals: true,
})
const unknown = positionals.filter((name) => !known.some((suite) => suite === name))
if (unknown.length > 0) {
  process.stderr.write(`no suite ${unknown.join(', ')}; there are: ${known.join(', ')}\n`)
  process.exit(2)
}
const wanted = positionals.length === 0 ? known : known.filter((suite) => positionals.includes(suite))

interface Result {
  suite: string
  figures: Figure[]
  error?: string
}

/** 1234567 → "1,234,567"; 0.123456 → "0.123". */
function shown(value: number): string {
  if (Number.isNaN(value)) return '-'
  if (Math.abs(value) >= 1_000) return Math.round(value).toLocaleString('en')
  return String(Number(value.toPrecision(3)))
}

// What else the machine does falls on every figure.
const loadBefore = Math.round((loadavg()[0] ?? 0) * 10) / 10
const results: Result[] = []
for (const name of wanted) {
  const file = new URL(`./${name}.ts`, import.meta.url)
  if (!existsSync(file)) continue
  process.stderr.write(`${name} …\n`)
  try {
    const suite = (await import(file.href)) as Suite
    const figures = await suite.run()
    results.push({ suite: name, figures })
    if (figures.some(({ value }) => Number.isNaN(value))) process.exitCode = 1
  } catch (error) {
    const text = error instanceof Error ? error.message : String(error)
    process.stderr.write(`${name}: ${text}\n`)
    results.push({ suite: name, figures: [], error: text })
    process.exitCode = 1
  }
}

const machine = {
  node: process.version,
  platform: `${process.platform} ${process.arch}`,
  cpus: cpus().length,
  loadBefore,
}
if (values.json) {
  process.stdout.write(`${JSON.stringify({ machine, suites: results }, null, 2)}\n`)
} else {
  const table = new Table({ head: ['figure', 'value', 'unit', 'note'], style: { head: [], border: [] } })
  for (const { figures } of results) {
    for (const { name, value, unit, note } of figures) table.push([name, shown(value), unit, note ?? ''])
  }
  process.stdout.write(
    `${machine.node}, ${machine.platform}, ${machine.cpus} CPUs, load ${machine.loadBefore} before the start\n${table.toString()}\n`,
  )
}
// What a library still holds open must not keep a finished bench from ending.
process.exit(process.exitCode ?? 0)
