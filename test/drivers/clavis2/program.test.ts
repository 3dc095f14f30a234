import { existsSync } from 'node:fs'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { command, type RunningPair, startPair } from './two-programs.js'

describe('the driver with a host program of its own process', () => {
  let pair: RunningPair | undefined

  beforeEach(async () => {
    pair = await startPair()
  })
  afterEach(() => pair?.stop())

  it('makes the same keys at both ends, and lives through lost, damaged and foreign answers and an ending program', async () => {
    if (pair === undefined) throw new Error('two ends')
    const [alice, bob] = pair.ends
    await pair.moreKeys(4)
    expect(await command(alice.control, 'drop 1')).toContain('drop')
    expect(await command(bob.control, 'corrupt 2')).toContain('corrupt')
    expect(await command(alice.control, 'foreign 2')).toContain('foreign')
    expect(await command(bob.control, 'garbage 20')).toContain('20 lines')
    expect(await command(bob.control, 'no-such-fault')).toContain('there is no fault')
    await pair.moreKeys(8)
    await command(alice.control, 'exit 9')
    await pair.moreKeys(1)
    // What pulling a cable is to others: the program is killed, and its port is gone with it.
    const killed = bob.pid()
    process.kill(killed, 'SIGKILL')
    await pair.moreKeys(4)
    expect(bob.pid()).not.toBe(killed)
    expect(existsSync(`/proc/${killed}`)).toBe(false)
    expect(pair.failures).toEqual([])
    await pair.stop()
    pair = undefined
    expect(alice.device.facts()).toMatchObject({ inSession: false })
  }, 60_000)
})
