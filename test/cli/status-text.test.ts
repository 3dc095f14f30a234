import { describe, expect, it } from 'vitest'
import { renderStatus } from '../../src/cli/status.js'
import type { GatewayStatus } from '../../src/gateway/status-socket.js'

const nowMs = 1_700_000_100_000

function status(facts: GatewayStatus['parts'][string]['facts'], counts: GatewayStatus['counts']): GatewayStatus {
  return {
    ...{ version: '1', pid: 7, id: 'A_B_A', device: '/dev/x', startedAtMs: nowMs - 60_000, warnings: [] },
    parts: { link: { state: 'delivering', sinceMs: nowMs - 7_260_000, ...(facts === undefined ? {} : { facts }) } },
    counts,
  }
}

describe('the status of a link for a person', () => {
  it('accounts for the keys, tells both SiteAgents, the skew, and what verifying costs', () => {
    const text = renderStatus(
      status(
        {
          ...{
            siteTotal: '12345',
            lastConfirmedMs: nowMs - 3_000,
            otherTotal: '12281',
            otherConfirmedMs: nowMs - 4_000,
          },
          ...{ skewMs: 3.2, skewMaxMs: 12, owedHere: 0, owedThere: 64, sacrificedPercent: 5.9, role: 'left' },
          stages: { ahead: { batches: 1, keys: 64 }, onItsWay: { batches: 0, keys: 0 } },
        },
        {
          ...{ received: 14_000, delivered: 12_345, held: 700, sacrificed: 775, sacrificedPerSecond: 0.6 },
          ...{ dropped: { missing: 180 }, discardedByDevice: { corrupt: 2 } },
        },
      ),
      nowMs,
    )
    expect(text).toContain('since 2 h 1 min')
    expect(text).toContain(
      '14,000 received = 12,345 delivered + 700 held + 775 sacrificed + 180 dropped (180 missing: the other site does not have it)',
    )
    expect(text).toContain('this one 12,345 keys, confirmed 3 s ago; the other one 12,281 keys, confirmed 4 s ago')
    expect(text).toContain('the last batch came to them 3.2 ms apart, at most 12 ms lately')
    expect(text).toContain('1 (64 keys) here, not yet there')
    expect(text).toContain('given up to verify the others: 5.9 % of the keys, 0.6 keys/s of late')
    expect(text).toContain('the other SiteAgent is owed 64 keys')
    expect(text).toContain('withheld by the device: 2 corrupt')
    expect(text).not.toContain('siteTotal')
  })

  it('says so where a SiteAgent tells no total and nothing is under way', () => {
    const text = renderStatus(status({ stages: {} }, { received: 0, delivered: 0, held: 0, sacrificed: 0 }), nowMs)
    expect(text).toContain('this one tells no total, not confirmed yet')
    expect(text).toContain('batches: none under way')
    expect(text).toContain('0 received = 0 delivered + 0 held + 0 sacrificed + 0 dropped')
  })
})
