import { createHash } from 'node:crypto'
import { PassThrough } from 'node:stream'
import { describe, expect, test } from 'vitest'
import { ISiteAgent } from '../../src/rpc/gen/cqp/remote/site_pb.js'
import { pathOf } from '../../src/site/link-path.js'
import { runJavaSiteAgentProcess, runSiteAgentProcess } from '../../src/standin/site-agent-process.js'
import { callUnary, dial } from '../../src/standin/wire.js'
import { useBench } from './support/bench.js'
import { testKeys } from './support/plain-device.js'
import { poll } from './support/poll.js'

const bench = useBench()

type Line = Record<string, unknown>

/** A stand-in as another process sees it: lines out, commands in. */
function start(run: (io: { stdin: PassThrough; stdout: PassThrough; signal: AbortSignal }) => Promise<void>) {
  const stdin = new PassThrough()
  const stdout = new PassThrough()
  const stop = new AbortController()
  let text = ''
  stdout.on('data', (chunk: Buffer) => (text += chunk.toString()))
  const ended = run({ stdin, stdout, signal: stop.signal })
  bench.after(async () => {
    stop.abort()
    await ended
  })
  const lines = (): Line[] =>
    text
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => JSON.parse(line) as Line)
  const next = async (event: string, from = 0): Promise<Line> => {
    const find = (): Line | undefined =>
      lines()
        .slice(from)
        .find((line) => line['event'] === event)
    await poll(find).toBeDefined()
    return find() ?? {}
  }
  return { send: (command: string) => void stdin.write(`${command}\n`), lines, next, ended, text: () => text }
}

describe('a stand-in SiteAgent as a process', () => {
  test('tells where it listens, each step, and counts and digests of keys; a digest on request; never a key', async () => {
    const b = await bench.site({ name: 'B' })
    const agent = start((io) => runSiteAgentProcess({ name: 'A', connectWaitMs: 500 }, io))
    const address = String((await agent.next('listening'))['address'])
    const alice = await bench.device()
    const bob = await bench.device()
    await bench.register({ address }, 'a', alice.address)
    await bench.register(b, 'b', bob.address)
    expect(await agent.next('step')).toMatchObject({ step: 1, name: 'RegisterDevice', deviceId: 'a' })
    const path = pathOf({ site: address, deviceId: 'a' }, { site: b.url, deviceId: 'b' })
    await callUnary(bench.client({ address }), ISiteAgent.method.startNode, path)
    await poll(() => alice.openStreams).toBe(1)
    const keys = testKeys(5)
    await alice.send(keys)
    const digest = (count: number): string =>
      createHash('sha256')
        .update(Buffer.concat(keys.slice(0, count)))
        .digest('hex')
    expect(await agent.next('keys')).toMatchObject({ batch: 5, count: 5, digest: digest(5) })
    agent.send('digest 3')
    expect(await agent.next('digest')).toEqual({ event: 'digest', keys: 3, digest: digest(3) })
    agent.send('keys')
    expect(await agent.next('received')).toEqual({ event: 'received', count: 5, digest: digest(5) })
    agent.send('devices')
    expect(await agent.next('devices')).toMatchObject({ devices: [{ id: 'a', controlAddress: alice.address }] })
    for (const key of keys) expect(agent.text()).not.toContain(Buffer.from(key).toString('hex'))
    agent.send('restart 10')
    await agent.next('restarted')
    agent.send('devices')
    await poll(() => agent.lines().filter(({ event }) => event === 'devices')).toHaveLength(2)
    expect(agent.lines().at(-1)).toMatchObject({ devices: [] })
    agent.send('quit')
    await agent.ended
  })

  test('takes faults by name, and says what it does not know', async () => {
    const agent = start((io) => runSiteAgentProcess({ name: 'A' }, io))
    await agent.next('listening')
    agent.send('fault readsNothing on')
    expect(await agent.next('fault')).toMatchObject({ name: 'readsNothing', value: 'on' })
    agent.send('fault nonsense on')
    expect(String((await agent.next('error'))['message'])).toContain('no switch "nonsense"')
    agent.send('dance')
    await poll(() => agent.text()).toContain('unknown command dance')
    agent.send('digest many')
    await poll(() => agent.text()).toContain('is no number of keys')
  })

  test('the Java one speaks the same lines', async () => {
    const agent = start((io) => runJavaSiteAgentProcess({ name: 'A' }, io))
    const address = String((await agent.next('listening'))['address'])
    const client = dial(address)
    bench.after(() => client.close())
    const details = { config: { id: 'A_B_A' }, controlAddress: '127.0.0.1:9' }
    callUnary(client, ISiteAgent.method.registerDevice, details).catch(() => {})
    expect(await agent.next('step')).toMatchObject({ name: 'RegisterDevice' })
    agent.send('digest 1')
    expect(await agent.next('digest')).toEqual({ event: 'digest', keys: 1 })
  })
})
