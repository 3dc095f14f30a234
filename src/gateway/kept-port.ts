/**
 * The listener's port that a Java SiteAgent was told of. It forgets no registration and may use any of several, so that
 * port has to stay: while it does not answer, while the tunnel is away, and for the next process.
 */
import { readFileSync } from 'node:fs'
import { rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { messageOf } from '../base/errors.js'
import type { HostPort } from '../base/host-port.js'
import { formatHostPort } from '../base/host-port.js'
import type { Logger } from '../observe/log.js'
import type { Site } from '../site/contract.js'
import type { Tunnel } from '../tunnel/contract.js'
import { safeFileName } from './state-folder.js'

export interface KeptPort {
  /** Undefined: none was registered where it can't be forgotten. */
  readonly port: number | undefined
  /** Notes each registration, and that none is held any longer where the site turns out to be another one. */
  follow(site: Pick<Site, 'state' | 'dialect'>, tunnel: Pick<Tunnel, 'state'>): void
}

export interface KeptPortPlace {
  readonly stateFolder: string
  /** Of the device. */
  readonly id: string
  readonly siteAgent: HostPort | undefined
  readonly log: Logger
}

function read(file: string, site: string): number | undefined {
  try {
    const kept: unknown = JSON.parse(readFileSync(file, 'utf8'))
    if (typeof kept !== 'object' || kept === null || !('siteAgent' in kept) || !('port' in kept)) return undefined
    return kept.siteAgent === site && typeof kept.port === 'number' ? kept.port : undefined
  } catch {
    // None yet, or not readable: as if nothing had been registered.
    return undefined
  }
}

/** Reads what the last process kept in the state folder. */
export function keepPort({ stateFolder, id, siteAgent, log }: KeptPortPlace): KeptPort {
  const file = join(stateFolder, `${safeFileName(id)}.java-port`)
  const site = siteAgent === undefined ? '' : formatHostPort(siteAgent)
  let port = read(file, site)
  let turn: Promise<unknown> = Promise.resolve()

  const change = (next: number | undefined): void => {
    if (next === port) return
    port = next
    const write = async (): Promise<void> => {
      if (next === undefined) return rm(file, { force: true })
      await writeFile(`${file}.new`, `${JSON.stringify({ siteAgent: site, port: next })}\n`, { mode: 0o600 })
      await rename(`${file}.new`, file)
    }
    turn = turn.then(write).catch((error: unknown) => {
      log.warn({ reason: messageOf(error) }, 'the registered port could not be kept for the next process')
    })
  }

  return {
    get port() {
      return port
    },
    follow(at, tunnel) {
      at.state.subscribe(({ state }) => {
        if (at.dialect() === 'cpp' && state === 'registered') return change(undefined)
        // Java's RegisterDevice never answers: once it was called the site may hold it.
        const isTold = state === 'registering' || state === 'registered' || state === 'needs-attention'
        const { value } = tunnel.state
        if (at.dialect() === 'java' && isTold && 'listener' in value) change(value.listener.port)
      })
    },
  }
}
