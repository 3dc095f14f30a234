import { mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, unlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { systemClock } from '../../src/base/clock.js'
import { resolvePath, stableNameOf, watchPath } from '../../src/io/watch.js'

let folder = ''
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'qkd-gw-watch-'))
})
afterEach(() => rmSync(folder, { recursive: true }))

/** Watches and gives each call in turn. */
function watching(path: string): { next: () => Promise<boolean>; stop: () => void } {
  const queue: boolean[] = []
  let wake: ((present: boolean) => void) | undefined
  const stop = watchPath(
    path,
    (present) => {
      if (wake === undefined) queue.push(present)
      else wake(present)
      wake = undefined
    },
    { clock: systemClock, pollMs: 50 },
  )
  return {
    stop,
    next: () => {
      const first = queue.shift()
      return first === undefined ? new Promise((resolve) => (wake = resolve)) : Promise.resolve(first)
    },
  }
}

it('tells when a path appears, points elsewhere and vanishes, also in a folder that was not there', async () => {
  const link = join(folder, 'serial', 'by-id', 'usb-unit')
  const nodes = ['ttyUSB0', 'ttyUSB1'].map((name) => join(folder, name))
  for (const node of nodes) writeFileSync(node, '')
  const [first = '', second = ''] = nodes
  const watch = watching(link)
  mkdirSync(join(folder, 'serial', 'by-id'), { recursive: true })
  symlinkSync(first, link)
  expect(await watch.next()).toBe(true)
  symlinkSync(second, `${link}.new`)
  renameSync(`${link}.new`, link)
  expect(await watch.next()).toBe(true)
  expect(resolvePath(link)).toBe(second)
  unlinkSync(second)
  expect(await watch.next()).toBe(false)
  writeFileSync(second, '')
  expect(await watch.next()).toBe(true)
  unlinkSync(link)
  expect(await watch.next()).toBe(false)
  watch.stop()
})

it('finds the stable name of a node, and takes none for an answer where there is no such folder', () => {
  const node = join(folder, 'ttyUSB3')
  writeFileSync(node, '')
  const byId = join(folder, 'by-id')
  expect(stableNameOf(node, byId)).toBeUndefined()
  mkdirSync(byId)
  expect(stableNameOf(node, byId)).toBeUndefined()
  symlinkSync(node, join(byId, 'usb-Acme_Unit_7-if00'))
  expect(stableNameOf(node, byId)).toBe(join(byId, 'usb-Acme_Unit_7-if00'))
  expect(stableNameOf(join(byId, 'usb-Acme_Unit_7-if00'), byId)).toBe(join(byId, 'usb-Acme_Unit_7-if00'))
  expect(stableNameOf(join(folder, 'ttyUSB9'), byId)).toBeUndefined()
})
