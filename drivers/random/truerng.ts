import { z } from 'zod'
import type { Driver, DriverContext } from '../../src/device/contract.js'
import { parseOptions, wholeNumber } from '../../src/device/driver-options.js'
import { type Conversation, SerialSession, type SessionHandle } from '../../src/device/serial-session.js'
import type { TestedPool } from '../../src/device/random-source.js'
import { truerng } from './descriptors.js'
import { createPool, createSourceDevice } from './source-device.js'
import { BAUD } from './truerng-protocol.js'

const optionsSchema = z.strictObject({
  'silent-after-ms': wholeNumber(100, 3_600_000).prefault('5000'),
  'stable-folder': z.string().min(1).optional(),
})

class TrueRngConversation implements Conversation {
  constructor(
    private readonly handle: SessionHandle,
    private readonly pool: TestedPool,
  ) {
    pool.restart()
  }

  onData(chunk: Uint8Array): void {
    this.pool.push(chunk)
    this.handle.doubt(this.pool.failure)
    if (this.pool.failure === undefined) this.handle.alive()
  }

  end(): void {}
}

function create(context: DriverContext): ReturnType<typeof createSourceDevice> {
  const { device, io, clock, random, log } = context
  const options = parseOptions('driver truerng', optionsSchema, context.options)
  const pool = createPool({ name: truerng.name, claimsQuantum: false, clock, log })
  const stableFolder = options['stable-folder']
  const session = new SerialSession({
    path: device,
    settings: { baudRate: BAUD, dtr: true },
    io,
    clock,
    random,
    log,
    begin: (handle) => new TrueRngConversation(handle, pool),
    silentAfterMs: options['silent-after-ms'],
    ...(stableFolder === undefined ? {} : { stableFolder }),
  })
  return createSourceDevice(pool, session, log)
}

export const driver: Driver = { descriptor: truerng, create }
