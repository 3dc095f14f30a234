import { readdirSync, readFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'

const root = fileURLToPath(new URL('../../', import.meta.url))
const page = readFileSync(join(root, 'docs/siteagents.md'), 'utf8')
/** Sources of tests by file name; several folders may have one of a name. */
const sources = new Map<string, string>()
for (const file of readdirSync(join(root, 'test'), { recursive: true, encoding: 'utf8' })) {
  if (!file.endsWith('.test.ts')) continue
  const name = basename(file)
  sources.set(name, (sources.get(name) ?? '') + readFileSync(join(root, 'test', file), 'utf8'))
}

/** Every “title” of a table row, with the file that it follows. */
const named = [...page.matchAll(/`([\w-]+\.test\.ts)`: ((?:“[^”]+”(?:, )?)+)/g)].flatMap(([, file = '', titles = '']) =>
  [...titles.matchAll(/“([^”]+)”/g)].map(([, title = '']) => ({ file, title })),
)

test('every test that docs/siteagents.md names is there, by file and title', () => {
  expect(named.length).toBeGreaterThan(50)
  const missing = named.filter(({ file, title }) => sources.get(file)?.includes(title) !== true)
  expect(missing).toEqual([])
})

test('every row about a behaviour names a test', () => {
  const rows = page.slice(page.indexOf('## How the C++')).match(/^\| .+ \|$/gm) ?? []
  const bare = rows.filter((row) => !/^\| (behaviour|-+) +\|/.test(row) && !row.includes('.test.ts`: “'))
  expect(bare).toEqual([])
})
