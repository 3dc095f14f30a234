import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync, appendFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { DurableState } from '../../src/link/agreement/durable.js'
import { systemClock } from '../../src/base/clock.js'
import { systemRandom } from '../../src/base/random.js'
import { JournalWriter } from '../../src/link/journal-writer.js'
import { decodeJournal, fileJournal, type JournalStore, memoryJournal } from '../../src/link/journal.js'
import { silentLogger } from '../../src/observe/log.js'
import { type Gateway, offer, startGateway, startSession, until } from './bench.js'

let folder = ''

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'journal-'))
})

afterEach(() => {
  rmSync(folder, { recursive: true, force: true })
})

function state(serial: number): DurableState {
  return {
    lineage: 'ab'.repeat(16),
    settled: serial,
    position: serial * 10,
    nextSerial: serial + 1,
    ahead: [{ serial: serial + 1, count: 3 }],
    sending: [
      { serial: serial + 2, count: 4, order: 'follow' },
      { serial: serial + 3, count: 5, order: 'follow', foreseen: true },
    ],
    total: 2n ** 60n + BigInt(serial),
    ...{ store: 'cd', empty: true, stores: { mine: 'cd', theirs: 'ef' } },
    offset: -5n,
    diverged: { firstDifferingKey: 2n ** 63n, reason: 'because' },
    accepting: false,
  }
}

describe('the journal', () => {
  it('gives back the last record, with exact 64-bit numbers, and is for its user alone', async () => {
    const path = join(folder, 'link.journal')
    const journal = fileJournal(path)
    expect(journal.load()).toBeUndefined()
    await journal.append({ atMs: 1, state: state(1) }, true)
    await journal.append({ atMs: 2, state: state(2) }, false)
    await journal.close()
    expect(fileJournal(path).load()).toEqual({ atMs: 2, state: state(2) })
    expect(statSync(path).mode & 0o777).toBe(0o600)
  })

  it('loses nothing but the torn line of a process that died while it wrote', async () => {
    const path = join(folder, 'link.journal')
    const journal = fileJournal(path)
    await journal.append({ atMs: 1, state: state(1) }, true)
    await journal.close()
    appendFileSync(path, '{"v":1,"atMs":2,"linea')
    const again = fileJournal(path)
    expect(again.load()).toEqual({ atMs: 1, state: state(1) })
    await again.append({ atMs: 3, state: state(3) }, true)
    await again.close()
    expect(fileJournal(path).load()).toEqual({ atMs: 3, state: state(3) })
  })

  it('skips records that a newer one has overtaken before they were written', async () => {
    const path = join(folder, 'link.journal')
    const journal = fileJournal(path)
    const written = [1, 2, 3, 4].map((serial) => journal.append({ atMs: serial, state: state(serial) }, serial === 2))
    await Promise.all(written)
    expect(decodeJournal(readFileSync(path, 'utf8')).map(({ atMs }) => atMs)).toEqual([4])
    await journal.append({ atMs: 5, state: state(5) }, false)
    await journal.close()
    expect(decodeJournal(readFileSync(path, 'utf8')).map(({ atMs }) => atMs)).toEqual([4, 5])
  })

  it('stays small', async () => {
    const path = join(folder, 'link.journal')
    const journal = fileJournal(path)
    for (let serial = 0; serial < 2_000; serial += 1)
      await journal.append({ atMs: serial, state: state(serial) }, serial % 2 === 0)
    await journal.close()
    expect(statSync(path).size).toBeLessThan(400_000)
    expect(fileJournal(path).load()?.atMs).toBe(1_999)
  })

  it('is not begun anew over a file that is something else', () => {
    const path = join(folder, 'link.journal')
    writeFileSync(path, 'a photograph\n')
    expect(() => fileJournal(path).load()).toThrow(/no journal/)
    expect(readFileSync(path, 'utf8')).toBe('a photograph\n')
  })
})

describe('a record that could not be written at once', () => {
  it('does not come over a newer one when it is tried again', async () => {
    const memory = memoryJournal()
    const written = (): number[] => memory.records.map((record) => record.state.settled)
    let failures = 1
    const journal: JournalStore = {
      ...memory,
      append(record, sync) {
        failures -= 1
        return failures >= 0 ? Promise.reject(new Error('ENOSPC')) : memory.append(record, sync)
      },
    }
    const writer = new JournalWriter({ journal, clock: systemClock, random: systemRandom, log: silentLogger })
    const secured = writer.secure(state(1))
    await until('the problem is known', () => writer.problem !== undefined)
    await writer.note(state(2))
    expect(await secured).toBe(true)
    expect(written()).toEqual([2, 2])
    await writer.close()
  })
})

describe('the right site', () => {
  it('gets a batch without a wait for the disk, which knows of it since it was verified', async () => {
    const memory = memoryJournal()
    let hangs = false
    const journal: JournalStore = {
      ...memory,
      append: (record, sync) => (hangs ? new Promise(() => {}) : memory.append(record, sync)),
    }
    const left: Gateway = await startGateway()
    const right: Gateway = await startGateway({ journal })
    await startSession(left, right)
    offer(left, 0, 20)
    offer(right, 0, 20)
    await right.site.has(19)
    left.site.holdReports = true
    offer(left, 20, 40)
    offer(right, 20, 40)
    const isForeseen = (): boolean =>
      memory.records.at(-1)?.state.sending.some(({ foreseen }) => foreseen === true) === true
    await until('the disk knows', isForeseen)
    await left.site.has(38)
    // What the machine is told of the record comes with the next turn.
    await new Promise((resolve) => setImmediate(resolve))
    hangs = true
    left.site.flush()
    await right.site.has(38)
    expect(right.site.keys).toEqual(left.site.keys)
    await Promise.all([left.crash(), right.crash()])
  })
})

describe('a full disk', () => {
  it('holds the batch back, says why, and loses nothing', async () => {
    let full = true
    const memory = memoryJournal()
    const journal: JournalStore = {
      ...memory,
      append: (record, sync) =>
        full ? Promise.reject(new Error('ENOSPC: no space left on device')) : memory.append(record, sync),
    }
    const left: Gateway = await startGateway({ journal })
    const right: Gateway = await startGateway()
    await startSession(left, right)
    offer(left, 0, 100)
    offer(right, 0, 100)
    await until('said', () => /no space left/.test(left.link.linkStatusReport().reason ?? ''))
    expect(left.site.keys).toEqual([])
    full = false
    await right.site.has(90)
    expect(left.site.keys).toEqual(right.site.keys)
    await Promise.all([left.crash(), right.crash()])
  })
})
