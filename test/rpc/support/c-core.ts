/** Drives test/support/c_core_peer.py: gRPC's C core with raw bytes, as foreign as a C++ SiteAgent. */
import { spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { toBinary, type DescMessage, type DescMethod, type MessageInitShape } from '@bufbuild/protobuf'
import { create } from '@bufbuild/protobuf'

export interface PeerAnswer {
  readonly code: number
  readonly details?: string
  readonly messages?: readonly (string | number)[]
}

export interface PeerCommand {
  readonly call: string
  readonly request?: string
  readonly kind: 'unary' | 'stream' | 'bidi'
  readonly take?: number
  readonly timeout?: number
  readonly hold?: string
  readonly bytes?: boolean
}

export interface CCorePeer {
  readonly pid: number
  ask(command: PeerCommand | { drop: string }): Promise<PeerAnswer>
  /** SIGKILL. */
  kill(): void
  close(): Promise<void>
}

export function startCCorePeer(target: string, ...certificates: readonly string[]): CCorePeer {
  const script = fileURLToPath(new URL('../../support/c_core_peer.py', import.meta.url))
  const child = spawn('/usr/bin/python3', [script, target, ...certificates], { stdio: ['pipe', 'pipe', 'inherit'] })
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  const exited = new Promise<void>((resolve) => child.once('exit', () => resolve()))
  child.stdin.on('error', () => {})
  return {
    pid: child.pid ?? 0,
    async ask(command) {
      child.stdin.write(`${JSON.stringify(command)}\n`)
      const line = await lines.next()
      if (line.done === true) throw new Error('the C core peer has ended')
      return JSON.parse(line.value) as PeerAnswer
    },
    kill: () => child.kill('SIGKILL'),
    async close() {
      child.stdin.end()
      const timer = setTimeout(() => child.kill('SIGKILL'), 2_000)
      await exited
      clearTimeout(timer)
    },
  }
}

export const pathOf = (method: DescMethod): string => `/${method.parent.typeName}/${method.name}`

export function hexOf<M extends DescMessage>(schema: M, message: MessageInitShape<M>): string {
  return Buffer.from(toBinary(schema, create(schema, message))).toString('hex')
}
