import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { DRIVER_CASES } from './support/every-driver.js'
import { openDescriptors, startUnplugging, type Unplugging } from './support/unplugging.js'

const ROUNDS = 20
/** In which whatever is opened once and kept has been opened. */
const ROUNDS_BEFORE_COUNTING = 4

/** They wait more than they work, so all of them go side by side, and the tests await each. */
describe('a device pulled at any moment and put back under another number', () => {
  const started = new Map<string, Promise<Unplugging>>()
  const firstRounds = new Map<string, Promise<void>>()
  const allRounds = new Map<string, Promise<void>>()
  let descriptorsBefore = 0

  beforeAll(() => {
    for (const chosen of DRIVER_CASES) {
      const starting = startUnplugging(chosen)
      const first = starting.then((unplugging) => unplugging.pull(ROUNDS_BEFORE_COUNTING))
      started.set(chosen.driver, starting)
      firstRounds.set(chosen.driver, first)
    }
    const allThere = Promise.allSettled(firstRounds.values()).then(() => {
      descriptorsBefore = openDescriptors()
    })
    for (const [driver, starting] of started) {
      const rest = Promise.all([starting, firstRounds.get(driver), allThere])
      const all = rest.then(([unplugging]) => unplugging.pull(ROUNDS - ROUNDS_BEFORE_COUNTING))
      all.catch(() => {})
      allRounds.set(driver, all)
    }
  })
  afterAll(async () => {
    await Promise.allSettled(allRounds.values())
    await Promise.allSettled([...started.values()].map(async (starting) => (await starting).stop()))
  })

  it.each(DRIVER_CASES)(
    'is the same device again, twenty times: $driver',
    async ({ driver }) => {
      await allRounds.get(driver)
      const unplugging = await started.get(driver)
      expect(unplugging?.figures()).toMatchObject({ rounds: ROUNDS })
      expect(unplugging?.figures().places).toBeGreaterThan(1)
    },
    300_000,
  )

  it('leaves no descriptor open', async () => {
    await Promise.all(allRounds.values())
    // What the runtime itself opens now and then is not ours.
    expect(openDescriptors()).toBeLessThanOrEqual(descriptorsBefore + 3)
  }, 300_000)
})
