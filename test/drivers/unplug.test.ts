import { describe, expect, it } from 'vitest'
import { DRIVER_CASES } from './support/every-driver.js'
import { unplugAndReplug } from './support/unplugging.js'

describe('a device pulled at any moment and put back under another number', () => {
  it.each(DRIVER_CASES)(
    'is the same device again, twenty times: $driver',
    async (chosen) => {
      const report = await unplugAndReplug(chosen, 20)
      expect(report.places).toBeGreaterThan(1)
      // What the runtime itself opens now and then is not ours.
      expect(report.descriptorsAfter).toBeLessThanOrEqual(report.descriptorsBefore + 3)
    },
    300_000,
  )
})
