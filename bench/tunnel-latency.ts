/** Unary latency through our tunnel against `ssh -R` to the same server, in the same run. */
import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { unary } from '../src/rpc/bridge.js'
import { openChannel, type Channel } from '../src/rpc/channel.js'
import { Probe } from '../src/rpc/gen/qkdgw/probe/v1/probe_pb.js'
import {
  closeLab,
  eventually,
  onCleanup,
  startDebianSshd,
  startGateway,
  tempFolder,
} from '../test/gateway/support/lab.js'
import { freePort } from '../test/tunnel/real-sshd.js'
import { median, type Figure } from './support/figures.js'

const rounds = 12
const callsARound = 100
const callTimeoutMs = 5_000

async function channelTo(address: string): Promise<Channel> {
  const channel = await openChannel({ address, what: 'bench' })
  onCleanup(() => channel.close())
  return channel
}

async function echoMs({ client }: Channel): Promise<number> {
  const startMs = performance.now()
  await unary(
    client,
    Probe.method.echo,
    { nonce: new Uint8Array(32) },
    { deadlineMs: callTimeoutMs, signal: AbortSignal.timeout(callTimeoutMs) },
  )
  return performance.now() - startMs
}

function textOf(value: unknown): string {
  return typeof value === 'string' ? value : ''
}

export async function run(): Promise<Figure[]> {
  try {
    const ssh = await startDebianSshd()
    // No device is needed: the calls end in the gateway.
    const gateway = startGateway({
      device: join(tempFolder(), 'tty'),
      side: 'alice',
      ssh,
      flags: ['--backend', 'ssh2'],
    })
    const { parts } = await gateway.untilPart('tunnel', 'proven')
    const ours = textOf(parts['tunnel']?.facts?.['controlAddress'])
    const local = textOf(parts['server']?.facts?.['address'])
    const port = await freePort()
    const [user = '', host = '', sshPort = ''] = ssh.server.split(/[@:]/)
    const theirs = spawn(
      'ssh',
      [
        ...['-N', '-R', `127.0.0.1:${port}:${local}`, '-i', ssh.keyFile, '-p', sshPort],
        ...['-o', 'BatchMode=yes', '-o', `UserKnownHostsFile=${ssh.knownHosts}`, '-o', 'IdentitiesOnly=yes'],
        ...['-o', 'ExitOnForwardFailure=yes', `${user}@${host}`],
      ],
      { stdio: ['ignore', 'ignore', 'inherit'] },
    )
    onCleanup(() => void theirs.kill('SIGKILL'))
    const paths = {
      direct: await channelTo(local),
      ours: await channelTo(ours),
      theirs: await channelTo(`127.0.0.1:${port}`),
    }
    await eventually('ssh -R', () => echoMs(paths.theirs).catch(() => undefined))
    const times: Record<keyof typeof paths, number[]> = { direct: [], ours: [], theirs: [] }
    // In turns, so that what else the machine does falls on all alike. The first round warms up.
    for (let round = 0; round <= rounds; round += 1) {
      for (const name of ['direct', 'ours', 'theirs'] as const) {
        for (let call = 0; call < callsARound; call += 1) {
          const ms = await echoMs(paths[name])
          if (round > 0) times[name].push(ms)
        }
      }
    }
    const [direct, through, openssh] = [median(times.direct), median(times.ours), median(times.theirs)]
    const note = `median of ${rounds * callsARound} calls, Debian's sshd`
    return [
      { name: 'unary call, no tunnel', value: direct, unit: 'ms', note },
      { name: 'unary call through our tunnel (ssh2)', value: through, unit: 'ms', note },
      { name: 'unary call through ssh -R', value: openssh, unit: 'ms', note },
      { name: 'our tunnel against ssh -R', value: through / openssh, unit: 'ratio' },
      { name: 'our tunnel against no tunnel', value: through / direct, unit: 'ratio' },
    ]
  } finally {
    await closeLab()
  }
}
