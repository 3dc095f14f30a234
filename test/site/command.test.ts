import { PassThrough } from 'node:stream'
import { Command } from 'commander'
import { afterEach, describe, expect, test } from 'vitest'
import { systemClock } from '../../src/base/clock.js'
import { systemRandom } from '../../src/base/random.js'
import { addSiteCommand } from '../../src/cli/site.js'
import { parseKeyUrl } from '../../src/cli/site-key-url.js'
import type { CliEnvironment } from '../../src/cli/environment.js'
import { ISiteAgent } from '../../src/rpc/gen/cqp/remote/site_pb.js'
import { startCppSiteAgent, type StandinSiteAgent } from '../../src/standin/cpp-site-agent.js'
import { callUnary, dial } from '../../src/standin/wire.js'
import { startPlainDevice, testKeys, type PlainDevice } from '../standin/support/plain-device.js'
import { poll } from '../standin/support/poll.js'

const cleanups: (() => unknown)[] = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
})

interface Run {
  readonly done: Promise<void>
  readonly output: () => string
  readonly stop: () => void
}

function start(...args: string[]): Run {
  const stdout = new PassThrough()
  let output = ''
  stdout.on('data', (chunk: Buffer) => (output += chunk.toString()))
  const stop = new AbortController()
  const env = {
    stdin: process.stdin,
    stdout,
    stderr: new PassThrough(),
    env: {},
    cwd: '/',
    clock: systemClock,
    random: systemRandom,
    signal: stop.signal,
    setExitCode: () => {},
  } as unknown as CliEnvironment
  const program = new Command('qkd-gw').exitOverride()
  addSiteCommand(program, env)
  const done = program.parseAsync(['site', ...args], { from: 'user' }).then(() => {})
  done.catch(() => {})
  return { done, output: () => output, stop: () => stop.abort() }
}

async function run(...args: string[]): Promise<string> {
  const started = start(...args)
  await started.done
  return started.output()
}

interface Sites {
  a: StandinSiteAgent
  b: StandinSiteAgent
  alice: PlainDevice
  bob: PlainDevice
}

async function sites(): Promise<Sites> {
  const a = await startCppSiteAgent({ name: 'A', connectWaitMs: 500 })
  const b = await startCppSiteAgent({ name: 'B', connectWaitMs: 500 })
  const alice = await startPlainDevice()
  const bob = await startPlainDevice()
  cleanups.push(
    () => a.close(),
    () => b.close(),
    () => alice.close(),
    () => bob.close(),
  )
  for (const [agent, device, id, side] of [
    [a, alice, 'A_B_A', 0],
    [b, bob, 'A_B_B', 1],
  ] as const) {
    const client = dial(agent.address)
    const config = { id, side, kind: 'qix', bytesPerKey: 32 }
    await callUnary(client, ISiteAgent.method.registerDevice, { config, bindAddress: device.address })
    client.close()
  }
  return { a, b, alice, bob }
}

describe('qkd-gw site', () => {
  test('details tell what the site calls itself, which program it is, and its devices', async () => {
    const { a, alice } = await sites()
    expect(JSON.parse(await run(a.address, 'details', '--json'))).toMatchObject({
      url: a.url,
      dialect: 'cpp',
      keyStores: [],
      devices: [{ id: 'A_B_A', side: 'alice', kind: 'qix', controlAddress: alice.address, numbering: 'upstream' }],
    })
    const text = await run(a.address, 'details')
    expect(text).toContain('CQPToolkit (C++)')
    expect(text).toContain(alice.address)
  })

  test('join pairs devices of equal kind, Alice’s site on the left, even asked at Bob’s site; unjoin stops both', async () => {
    const { a, b, alice, bob } = await sites()
    const answer: unknown = JSON.parse(await run(b.address, 'join', a.address, '--json'))
    expect(answer).toMatchObject({ left: { site: a.url }, right: { site: b.url }, answered: true })
    await poll(() => alice.openStreams + bob.openStreams).toBe(2)
    expect(bob.calls.history.some(({ call }) => call === 'RunSession')).toBe(true)
    await run(b.address, 'unjoin', a.address)
    expect(alice.openStreams + bob.openStreams).toBe(0)
  })

  test('key prints a fresh key, and the same key at the other site by number or by its address', async () => {
    const { a, b, alice, bob } = await sites()
    await run(a.address, 'join', b.address)
    await poll(() => alice.openStreams + bob.openStreams).toBe(2)
    await Promise.all([alice.send(testKeys(2)), bob.send(testKeys(2))])
    await poll(() => [a.receivedKeys().length, b.receivedKeys().length]).toEqual([2, 2])
    const fresh = JSON.parse(await run(a.address, 'key', b.address, '--json')) as Record<string, string>
    expect(fresh).toMatchObject({ keyId: '1', keyHex: Buffer.from(testKeys(1)[0] ?? []).toString('hex') })
    expect(JSON.parse(await run(b.address, 'key', a.address, '--key-id', '1', '--json'))).toMatchObject({
      keyId: '1',
      keyHex: fresh['keyHex'],
    })
    const second = JSON.parse(await run(a.address, 'key', b.address, '--json')) as Record<string, string>
    const url = (second['url'] ?? '').replace(encodeURIComponent(encodeURIComponent(b.url)), encodeURIComponent(a.url))
    expect(JSON.parse(await run(b.address, 'key', url, '--json'))).toMatchObject({ keyHex: second['keyHex'] })
  })

  test('stats show what the SiteAgent takes in, filtered by path', async () => {
    const { a, b, alice } = await sites()
    const watching = start(a.address, 'stats', '--json', '--filter', 'Key Generation/Key Generated')
    await run(a.address, 'join', b.address)
    await poll(() => alice.openStreams).toBe(1)
    // The subscription and the first keys race: keys go on until a report is seen.
    await poll(async () => {
      await alice.send(testKeys(1))
      return watching.output()
    }).toContain('Key Generation/Key Generated')
    watching.stop()
    await watching.done
    const lines = watching.output().trim().split('\n')
    expect(lines.every((line) => (JSON.parse(line) as { path: string }).path === 'Key Generation/Key Generated')).toBe(
      true,
    )
  })

  test('unregister takes every registration of a device away', async () => {
    const { a } = await sites()
    const client = dial(a.address)
    await callUnary(client, ISiteAgent.method.registerDevice, { config: { id: 'A_B_A' }, bindAddress: '127.0.0.1:1' })
    client.close()
    expect(JSON.parse(await run(a.address, 'unregister', 'A_B_A', '--json'))).toEqual({ id: 'A_B_A', removed: 2 })
    expect(a.devices()).toEqual([])
  })

  test('keep-up waits for the devices, starts the link and says so line by line', async () => {
    const { a, b, alice, bob } = await sites()
    await run(a.address, 'unregister', 'A_B_A')
    const keeping = start(a.address, 'keep-up', b.address, '--json')
    await poll(() => keeping.output()).toContain('waiting: no two devices')
    const client = dial(a.address)
    const config = { id: 'A_B_A', kind: 'qix' }
    await callUnary(client, ISiteAgent.method.registerDevice, { config, bindAddress: alice.address })
    client.close()
    await poll(() => alice.openStreams + bob.openStreams).toBe(2)
    await poll(() => keeping.output()).toContain('the link runs')
    keeping.stop()
    await keeping.done
    for (const line of keeping.output().trim().split('\n')) {
      expect(JSON.parse(line)).toHaveProperty('message')
    }
  })

  test('what cannot be done is said with what to do', async () => {
    const { a, b } = await sites()
    await run(a.address, 'unregister', 'A_B_A')
    await expect(run(a.address, 'join', b.address)).rejects.toMatchObject({
      code: 'E_USAGE',
      message: expect.stringContaining('A_B_B (qix, bob)') as string,
    })
    await expect(run(a.address, 'join')).rejects.toMatchObject({ code: 'E_USAGE' })
    await expect(run('127.0.0.1:1', 'details', '--timeout', '1')).rejects.toMatchObject({ code: 'E_SITE_UNREACHABLE' })
    await expect(run(a.address, 'details', '--cert', 'x')).rejects.toMatchObject({ code: 'E_USAGE' })
  })
})

test('a key’s address is read encoded or not', () => {
  const wanted = { site: '127.0.0.1:17002', id: 4n }
  expect(parseKeyUrl('pkcs11:type%3Dsecret-key;object%3D127.0.0.1%253A17002;id%3D0x04')).toEqual(wanted)
  expect(parseKeyUrl('pkcs11:object=127.0.0.1:17002;id=0x04')).toEqual(wanted)
  expect(() => parseKeyUrl('pkcs11:object=x')).toThrow(/no address of a key/)
})
