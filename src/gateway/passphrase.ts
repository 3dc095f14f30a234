import type { HostProcess } from './host.js'
import { GatewayError } from '../base/errors.js'
import type { PassphrasePrompt } from '../tunnel/identities.js'

/** Asks on the terminal without showing what is typed; without a terminal an error that names the option. */
export function terminalPrompt(env: Pick<HostProcess, 'stdin' | 'stderr'>): PassphrasePrompt {
  return ({ file, attempt, signal }) =>
    new Promise((resolve, reject) => {
      const { stdin, stderr } = env
      if (!stdin.isTTY) {
        return reject(
          new GatewayError('E_KEY_FILE', `${file} is encrypted, and there is no terminal to ask for its passphrase`, {
            remedy: 'load it into an ssh-agent, or name an unencrypted key with --identity',
            details: { file },
          }),
        )
      }
      stderr.write(`${attempt > 1 ? 'That was not it. ' : ''}Passphrase of ${file}: `)
      let typed = ''
      const finish = (settle: () => void): void => {
        stdin.setRawMode(false)
        stdin.pause()
        stdin.off('data', onData)
        signal.removeEventListener('abort', onAbort)
        stderr.write('\n')
        settle()
      }
      const onAbort = (): void => finish(() => reject(new GatewayError('E_CANCELLED', 'stopped while asking')))
      const onData = (chunk: Buffer): void => {
        for (const char of chunk.toString('utf8')) {
          if (char === '\r' || char === '\n') return finish(() => resolve(typed))
          // In raw mode Ctrl+C is a character like any other.
          if (char === '\u0003') {
            finish(() => reject(new GatewayError('E_CANCELLED', 'stopped while asking')))
            process.kill(process.pid, 'SIGINT')
            return
          }
          typed = char === '\u007f' ? typed.slice(0, -1) : typed + char
        }
      }
      stdin.setRawMode(true)
      stdin.resume()
      stdin.on('data', onData)
      signal.addEventListener('abort', onAbort, { once: true })
    })
}
