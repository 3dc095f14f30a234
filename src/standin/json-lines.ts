import { createInterface } from 'node:readline'

/** What a stand-in that runs as a process of its own is given. */
export interface StandinProcessIo {
  readonly stdin: NodeJS.ReadableStream
  readonly stdout: NodeJS.WritableStream
  /** Aborts on SIGINT or SIGTERM. */
  readonly signal: AbortSignal
}

/** Prints one JSON line. */
export function say(io: Pick<StandinProcessIo, 'stdout'>, line: Readonly<Record<string, unknown>>): void {
  io.stdout.write(`${JSON.stringify(line)}\n`)
}

/**
 * Calls `onCommand` with each line of stdin, split at blanks, until the signal aborts, stdin ends or the command is `quit`.
 * An unknown command is answered with `{"event":"error", …}`.
 */
export function serveCommands(
  io: StandinProcessIo,
  commands: Readonly<Record<string, (words: readonly string[]) => void>>,
): Promise<void> {
  return new Promise((resolve) => {
    const lines = createInterface({ input: io.stdin })
    const end = (): void => {
      lines.close()
      io.signal.removeEventListener('abort', end)
      resolve()
    }
    lines.on('line', (text) => {
      const [name = '', ...words] = text.trim().split(/\s+/)
      if (name === '') return
      if (name === 'quit') return end()
      const command = commands[name]
      if (command === undefined) {
        say(io, {
          event: 'error',
          message: `unknown command ${name}; known: ${[...Object.keys(commands), 'quit'].join(', ')}`,
        })
      } else command(words)
    })
    lines.once('close', end)
    if (io.signal.aborted) return end()
    io.signal.addEventListener('abort', end, { once: true })
  })
}
