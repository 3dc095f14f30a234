/** Kills the host program of either end at any moment, time after time: what pulling a cable is to other devices. */
import { existsSync } from 'node:fs'
import { openDescriptors } from '../support/unplugging.js'
import { type RunningPair, startPair } from './two-programs.js'

export interface KillReport {
  driver: 'clavis2'
  rounds: number
  keys: number
  /** From the kill until keys come at both ends again, the pause and the program's own start included, ms. */
  slowestAgainMs: number
  medianAgainMs: number
  descriptorsBefore: number
  descriptorsAfter: number
  heapGrowthMb: number
  programsLeft: number
}

const ROUNDS_UNMEASURED = 5
const KEYS_AGAIN = 4

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms))

/** Rejects where keys do not come again, where they differ, or where the session ends. */
export async function killAndRestart(rounds: number): Promise<KillReport> {
  const pair = await startPair()
  const killed = new Set<number>()
  const againMs: number[] = []
  let before = { descriptors: 0, heap: 0 }
  try {
    await pair.moreKeys(KEYS_AGAIN)
    for (let round = 0; round < rounds; round += 1) {
      if (round === Math.min(ROUNDS_UNMEASURED, rounds - 1))
        before = { descriptors: openDescriptors(), heap: process.memoryUsage().heapUsed }
      // Anywhere in a round of 100 ms, an exchange under way included.
      await pause((round * 37) % 100)
      const sinceMs = performance.now()
      killed.add(await killOnce(pair, round))
      await pair.moreKeys(KEYS_AGAIN)
      againMs.push(performance.now() - sinceMs)
      if (pair.failures.length > 0) throw new Error(`round ${round}: ${pair.failures.map(String).join(', ')}`)
    }
  } finally {
    await pair.stop()
  }
  againMs.sort((a, b) => a - b)
  return {
    driver: 'clavis2',
    rounds: againMs.length,
    keys: pair.keys(),
    slowestAgainMs: Math.round(againMs.at(-1) ?? 0),
    medianAgainMs: Math.round(againMs[againMs.length >> 1] ?? 0),
    descriptorsBefore: before.descriptors,
    descriptorsAfter: openDescriptors(),
    heapGrowthMb: Math.round((process.memoryUsage().heapUsed - before.heap) / 1e5) / 10,
    programsLeft: [...killed, ...pair.lastPids()].filter((pid) => existsSync(`/proc/${pid}`)).length,
  }
}

/** Alice's and Bob's in turn; every third is killed once more while it starts. */
async function killOnce(pair: RunningPair, round: number): Promise<number> {
  const end = pair.ends[round % 2 === 0 ? 0 : 1]
  const first = end.pid()
  process.kill(first, 'SIGKILL')
  if (round % 3 !== 2) return first
  while (end.pid() === first) await pause(5)
  process.kill(end.pid(), 'SIGKILL')
  return first
}
