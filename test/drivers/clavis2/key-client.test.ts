import { rm, writeFile } from 'node:fs/promises'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { EmulatedHost } from '../../../drivers/clavis2/emulator.js'
import { renderInstallationFile } from '../../../drivers/clavis2/installation-file.js'
import { KeyClient, type KeyClientOptions } from '../../../drivers/clavis2/key-client.js'
import { systemClock } from '../../../src/base/clock.js'
import { openDatagramPort } from '../../../src/io/udp.js'
import { seededRandom } from '../support/pair.js'
import { type Installation, installation } from './support.js'

describe("asking Clavis2's host program for keys", () => {
  const never = new AbortController().signal
  let at: Installation
  let host: EmulatedHost
  let client: KeyClient
  let firstRound: Promise<void>

  const create = (options: Partial<KeyClientOptions> = {}): KeyClient =>
    new KeyClient({
      open: openDatagramPort,
      host: '127.0.0.1',
      port: host.port,
      order: 'little',
      deviceId: 1,
      keyLength: 32,
      replyTimeoutMs: 100,
      retryPauseMs: 10,
      clock: systemClock,
      random: seededRandom(3),
      ...options,
    })

  beforeEach(async () => {
    at = await installation()
    await writeFile(at.file, renderInstallationFile(new Uint8Array(32).fill(0x77), 'full'))
    firstRound = new Promise((resolve) => {
      host = new EmulatedHost({
        side: 'alice',
        installationFile: at.file,
        host: '127.0.0.1',
        port: 0,
        order: 'little',
        roundMs: 5,
        keysPerRound: 100,
        epochMs: Date.now(),
        clock: systemClock,
        random: seededRandom(4),
        print: (line) => (line.includes('Secret Key Rate') ? resolve() : undefined),
        exit: () => {},
      })
    })
    await host.start()
    await firstRound
    client = create()
  })

  afterEach(async () => {
    await client.close()
    host.stop()
    await rm(at.folder, { recursive: true, force: true })
  })

  const hex = (fetched: Awaited<ReturnType<KeyClient['fetch']>>): string =>
    fetched.outcome === 'key' ? `${fetched.id} ${Buffer.from(fetched.key).toString('hex')}` : fetched.outcome

  it('gets new keys one after the other, and the same again by their ids', async () => {
    const first = hex(await client.fetch(0n, never))
    const second = hex(await client.fetch(0n, never))
    expect(first).toMatch(/^1 [0-9a-f]{64}$/)
    expect(second).toMatch(/^2 [0-9a-f]{64}$/)
    expect(first.slice(2)).not.toBe(second.slice(2))
    expect(hex(await client.fetch(1n, never))).toBe(first)
    expect(hex(await client.fetch(2n, never))).toBe(second)
  })

  it('takes only the asked number of bytes of a key', async () => {
    const short = create({ keyLength: 16 })
    expect(hex(await short.fetch(1n, never))).toMatch(/^1 [0-9a-f]{32}$/)
    await short.close()
  })

  it.each(['foreign', 'stranger', 'repeat'])('is not taken in by a %s answer', async (fault) => {
    host.fault(fault, ['3'])
    expect(hex(await client.fetch(0n, never))).toMatch(/^1 /)
    expect(hex(await client.fetch(0n, never))).toMatch(/^2 /)
    expect(hex(await client.fetch(0n, never))).toMatch(/^3 /)
    const { foreign, strangers } = client.facts()
    expect((foreign ?? 0) + (strangers ?? 0)).toBeGreaterThan(0)
  })

  it.each(['drop', 'corrupt', 'cut'])('asks again after a %s answer', async (fault) => {
    host.fault(fault, ['1'])
    // The answer that was lost used its key up at the unit: the next new key has the next id.
    expect(hex(await client.fetch(0n, never))).toMatch(/^2 /)
    host.fault(fault, ['2'])
    expect(hex(await client.fetch(2n, never))).toMatch(/^2 /)
    expect(client.facts().timeouts).toBe(3)
  })

  it('takes three answers that there is no key for the end of a round', async () => {
    host.fault('error', ['1', '3'])
    expect(await client.fetch(0n, never)).toEqual({ outcome: 'none', error: 'noMoreKeys' })
    expect(client.facts().requests).toBe(3)
  })

  it('takes no answer at all for the same, in bounded time', async () => {
    host.fault('hang', ['0'])
    expect(await client.fetch(0n, never)).toEqual({ outcome: 'none', error: 'silent' })
    expect(client.facts().timeouts).toBe(3)
  })

  it('does not ask again where that would change nothing', async () => {
    host.fault('error', ['3'])
    expect(await client.fetch(0n, never)).toEqual({ outcome: 'refused', reason: 'wrongKeyLength' })
    host.fault('error', ['4'])
    expect(await client.fetch(7n, never)).toEqual({ outcome: 'refused', reason: 'invalidKeyRequest' })
    expect(client.facts().requests).toBe(2)
  })

  it('waits a little for a key that the other unit has already', async () => {
    expect(await client.fetch(1_000_000n, never)).toEqual({ outcome: 'none', error: 'keyIdDoesntExist' })
    expect(client.facts().requests).toBe(3)
  })

  it('works in the wrong byte order too, and shows it by ids that rise by 16,777,216', async () => {
    const big = create({ order: 'big' })
    expect(hex(await big.fetch(0n, never))).toMatch(/^16777216 /)
    expect(hex(await big.fetch(0n, never))).toMatch(/^33554432 /)
    await big.close()
  })

  it('stops at once when told to', async () => {
    host.fault('hang', ['0'])
    const stop = new AbortController()
    const fetching = client.fetch(0n, stop.signal)
    stop.abort()
    await expect(fetching).rejects.toMatchObject({ code: 'E_CANCELLED' })
  })
})
