/** What the arguments of `qkd-gw link audit` stand for: running gateways, journals, SiteAgents. */
import { existsSync, readdirSync, statSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { GatewayError, messageOf } from '../base/errors.js'
import { formatHostPort, parseHostPort } from '../base/host-port.js'
import { askGateway, statusSocketPath, type GatewayEvidence } from '../gateway/status-socket.js'
import type { SiteEvidence } from '../link/audit.js'
import { decodeRecord, fileJournal } from '../link/journal.js'

/** One end of the link, as it can be looked at again and again. */
export type AuditSource =
  | {
      readonly kind: 'gateway' | 'journal'
      readonly name: string
      /** Where it was found, for the one line. */
      readonly what: string
      /** Rejects where nothing answers or the journal cannot be read. */
      readonly look: () => Promise<SiteEvidence>
      readonly siteAgent: string | undefined
    }
  | { readonly kind: 'siteAgent'; readonly name: string; readonly what: string; readonly siteAgent: string }

function usage(text: string, remedy: string): GatewayError {
  return new GatewayError('E_USAGE', text, { remedy })
}

/** A folder's only file of that kind. */
function onlyOne(folder: string, suffix: string): string | undefined {
  const found = readdirSync(folder).filter((name) => name.endsWith(suffix))
  const [only] = found
  if (found.length > 1) {
    throw usage(`${folder}: ${found.length} links where one is expected`, `name one of ${found.sort().join(', ')}`)
  }
  return only === undefined ? undefined : join(folder, only)
}

async function askEvidence(path: string, name: string): Promise<{ evidence: SiteEvidence; answer: GatewayEvidence }> {
  const answer = (await askGateway(path, { request: 'evidence' })) as GatewayEvidence
  const journal = decodeRecord(answer.record)
  if (journal === undefined) {
    throw new GatewayError('E_NOT_RUNNING', `${path}: a gateway of another version`, {
      remedy: 'audit with the version that runs there',
    })
  }
  const { moving } = answer
  return { evidence: { name, journal, ...(moving === undefined ? {} : { moving }) }, answer }
}

async function ofSocket(name: string, path: string): Promise<AuditSource> {
  const { answer } = await askEvidence(path, name)
  return {
    kind: 'gateway',
    name,
    what: `gateway ${answer.id}, running`,
    look: async () => (await askEvidence(path, name)).evidence,
    siteAgent: answer.siteAgent,
  }
}

function ofJournal(name: string, path: string): AuditSource {
  const load = (): SiteEvidence => {
    const journal = fileJournal(path).load()
    if (journal === undefined) throw usage(`${path}: this journal is empty`, 'nothing was agreed on yet')
    return { name, journal }
  }
  const { journal } = load()
  return {
    kind: 'journal',
    name,
    what: `journal as of ${new Date(journal.atMs).toISOString()}`,
    look: () => Promise.resolve(load()),
    siteAgent: undefined,
  }
}

async function ofFolder(name: string, folder: string): Promise<AuditSource> {
  const socket = onlyOne(folder, '.sock')
  const journal = onlyOne(folder, '.journal')
  if (socket !== undefined) {
    try {
      return await ofSocket(name, socket)
    } catch (error) {
      // Its process is gone: the journal is what it left.
      if (journal === undefined) throw error
    }
  }
  if (journal === undefined) throw usage(`${folder}: no gateway and no journal`, 'name the state folder of a gateway')
  return ofJournal(name, journal)
}

/**
 * A state folder, a control socket, a journal, the id of a gateway that runs on this machine, or host:port of a SiteAgent.
 * Throws E_USAGE for what is none of them, E_NOT_RUNNING for a socket where nobody answers.
 */
export async function findSource(name: string, given: string, stateFolder: string): Promise<AuditSource> {
  const info = statSync(given, { throwIfNoEntry: false })
  if (info?.isDirectory() === true) return ofFolder(name, given)
  if (info?.isSocket() === true) {
    try {
      return await ofSocket(name, given)
    } catch (error) {
      const journal = onlyOne(dirname(given), '.journal')
      if (journal === undefined) throw error
      return ofJournal(name, journal)
    }
  }
  if (info !== undefined) return ofJournal(name, given)
  const socket = statusSocketPath(stateFolder, given)
  if (existsSync(socket)) return ofSocket(name, socket)
  try {
    const address = formatHostPort(parseHostPort(given, 'SiteAgent'))
    return { kind: 'siteAgent', name, what: `SiteAgent ${address}`, siteAgent: address }
  } catch (error) {
    throw usage(
      `${given}: no file, no folder, no gateway of this machine and no host:port (${messageOf(error)})`,
      'name a state folder, a journal, the id of a running gateway, or a SiteAgent as host:port',
    )
  }
}
