import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { generateSshKey, startStandinSshd, type GatewayPorts } from './sshd.js'
import { say, serveCommands, type StandinProcessIo } from './json-lines.js'

export interface SshdProcessOptions {
  port: number
  user: string
  /** File with lines of an authorized_keys file. */
  authorizedKeyFile: string
  /** Private host key; made (0600) where it is not there. Without one a new key at each start. */
  hostKeyFile?: string
  gatewayPorts: GatewayPorts
}

function hostKeyOf(file: string | undefined): string | undefined {
  if (file === undefined) return undefined
  if (!existsSync(file)) writeFileSync(file, generateSshKey('host').privateKey, { mode: 0o600 })
  return readFileSync(file, 'utf8')
}

/** Runs the embedded sshd until it is told to end: JSON lines on stdout, fault commands on stdin. */
export async function runSshdProcess(options: SshdProcessOptions, io: StandinProcessIo): Promise<void> {
  const hostKey = hostKeyOf(options.hostKeyFile)
  const sshd = await startStandinSshd({
    port: options.port,
    user: options.user,
    authorizedKeys: readFileSync(options.authorizedKeyFile, 'utf8').split('\n'),
    gatewayPorts: options.gatewayPorts,
    ...(hostKey === undefined ? {} : { hostKey }),
  })
  say(io, { event: 'listening', host: sshd.host, port: sshd.port, fingerprint: sshd.hostKeyFingerprint })
  const done = (fault: string): void => say(io, { event: 'fault', fault, atMs: Date.now() })
  await serveCommands(io, {
    cut: () => {
      sshd.cut()
      done('cut')
    },
    freeze: () => {
      sshd.freeze(true)
      done('freeze')
    },
    thaw: () => {
      sshd.freeze(false)
      done('thaw')
    },
    refuse: () => {
      sshd.refuseForward(true)
      done('refuse')
    },
    grant: () => {
      sshd.refuseForward(false)
      done('grant')
    },
  })
  await sshd.close()
}
