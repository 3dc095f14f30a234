import { afterEach, describe, expect, it } from 'vitest'
import { pathOf } from '../../src/site/link-path.js'
import { ISiteAgent } from '../../src/rpc/gen/cqp/remote/site_pb.js'
import { callUnary, dial } from '../../src/standin/wire.js'
import { startCli } from '../support/cli.js'
import { closeLab, eventually, onCleanup, startAttach, startSiteAgent, tempFolder } from './support/lab.js'

afterEach(closeLab)

/** Frames that are quick and yet have a remainder at both key lengths: 100 and a half bytes. */
const frame = { qubits: 804, frameMs: 60 } as const
const slowMs = 60_000

/** Our device on the left, the C++ one on the right, each a process of its own. */
async function link(side: 'alice' | 'bob', keyBytes: number) {
  const other = side === 'alice' ? 'bob' : 'alice'
  const [a, b] = await Promise.all([startSiteAgent('left'), startSiteAgent('right')])
  const id = `dummy_${process.pid}_${keyBytes}_${side}`
  const ours = startAttach({
    args: [
      ...['dummy:', '--side', side, '--id', id, '--bytes-per-key', String(keyBytes), '--listen', '127.0.0.1:0'],
      ...['--site-agent', a.address, '--log-format', 'json'],
      ...['--driver-option', `qubits=${frame.qubits}`, '--driver-option', `frame-ms=${frame.frameMs}`],
    ],
    id,
    home: tempFolder(),
  })
  const theirs = startCli([
    ...['standin', 'dummy', '--side', other, '--site-agent', b.address, '--bytes-per-key', String(keyBytes)],
    ...['--qubits', String(frame.qubits), '--frame-ms', String(frame.frameMs)],
  ])
  const theirId = await theirs.line(
    'its id',
    (line) => (line['event'] === 'listening' ? String(line['id']) : undefined),
    slowMs,
  )
  await theirs.line('its registration', (line) => (line['event'] === 'registered' ? true : undefined), slowMs)
  await ours.untilPart('registration', 'registered')
  const client = dial(a.address)
  onCleanup(() => client.close())
  const path = pathOf({ site: a.url, deviceId: id }, { site: b.url, deviceId: theirId })
  await callUnary(client, ISiteAgent.method.startNode, path)
  return { a, b, ours, theirs }
}

describe('the built command', () => {
  it.each([
    ['alice', 16],
    ['alice', 32],
    ['bob', 16],
    ['bob', 32],
  ] as const)(
    'attach dummy: --side %s beside a C++ one of another process: equal keys of %i bytes',
    { timeout: 240_000 },
    async (side, keyBytes) => {
      const { a, b, ours, theirs } = await link(side, keyBytes)
      const both = (): number => Math.min(a.receivedKeys().length, b.receivedKeys().length)
      // More than a frame of 101 bytes has: keys go over the borders of blocks.
      await eventually('keys of seven frames at both sites', () => both() >= Math.floor((7 * 101) / keyBytes), slowMs)
      const compared = both()
      expect(a.digest(compared)).toBe(b.digest(compared))
      expect(a.receivedKeys().every(({ length }) => length === keyBytes)).toBe(true)
      const outcomes = theirs.lines().filter((line) => line['event'] === 'frame')
      expect(outcomes.map((line) => line['frame'])).toEqual(outcomes.map((_, index) => String(index)))
      const { warnings, parts } = await ours.status()
      expect(warnings.join()).toContain('NOT SECRET')
      expect(parts['session']).toMatchObject({ state: 'started', facts: { peerIsGateway: false } })
    },
  )
})
