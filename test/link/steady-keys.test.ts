import { expect, it } from 'vitest'
import { offer, startGateway } from './bench.js'

it('the reports of a SiteAgent are noticed to be back although keys never stop coming', async () => {
  const gateway = await startGateway()
  const confirmation = (): unknown => gateway.link.linkStatusReport().facts?.['confirmation']
  let next = 0
  const keys = setInterval(() => {
    offer(gateway, next, next + 1)
    next += 1
  }, 5)
  try {
    gateway.site.reportsOpen = false
    await expect.poll(confirmation, { timeout: 5_000 }).not.toBe('total')
    gateway.site.reportsOpen = true
    await expect.poll(confirmation, { timeout: 5_000 }).toBe('total')
  } finally {
    clearInterval(keys)
    await gateway.crash()
  }
})
