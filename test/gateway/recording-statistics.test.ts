import { afterEach, describe, expect, it } from 'vitest'
import { serverStream } from '../../src/rpc/bridge.js'
import { IDetector, IPhotonSim } from '../../src/rpc/gen/cqp/remote/detector_pb.js'
import { IDevice } from '../../src/rpc/gen/cqp/remote/device_pb.js'
import { IReporting, SiteAgentReport_Units, type SiteAgentReport } from '../../src/rpc/gen/cqp/remote/reporting_pb.js'
import { ISession } from '../../src/rpc/gen/cqp/remote/session_pb.js'
import { ISift } from '../../src/rpc/gen/cqp/remote/sift_pb.js'
import { callUnary } from '../../src/standin/wire.js'
import { loadRecording } from '../standin/recording/recording.js'
import { recordedTrace, type Seat } from '../standin/recording/trace.js'
import { after, clientOf, closeDummyLab, eventually, startOurs } from './support/dummy-lab.js'
import { nthCall, startHandPeer, waitForSession, type HandPeer } from './support/hand-peer.js'

afterEach(closeDummyLab)

const recording = loadRecording()
const frameMs = 100
const qubits = 1_600

/** Paths in the order in which they were first reported. */
function recordedPaths(seat: Seat): string[] {
  const paths = recordedTrace(recording, seat, 2).statistics.map(({ fields }) =>
    (fields?.['path'] ?? []).filter((part) => typeof part === 'string').join('/'),
  )
  return [...new Set(paths.filter((path) => path !== ''))]
}

/** What a SiteAgent asks for: everything. */
function statistics(client: ReturnType<typeof clientOf>): SiteAgentReport[] {
  const stop = new AbortController()
  const options = { deadlineMs: Infinity, signal: stop.signal }
  const call = serverStream(client, IReporting.method.getStatistics, { listIsExclude: true }, options)
  const reports: SiteAgentReport[] = []
  const read = async (): Promise<void> => {
    for await (const report of call) reports.push(report)
  }
  read().catch(() => {})
  after(() => stop.abort())
  return reports
}

const firstPaths = (reports: readonly SiteAgentReport[]): string[] => [
  ...new Set(reports.map(({ path }) => path.join('/')).filter((path) => path !== '' && path !== 'Key/Keys Received')),
]

/** Two frames in the seat, then the end of the session. */
async function play(seat: Seat): Promise<{ reports: SiteAgentReport[]; peer: HandPeer }> {
  const side = seat === 'Alice' ? 'alice' : 'bob'
  const [ours, peer] = await Promise.all([startOurs({ side, frameMs, qubits }), startHandPeer()])
  await ours.untilPart('tunnel', 'proven')
  // On one connection, so that the listener is there before the session.
  const client = clientOf(ours)
  const reports = statistics(client)
  waitForSession(ours)
  if (seat === 'Bob') await callUnary(client, IDevice.method.runSession, { details: {}, peerAddress: peer.address })
  else await callUnary(client, ISession.method.sessionStarting, { details: {}, initiatorAddress: peer.address })
  for (const frame of [0, 1]) {
    if (seat === 'Alice') {
      const photons = await nthCall(peer, 'OnPhoton', frame)
      await nthCall(peer, 'StopDetecting', frame)
      const indexedBasis = photons.qubits.map((qubit, k) => ({ index: BigInt(k), basis: qubit & 6 }))
      await callUnary(client, ISift.method.verifyBases, { basis: { [String(frame)]: { indexedBasis } } })
    } else {
      await callUnary(client, IDetector.method.startDetecting, {})
      const values = { qubits: Array.from({ length: qubits }, (_, k) => k & 3) }
      await callUnary(client, IPhotonSim.method.onPhoton, { periodPicoseconds: 1n, values })
      await new Promise((resolve) => setTimeout(resolve, frameMs))
      await callUnary(client, IDetector.method.stopDetecting, {})
      await nthCall(peer, 'VerifyBases', frame)
    }
  }
  const twice = (path: string): boolean => reports.filter((report) => report.path.join('/') === path).length >= 2
  await eventually('two reports of each', () => recordedPaths(seat).every(twice))
  await callUnary(client, ISession.method.sessionEnding, {})
  await eventually('the report of the end', () => reports.some(({ path }) => path.length === 0))
  return { reports, peer }
}

describe('statistics of our Dummy device beside the recorded ones', () => {
  it.each(['Alice', 'Bob'] as const)('of %s: the same paths, in the same order', async (seat) => {
    const { reports, peer } = await play(seat)
    const [ours, theirs] = [firstPaths(reports), recordedPaths(seat)]
    expect([...ours].sort()).toEqual([...theirs].sort())
    // Two threads report a block upstream, in either order; the groups follow one another.
    const groups = (paths: readonly string[]): string[] => [...new Set(paths.map((path) => path.split('/')[0] ?? ''))]
    expect(groups(ours)).toEqual(groups(theirs))
    if (seat === 'Alice') expect(ours).toEqual(theirs)

    const active = reports.filter(({ path }) => path.length > 0 && path[0] !== 'Key')
    const during = active.filter(({ parameters }) => parameters['sessionActive'] === 'true')
    expect(during.length).toBeGreaterThanOrEqual(2 * theirs.length)
    expect(during.every(({ parameters }) => parameters['to'] === peer.address)).toBe(true)
    expect(reports.find(({ path }) => path.length === 0)).toMatchObject({
      parameters: { sessionActive: 'false', to: peer.address },
      value: { case: undefined },
    })

    // Rates are a microsecond's.
    const name = seat === 'Alice' ? 'Qubits Transmitted' : 'Qubits Received'
    const [first, second] = during.filter(({ path }) => path[1] === name)
    expect(first).toMatchObject({ unit: SiteAgentReport_Units.Count, rate: 0 })
    expect(first?.value).toMatchObject({ case: 'asUnsigned', value: { latest: BigInt(qubits), total: BigInt(qubits) } })
    expect(second?.value).toMatchObject({
      case: 'asUnsigned',
      value: { total: BigInt(2 * qubits), min: BigInt(qubits) },
    })
    expect(second?.rate).toBeLessThanOrEqual(qubits / (frameMs * 1_000 * 0.9))
    expect(second?.rate).toBeGreaterThan(0)
  })
})
