/** Parts of the bench as processes of their own: one request at a time, each answered once. */
import { fork } from 'node:child_process'
import { fileURLToPath } from 'node:url'

export interface BenchChild {
  readonly pid: number
  /** Rejects where the child says what went wrong, ends, or does not answer in time. */
  ask<T>(request: object, timeoutMs?: number): Promise<T>
  kill(): void
}

type Answer = { readonly value: unknown } | { readonly error: string }

/** Runs a TypeScript file of this folder. */
export function startBenchChild(file: string, execArgv: readonly string[] = []): BenchChild {
  const child = fork(fileURLToPath(new URL(file, import.meta.url)), {
    execArgv: ['--import', 'tsx', ...execArgv],
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  })
  return {
    pid: child.pid ?? 0,
    ask<T>(request: object, timeoutMs = 30_000) {
      return new Promise<T>((resolve, reject) => {
        const settle = (finish: () => void): void => {
          clearTimeout(timer)
          child.off('message', onMessage)
          child.off('exit', onExit)
          finish()
        }
        const onMessage = (answer: Answer): void =>
          settle(() => ('error' in answer ? reject(new Error(`${file}: ${answer.error}`)) : resolve(answer.value as T)))
        const onExit = (): void => settle(() => reject(new Error(`${file} ended`)))
        const timer = setTimeout(
          () => settle(() => reject(new Error(`${file}: no answer to ${JSON.stringify(request)}`))),
          timeoutMs,
        )
        child.on('message', onMessage)
        child.on('exit', onExit)
        child.send(request)
      })
    },
    kill: () => void child.kill('SIGKILL'),
  }
}

/** The child's side. */
export function serveRequests<R>(handle: (request: R) => Promise<unknown>): void {
  process.on('message', (request: R) => {
    handle(request).then(
      (value) => process.send?.({ value }),
      (error: unknown) =>
        process.send?.({ error: error instanceof Error ? (error.stack ?? error.message) : String(error) }),
    )
  })
  process.on('disconnect', () => process.exit(0))
}

/** µs of the clock that all processes of a machine share. */
export function sharedUs(): number {
  return Number(process.hrtime.bigint() / 1_000n)
}
