import net from 'node:net'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { status as Status } from '@grpc/grpc-js'
import { afterEach, describe, expect, it } from 'vitest'
import { serverStream, unary } from '../../src/rpc/bridge.js'
import { openChannel, type Channel } from '../../src/rpc/channel.js'
import { IDevice } from '../../src/rpc/gen/cqp/remote/device_pb.js'
import { Probe } from '../../src/rpc/gen/qkdgw/probe/v1/probe_pb.js'
import { RpcError } from '../../src/rpc/rpc-error.js'
import { PATIENCE_MS } from '../support/cli.js'
import {
  closeLab,
  deviceId,
  onCleanup,
  startAttach,
  startGateway,
  startUnit,
  tempFolder,
  type GatewayProcess,
} from './support/lab.js'
import { OUTSIDE, startOutsideSshd } from './support/outside-sshd.js'

afterEach(closeLab)

/** A channel whose connections come from `localAddress`. */
async function channelFrom(localAddress: string, address: string): Promise<Channel> {
  const channel = await openChannel({
    address,
    what: 'device',
    dial: async ({ host, port }) => net.connect({ host, port, localAddress, noDelay: true }),
  })
  onCleanup(() => channel.close())
  return channel
}

const limits = (): { deadlineMs: number; signal: AbortSignal } => ({
  deadlineMs: PATIENCE_MS,
  signal: AbortSignal.timeout(PATIENCE_MS),
})

function codeOf(error: unknown): number {
  if (!(error instanceof RpcError)) throw error
  return error.code
}

/** The status with which each of the calls that are about keys is answered; 0 where it was let in. */
async function answers({ client }: Channel): Promise<Record<string, number>> {
  const ok = (call: Promise<unknown>): Promise<number> => call.then(() => 0, codeOf)
  const firstOfKeys = async (): Promise<void> => {
    const stop = new AbortController()
    const options = { deadlineMs: PATIENCE_MS, signal: stop.signal }
    const stream = serverStream(client, IDevice.method.waitForSession, {}, options)
    // Nobody delivers here: being let in shows in not being refused.
    const refused = (async () => {
      for await (const message of stream) void message
    })()
    const unrefused = new Promise<void>((resolve) => setTimeout(resolve, 300))
    try {
      await Promise.race([refused, unrefused])
    } finally {
      stop.abort()
      refused.catch(() => {})
    }
  }
  return {
    WaitForSession: await ok(firstOfKeys()),
    RunSession: await ok(unary(client, IDevice.method.runSession, { peerAddress: '127.0.0.1:1' }, limits())),
    EndSession: await ok(unary(client, IDevice.method.endSession, {}, limits())),
  }
}

const refused = {
  WaitForSession: Status.PERMISSION_DENIED,
  RunSession: Status.PERMISSION_DENIED,
  EndSession: Status.PERMISSION_DENIED,
}

async function startBehindOutsideSshd(flags: readonly string[] = []): Promise<[GatewayProcess, string]> {
  const [unit, ssh] = await Promise.all([startUnit({ pair: 'access' }), startOutsideSshd()])
  const gateway = startGateway({ device: unit.path, side: 'alice', ssh, flags: ['--backend', 'ssh2', ...flags] })
  const { parts } = await gateway.untilPart('tunnel', 'proven')
  const address = parts['tunnel']?.facts?.['controlAddress']
  return [gateway, typeof address === 'string' ? address : '']
}

describe('keys are for the host of the tunnel alone', () => {
  it('so that a caller from elsewhere is refused, and the log names him and the line that would let him in', async () => {
    const [gateway, address] = await startBehindOutsideSshd()
    const outside = await channelFrom(OUTSIDE.from, address)
    expect(await answers(outside)).toEqual(refused)
    const said = await gateway.said(/refused: cqp\.remote\.IDevice\/WaitForSession/)
    expect(said).toContain(OUTSIDE.toldAs)
    expect(said).toContain(`server.allow = ["${OUTSIDE.toldAs}"]`)
    // That we are there is no secret: the other site's gateway must be able to find us.
    expect(
      (await unary(outside.client, Probe.method.echo, { nonce: new Uint8Array(8) }, limits())).message.version,
    ).toBe((await gateway.status()).version)
    const site = await channelFrom('127.0.0.1', address)
    expect(await answers(site)).toMatchObject({ WaitForSession: 0, EndSession: 0 })
  })

  it('unless the operator allows the caller by name, which status then says', async () => {
    const [gateway, address] = await startBehindOutsideSshd(['--allow', OUTSIDE.toldAs])
    expect(await answers(await channelFrom(OUTSIDE.from, address))).toMatchObject({ WaitForSession: 0, EndSession: 0 })
    expect((await gateway.status()).warnings.join('\n')).toContain(OUTSIDE.toldAs)
  })

  it('on the local port too, once that no longer counts as ours', async () => {
    const unit = await startUnit({ pair: 'access' })
    const home = tempFolder()
    writeFileSync(
      join(home, 'qkd-gw.toml'),
      `[device]\npath = "${unit.path}"\ndriver = "qix"\nside = "bob"\nid = "${deviceId('B')}"\n` +
        '[server]\nlisten = "127.0.0.1:0"\ntrustLoopback = false\n[log]\nformat = "json"\n',
    )
    const gateway = startAttach({ args: [], id: deviceId('B'), home })
    const { parts } = await gateway.untilPart('server', 'serving')
    const address = parts['server']?.facts?.['address']
    const local = await channelFrom('127.0.0.1', typeof address === 'string' ? address : '')
    expect(await answers(local)).toEqual(refused)
    expect(await gateway.said(/refused/)).toContain('server.allow = ["127.0.0.1"]')
  })
})
