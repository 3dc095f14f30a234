import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { pino } from 'pino'
import {
  ACCESS_TABLE,
  createAccessPolicy,
  groupOf,
  METHOD_GROUPS,
  type AccessOptions,
  type CallerClass,
  type MethodGroup,
} from '../../src/rpc/access.js'
import type { Originator } from '../../src/rpc/device-port.js'
import { createRefusals } from '../../src/rpc/refusals.js'

const KEYS = '/cqp.remote.IDevice/WaitForSession'
const STARTING = '/cqp.remote.ISession/SessionStarting'
const PHOTON = '/cqp.remote.IPhotonSim/OnPhoton'
const DETAILS = '/cqp.remote.IDevice/GetDetails'
const ECHO = '/qkdgw.probe.v1.Probe/Echo'
const none = new Map<string, string>()

const tunnel = (address: string): Originator => ({ address, port: 5, via: 'tunnel' })
const local = (address: string): Originator => ({ address, port: 5, via: 'local' })
const hidden: Originator = { address: 'unknown', port: 0, via: 'hidden' }

function allowed(method: string, originator: Originator, options: Partial<AccessOptions> = {}): boolean {
  const policy = createAccessPolicy({
    siteHostAddresses: () => ['45.55.2.5', '172.31.28.5', '2001:db8::5'],
    ...options,
  })
  return policy.decide(method, originator, none).allowed
}

describe('keys', () => {
  it.each([
    ["the public address of the tunnel's host", tunnel('45.55.2.5')],
    ['its private address', tunnel('172.31.28.5')],
    ['its IPv6 address', tunnel('2001:DB8::5')],
    ['its loopback', tunnel('127.0.0.1')],
    ['its IPv4 loopback on an IPv6 socket', tunnel('::ffff:127.0.0.1')],
    ['that host on the local port', local('45.55.2.5')],
    ['this machine', local('::1')],
  ])('go to %s', (_name, originator) => {
    expect(allowed(KEYS, originator)).toBe(true)
  })

  it.each([
    ['another address through the tunnel', tunnel('203.0.113.9')],
    ["a neighbour of the tunnel's host", tunnel('45.55.2.50')],
    ['another machine of the lab', local('192.168.2.30')],
    ['a caller whose address is hidden', hidden],
    ['text that is no address', tunnel('45.55.2.5.evil')],
  ])('do not go to %s', (_name, originator) => {
    expect(allowed(KEYS, originator)).toBe(false)
  })

  it('do not go to the peer of the session, nor to who may only look', () => {
    expect(
      allowed(KEYS, tunnel('203.0.113.9'), { sessionPeer: () => 'peer', peerAddresses: () => ['203.0.113.9'] }),
    ).toBe(false)
    expect(allowed(KEYS, tunnel('203.0.113.9'), { allowLook: ['203.0.113.9'], allowPeers: ['203.0.113.9'] })).toBe(
      false,
    )
  })

  it.each([['203.0.113.9'], ['203.0.113.0/24'], ['0.0.0.0/0']])('go to who is allowed by name: %s', (entry) => {
    expect(allowed(KEYS, tunnel('203.0.113.9'), { allowKeys: [entry] })).toBe(true)
  })

  it('go to a hidden caller by certificate or by allowance only', () => {
    const named: Originator = { ...hidden, certificate: 'site-a' }
    expect(allowed(KEYS, named)).toBe(false)
    expect(allowed(KEYS, named, { siteCertificates: ['site-a'] })).toBe(true)
    expect(allowed(KEYS, named, { allowKeys: ['cert:site-a'] })).toBe(true)
    expect(allowed(KEYS, hidden, { allowKeys: ['hidden'] })).toBe(true)
    expect(allowed(KEYS, hidden, { allowKeys: ['0.0.0.0/0', '::/0'] })).toBe(false)
  })

  it("do not go to this machine's loopback where that is what strangers come through", () => {
    expect(allowed(KEYS, local('127.0.0.1'), { trustLoopback: false })).toBe(false)
  })
})

describe('a session', () => {
  it('may be started by anyone while none runs and no peer is named', () => {
    expect(allowed(STARTING, tunnel('203.0.113.9'))).toBe(true)
    expect(allowed(STARTING, hidden)).toBe(true)
    expect(allowed(STARTING, tunnel('203.0.113.9'), { peersAreNamed: true })).toBe(false)
    expect(
      allowed(STARTING, tunnel('203.0.113.9'), { peersAreNamed: true, peerAddresses: () => ['203.0.113.9'] }),
    ).toBe(true)
  })

  it('is touched by nobody but its peer and the site once it runs', () => {
    const running = { sessionPeer: () => 'stranger' as const }
    expect(allowed(STARTING, tunnel('203.0.113.9'), running)).toBe(false)
    expect(allowed(STARTING, tunnel('203.0.113.9'), { ...running, peerAddresses: () => ['203.0.113.9'] })).toBe(false)
    expect(allowed(PHOTON, hidden, running)).toBe(false)
    expect(allowed(STARTING, tunnel('45.55.2.5'), running)).toBe(true)
    expect(allowed(STARTING, hidden, { sessionPeer: () => 'peer' })).toBe(true)
    expect(allowed(PHOTON, tunnel('203.0.113.9'), { sessionPeer: () => 'peer' })).toBe(true)
  })
})

describe('the policy', () => {
  it('shows the device to site, peer, this machine and who is named, and lets anyone probe', () => {
    expect(allowed(DETAILS, tunnel('203.0.113.9'))).toBe(false)
    expect(allowed(DETAILS, tunnel('203.0.113.9'), { peerAddresses: () => ['203.0.113.9'] })).toBe(true)
    expect(allowed(DETAILS, tunnel('203.0.113.9'), { allowLook: ['203.0.113.9'] })).toBe(true)
    expect(allowed(ECHO, hidden)).toBe(true)
    expect(allowed('/grpc.health.v1.Health/Check', hidden)).toBe(true)
    expect(allowed('/grpc.health.v1.Health/Watch', hidden)).toBe(false)
  })

  it('guards a method that nobody thought of like the keys', () => {
    expect(groupOf('/some.Service/New')).toBe('keys')
    expect(groupOf('/cqp.remote.IDevice/Another')).toBe('keys')
  })

  it('names the entry that cannot be read', () => {
    const make = (): unknown => createAccessPolicy({ siteHostAddresses: () => [], allowKeys: ['10.0.0.0/33'] })
    expect(make).toThrow('server.allow: "10.0.0.0/33"')
  })

  it('warns of keys in plain text and of hidden callers', () => {
    const policy = createAccessPolicy({ siteHostAddresses: () => [], allowKeys: ['203.0.113.9', 'hidden'] })
    expect(policy.warnings(false)).toHaveLength(2)
    expect(policy.warnings(true)).toHaveLength(1)
    expect(createAccessPolicy({ siteHostAddresses: () => [] }).warnings(false)).toEqual([])
  })

  /** Who stands for a class, by each way of being taken for it. */
  const callers: Record<CallerClass, readonly [string, Originator, Partial<AccessOptions>][]> = {
    site: [
      ['from the host of the tunnel', tunnel('45.55.2.5'), {}],
      ['by certificate, hidden', { ...hidden, certificate: 'A-site-agent' }, { siteCertificates: ['A-site-agent'] }],
    ],
    loopback: [['on the local port', local('127.0.0.1'), {}]],
    peer: [
      ["as the session's", tunnel('198.51.100.7'), { sessionPeer: () => 'peer' }],
      ['by address', tunnel('198.51.100.7'), { peerAddresses: () => ['198.51.100.7'], peersAreNamed: true }],
      [
        'by certificate',
        { ...hidden, certificate: 'B-gateway' },
        { peerCertificates: ['B-gateway'], peersAreNamed: true },
      ],
      ['by allowance', tunnel('198.51.100.7'), { allowPeers: ['198.51.100.0/24'] }],
    ],
    allowed: [
      ['by address', tunnel('203.0.113.9'), { allowKeys: ['203.0.113.9'] }],
      ['by certificate', { ...hidden, certificate: 'ops' }, { allowKeys: ['cert:ops'] }],
      ['though hidden', hidden, { allowKeys: ['hidden'] }],
    ],
    anyone: [
      ['from elsewhere', tunnel('203.0.113.9'), {}],
      ['whose address is hidden', hidden, {}],
      [
        'with a certificate that nobody names',
        { ...hidden, certificate: 'stranger' },
        { siteCertificates: ['A-site-agent'] },
      ],
    ],
  }
  const classes: CallerClass[] = ['site', 'loopback', 'peer', 'allowed', 'anyone']
  /** Written down once more, so that neither the page nor the code is held against itself. */
  const matrix: Record<MethodGroup, readonly (0 | 1)[]> = {
    keys: [1, 1, 0, 1, 0],
    session: [1, 1, 1, 1, 1],
    pair: [1, 1, 1, 1, 0],
    look: [1, 1, 1, 1, 0],
    open: [1, 1, 1, 1, 1],
  }

  describe.each(
    Object.keys(METHOD_GROUPS).map((path) => (path.endsWith('/') || path.endsWith('.') ? `${path}X` : path)),
  )('%s', (method) => {
    it.each(classes)(
      'is decided for %s as the table says, and a refusal names the line that would allow it',
      (caller) => {
        const group = groupOf(method)
        for (const [how, originator, options] of callers[caller]) {
          const policy = createAccessPolicy({ siteHostAddresses: () => ['45.55.2.5'], ...options })
          const verdict = policy.decide(method, originator, none)
          expect(verdict.allowed, `${caller} ${how}`).toBe(matrix[group][classes.indexOf(caller)] === 1)
          if (!verdict.allowed)
            expect(verdict.allowingLine, how).toMatch(/^server\.(allow|allowPeers|allowLook) = \[".+"\]$/)
        }
      },
    )
  })

  it('is what docs/access.md says', () => {
    const text = readFileSync(new URL('../../docs/access.md', import.meta.url), 'utf8')
    const columns: CallerClass[] = ['site', 'loopback', 'peer', 'allowed', 'anyone']
    for (const group of Object.keys(ACCESS_TABLE) as MethodGroup[]) {
      const row = text.split('\n').find((line) => line.startsWith(`| ${group} `))
      const cells = row
        ?.split('|')
        .slice(3, 8)
        .map((cell) => cell.trim() !== '–')
      expect(cells, group).toEqual(columns.map((column) => ACCESS_TABLE[group].includes(column)))
    }
    for (const path of Object.keys(METHOD_GROUPS)) expect(text).toContain(path.replace(/^\/|\/$/g, ''))
  })
})

describe('refusals', () => {
  it('are counted all and logged once a minute for each caller', () => {
    const lines: { allowWith?: string; refusedBefore?: number }[] = []
    const log = pino({ level: 'warn' }, { write: (line: string) => lines.push(JSON.parse(line) as object) })
    let nowMs = 0
    const refusals = createRefusals({ nowMs: () => nowMs, monotonicMs: () => nowMs }, log)
    const policy = createAccessPolicy({ siteHostAddresses: () => [] })
    const refuse = (originator: Originator): void => {
      const verdict = policy.decide(KEYS, originator, none)
      if (!verdict.allowed) refusals.record(KEYS, originator, verdict)
    }
    for (let n = 0; n < 100; n += 1) refuse(tunnel('203.0.113.9'))
    refuse(hidden)
    nowMs = 61_000
    refuse(tunnel('203.0.113.9'))
    expect(lines.map(({ allowWith }) => allowWith)).toEqual([
      'server.allow = ["203.0.113.9"]',
      'server.allow = ["hidden"]',
      'server.allow = ["203.0.113.9"]',
    ])
    expect(lines[2]?.refusedBefore).toBe(99)
    expect(refusals.counts()).toMatchObject({ total: 102, byMethod: { [KEYS]: 102 } })
  })

  it('of ten thousand addresses neither fill the log nor the memory', () => {
    let lines = 0
    const log = pino({ level: 'warn' }, { write: () => (lines += 1) })
    const refusals = createRefusals({ nowMs: () => 0, monotonicMs: () => 0 }, log)
    const policy = createAccessPolicy({ siteHostAddresses: () => [] })
    for (let n = 0; n < 10_000; n += 1) {
      const originator = tunnel(`10.${n >> 8}.${n & 255}.1`)
      const verdict = policy.decide(KEYS, originator, none)
      if (!verdict.allowed) refusals.record(KEYS, originator, verdict)
    }
    expect(lines).toBe(30)
    expect(refusals.counts().total).toBe(10_000)
  })
})
