/** `qkd-gw link audit` as a user runs it, beside gateways that run, that have ended, and SiteAgents of both kinds. */
import { copyFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { systemClock } from '../../src/base/clock.js'
import { systemRandom } from '../../src/base/random.js'
import { statusSocketPath } from '../../src/gateway/status-socket.js'
import { encodeRecord, fileJournal } from '../../src/link/journal.js'
import { startCppSiteAgent, type StandinSiteAgent } from '../../src/standin/cpp-site-agent.js'
import { startJavaSiteAgent } from '../../src/standin/java-site-agent.js'
import { endKeyExchange, startNode } from '../gateway/support/c-core-site-agent.js'
import {
  closeLab,
  eventually,
  type GatewayProcess,
  onCleanup,
  startGateway,
  startUnit,
  tempFolder,
  type Unit,
} from '../gateway/support/lab.js'
import { runCli } from '../support/cli.js'

afterEach(closeLab)

async function cppAgent(name: string, seat: 'left' | 'right', port = 0): Promise<StandinSiteAgent> {
  const agent = await startCppSiteAgent({ name, seat, port, clock: systemClock, random: systemRandom })
  onCleanup(() => agent.close())
  return agent
}

interface Link {
  readonly units: readonly Unit[]
  readonly agents: readonly [StandinSiteAgent, StandinSiteAgent]
  readonly gateways: readonly [GatewayProcess, GatewayProcess]
}

/** Two gateways that run, with C++ SiteAgents and without tunnels, and keys that flow between them. */
async function startLink(): Promise<Link> {
  const pair = `audit ${process.pid} ${Date.now()}`
  const [unitA, unitB, agentA, agentB] = await Promise.all([
    startUnit({ pair, rate: 50 }),
    startUnit({ pair, rate: 50 }),
    cppAgent('A', 'left'),
    cppAgent('B', 'right'),
  ])
  const flags = ['--metrics', 'off']
  const a = startGateway({ device: unitA.path, side: 'alice', siteAgent: agentA.address, flags })
  const b = startGateway({ device: unitB.path, side: 'bob', siteAgent: agentB.address, flags })
  const link = { units: [unitA, unitB], agents: [agentA, agentB], gateways: [a, b] } as const
  await registered(link)
  await startNode(agentA.address, agentB.address, [a.id, b.id])
  await soon('keys at both', () => link.agents.every((agent) => agent.receivedKeys().length >= 20))
  return link
}

/** Processes start and talk slowly where much else runs. */
const soon: typeof eventually = (what, look) => eventually(what, look, 60_000)

async function registered({ gateways, agents }: Link): Promise<void> {
  await soon('both devices are known', () =>
    agents.every((agent, index) => agent.devices().some(({ id }) => id === gateways[index]?.id)),
  )
}

interface Audit {
  readonly code: number | null
  readonly stderr: string
  readonly verdict: string
  readonly sentence: string
  readonly firstDifferingKey?: string
  readonly keys?: number
  readonly spentKey?: { equal?: boolean; problem?: string }
  readonly sites: readonly { kind: string }[]
}

async function audit(...args: readonly string[]): Promise<Audit> {
  const { code, stdout, stderr } = await runCli(['link', 'audit', ...args, '--json'])
  expect(stdout, stderr).toMatch(/^\{.*\}\n$/)
  return { ...(JSON.parse(stdout) as Omit<Audit, 'code' | 'stderr'>), code, stderr }
}

const journalOf = ({ stateFolder, id }: GatewayProcess): string => join(stateFolder, `${id}.journal`)

describe('two gateways and their C++ SiteAgents', () => {
  it('agree while keys flow, however they are named, and so does a key that is given up', async () => {
    const { gateways, agents } = await startLink()
    const [a, b] = gateways
    const [siteA, siteB] = agents
    const byFolder = await audit(a.stateFolder, b.stateFolder, '--wait', '20')
    expect(byFolder).toMatchObject({ verdict: 'agree', code: 0, sites: [{ kind: 'gateway' }, { kind: 'gateway' }] })
    expect(byFolder.sentence).toMatch(/the sites agree: (\d+) and \1 keys/)
    // By id and by socket, a key given up for it.
    const socket = statusSocketPath(b.stateFolder, b.id)
    const spending = ['--state-folder', a.stateFolder, '--spend-key', '--wait', '20']
    const spent = await audit(a.id, socket, ...spending)
    expect(spent).toMatchObject({ verdict: 'agree', code: 0, spentKey: { equal: true } })
    // SiteAgents alone tell changes of their totals, and a key.
    const stores = await audit(siteA.address, siteB.address, '--spend-key', '--wait', '20')
    expect(stores).toMatchObject({ verdict: 'agree', code: 0, spentKey: { equal: true } })
    // One end's gateway and the other end's SiteAgent; in one line for a person.
    const plain = await runCli(['link', 'audit', a.stateFolder, siteB.address, '--wait', '20'])
    expect(plain.stdout).toMatch(/^both SiteAgents took in \d+ keys; .*\n$/)
    expect(plain.stdout).toContain(`A: gateway ${a.id}, running; B: SiteAgent ${siteB.address}`)
    expect(plain.code).toBe(0)
  })

  it('are told apart while a batch is owed, agree once it is paid, and are known by what they left', async () => {
    const { units, gateways, agents } = await startLink()
    const [a, b] = gateways
    const [siteA, siteB] = agents
    // The right SiteAgent reads nothing more: what comes next is taken in at the left alone.
    siteB.faults.readsNothing = true
    const owing = async (): Promise<number> => Number((await a.status()).parts['link']?.facts?.['owedThere'])
    // A batch on its way passes; one that the right SiteAgent does not read stays.
    const keys = await soon('a batch that the right one is owed', async () => {
      const first = await owing()
      await new Promise((resolve) => setTimeout(resolve, 500))
      return first > 0 && (await owing()) === first ? first : undefined
    })
    const behind = await audit(a.stateFolder, b.stateFolder, '--wait', '1')
    expect(behind).toMatchObject({ verdict: 'owed', keys, code: 11 })
    expect(behind.sentence).toContain(`A is ahead by ${keys} keys, which B is owed`)
    expect(behind.firstDifferingKey).toBe(String(siteB.receivedKeys().length + 1))
    siteB.faults.readsNothing = false
    siteB.readAgain()
    await soon('paid', async () => (await owing()) === 0)
    expect(await audit(a.stateFolder, b.stateFolder, '--wait', '20')).toMatchObject({ verdict: 'agree', code: 0 })

    // Rest first: a stop in the middle of a batch may leave it in doubt.
    await Promise.all(units.map((unit) => unit.stop()))
    await soon('rest', async () => {
      const statuses = await Promise.all(gateways.map((gateway) => gateway.status()))
      const stages = statuses.map(({ parts }) => JSON.stringify(parts['link']?.facts?.['stages']))
      return !stages.some((text) => /"batches":[1-9]/.test(text))
    })
    await endKeyExchange(siteA.address, siteB.address, [a.id, b.id])
    // Each gateway's log gives account of the session, with both sites' totals.
    const account = /session with .* ended: \d+ keys delivered, .* totals (\d+) here and \1 there/
    await Promise.all(gateways.map((gateway) => gateway.said(account)))
    await Promise.all(gateways.map((gateway) => gateway.stop()))
    const left = await audit(a.stateFolder, b.stateFolder)
    expect(left).toMatchObject({ verdict: 'agree', code: 0, sites: [{ kind: 'journal' }, { kind: 'journal' }] })
    const folder = tempFolder()
    const [copyA, copyB] = [join(folder, 'a'), join(folder, 'b')]
    copyFileSync(journalOf(a), copyA)
    copyFileSync(journalOf(b), copyB)
    const addresses = ['--site-agents', `${siteA.address},${siteB.address}`]
    const byCopy = await audit(copyA, copyB, ...addresses, '--spend-key', '--wait', '0')
    expect(byCopy).toMatchObject({ verdict: 'agree', code: 0, spentKey: { equal: true } })
    // A total that does not fit outweighs what the gateways believe.
    const last = fileJournal(copyB).load()
    if (last === undefined) throw new Error('no record')
    writeFileSync(copyB, encodeRecord({ ...last, state: { ...last.state, total: (last.state.total ?? 0n) + 3n } }))
    expect(await audit(copyA, copyB)).toMatchObject({ verdict: 'differ', code: 13 })
  })

  it('differ where one SiteAgent lost its keys, and the first key that differs is named', async () => {
    const link = await startLink()
    const [a, b] = link.gateways
    const [siteA, siteB] = link.agents
    await siteA.restart()
    await endKeyExchange(siteB.address, siteA.address, [a.id, b.id]).catch(() => {})
    await registered(link)
    await startNode(siteA.address, siteB.address, [a.id, b.id])
    await soon('it is said', async () => (await a.status()).parts['link']?.state === 'diverged')
    const found = await audit(a.stateFolder, b.stateFolder, '--wait', '1')
    expect(found).toMatchObject({ verdict: 'differ', firstDifferingKey: '1', code: 13 })
  })
})

it('SiteAgents of the Java kind tell nothing and hand out nothing, which is said', async () => {
  const agents = await Promise.all(
    (['left', 'right'] as const).map((seat) =>
      startJavaSiteAgent({ name: seat, seat, host: '127.0.0.1', port: 0, clock: systemClock }),
    ),
  )
  for (const agent of agents) onCleanup(() => agent.close())
  const [a = '', b = ''] = agents.map(({ address }) => address)
  const found = await audit(a, b, '--spend-key', '--wait', '0')
  expect(found).toMatchObject({ verdict: 'unknown', code: 11, sites: [{ kind: 'siteAgent' }, { kind: 'siteAgent' }] })
  expect(found.sentence).toContain('A and B told no total')
  expect(found.spentKey?.problem).toContain('its KMS does')
})

describe('what cannot be audited', () => {
  it('is unreachable with exit code 11, or a wrong argument with exit code 2', async () => {
    const folder = tempFolder()
    const agent = await cppAgent('A', 'left')
    const gone = await cppAgent('B', 'right')
    await gone.close()
    const unreachable = await audit(agent.address, gone.address, '--wait', '0')
    expect(unreachable).toMatchObject({ verdict: 'unreachable', code: 11 })
    expect(unreachable.sentence).toContain('B cannot be reached')

    const dead = startGateway({
      device: join(folder, 'tty'),
      side: 'alice',
      id: 'X_Y_X',
      stateFolder: join(folder, 's'),
    })
    await soon('it runs', () => dead.status().catch(() => undefined))
    dead.kill('SIGKILL')
    await dead.ended
    rmSync(journalOf(dead), { force: true })
    const noGateway = await audit(dead.stateFolder, agent.address, '--wait', '0')
    expect(noGateway).toMatchObject({ verdict: 'unreachable', code: 11 })

    for (const args of [
      [join(folder, 'nothing'), agent.address],
      [folder, folder],
    ]) {
      const { code, stdout, stderr } = await runCli(['link', 'audit', ...args, '--json'])
      expect([code, stdout]).toEqual([2, ''])
      expect(stderr).toMatch(/name (a|the) state folder/)
    }
  })
})
