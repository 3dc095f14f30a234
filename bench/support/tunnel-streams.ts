/** Two streams for measuring, of raw bytes; open to everybody, as the probe is. */
import { status, type Client, type ServiceDefinition } from '@grpc/grpc-js'

/** A message of about a thousand keys. */
export const MESSAGE_BYTES = 30_000
const WARM_UP_MS = 1_000

const asIs = (bytes: Buffer): Buffer => bytes
const raw = { requestSerialize: asIs, requestDeserialize: asIs, responseSerialize: asIs, responseDeserialize: asIs }

export const BENCH_SERVICE: ServiceDefinition = {
  down: { ...raw, path: '/qkdgw.probe.v1.Bench/Down', requestStream: false, responseStream: true },
  up: { ...raw, path: '/qkdgw.probe.v1.Bench/Up', requestStream: true, responseStream: true },
}

function ignoreCancel(error: Error & { code?: number }): void {
  if (error.code !== status.CANCELLED) process.stderr.write(`a stream failed: ${error.message}\n`)
}

/** MB/s of `count()` over `forMs`, after a second of getting going. */
async function speedOf(count: () => number, forMs: number): Promise<{ mbPerS: number; bytes: number }> {
  await new Promise((resolve) => setTimeout(resolve, WARM_UP_MS))
  const [bytes, startedMs] = [count(), performance.now()]
  await new Promise((resolve) => setTimeout(resolve, forMs))
  const moved = count() - bytes
  return { mbPerS: moved / 1_000 / (performance.now() - startedMs), bytes: moved }
}

/** From the device to whoever called it. */
export async function downSpeed(client: Client, forMs: number): Promise<{ mbPerS: number; bytes: number }> {
  const call = client.makeServerStreamRequest('/qkdgw.probe.v1.Bench/Down', asIs, asIs, Buffer.alloc(0))
  let bytes = 0
  call.on('data', (message: Buffer) => (bytes += message.length)).on('error', ignoreCancel)
  try {
    return await speedOf(() => bytes, forMs)
  } finally {
    call.cancel()
  }
}

/** To the device, as it says how much came. */
export async function upSpeed(client: Client, forMs: number): Promise<{ mbPerS: number; bytes: number }> {
  const call = client.makeBidiStreamRequest('/qkdgw.probe.v1.Bench/Up', asIs, asIs)
  let arrived = 0
  let ended = false
  call.on('data', (total: Buffer) => (arrived = total.readDoubleBE(0))).on('error', ignoreCancel)
  const message = Buffer.alloc(MESSAGE_BYTES)
  const pump = (): void => {
    while (!ended && call.write(message));
    if (!ended) call.once('drain', pump)
  }
  pump()
  try {
    return await speedOf(() => arrived, forMs)
  } finally {
    ended = true
    call.cancel()
  }
}
