/** Known_hosts files on disk. */
import { chmod, mkdir, readFile, rename, stat, writeFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import { codeOf, GatewayError, messageOf } from '../base/errors.js'
import type { HostPort } from '../base/host-port.js'
import { systemRandom, type Random } from '../base/random.js'
import { formatKnownHostsLine, matchesHosts, parseKnownHosts, type KnownHostsLine } from './known-hosts.js'
import type { PublicKey } from './ssh-wire.js'

/** Where OpenSSH looks, with our own system-wide file last; the first is the one that is written. */
export function defaultKnownHostsFiles(homeFolder: string | undefined): string[] {
  const user = homeFolder === undefined ? [] : [`${homeFolder}/.ssh/known_hosts`, `${homeFolder}/.ssh/known_hosts2`]
  return [...user, '/etc/ssh/ssh_known_hosts']
}

async function readText(file: string): Promise<string | undefined> {
  try {
    return await readFile(file, 'utf8')
  } catch (error) {
    if (codeOf(error) === 'ENOENT' || codeOf(error) === 'ENOTDIR') return undefined
    throw new GatewayError('E_CONFIG', `known_hosts file ${file} cannot be read: ${messageOf(error)}`, {
      remedy: `make ${file} readable for the user that the gateway runs as, or name another with --known-hosts`,
      cause: error,
    })
  }
}

/** All lines of all files, in order; files that are not there hold none. Throws E_CONFIG where one can't be read. */
export async function readKnownHosts(files: readonly string[]): Promise<KnownHostsLine[]> {
  const lines: KnownHostsLine[] = []
  for (const file of files) lines.push(...parseKnownHosts((await readText(file)) ?? '', file))
  return lines
}

/**
 * Adds a host's key. Lines for the same host with another key of the same type are taken out, which only a caller who
 * compared fingerprints may want. Names are hashed where the file's other names are. The file is replaced in one step.
 */
export async function trustHostKey(
  file: string,
  server: HostPort,
  key: PublicKey,
  random: Random = systemRandom,
): Promise<{ replaced: number[]; alreadyThere: boolean }> {
  const text = (await readText(file)) ?? ''
  const entries = parseKnownHosts(text, file)
  const ours = entries.filter((entry) => entry.marker === 'none' && matchesHosts(entry.hosts, server))
  if (ours.some((entry) => entry.key.blob.equals(key.blob))) return { replaced: [], alreadyThere: true }
  const replaced = ours.filter((entry) => entry.key.type === key.type).map((entry) => entry.line)
  const kept = text.split('\n').filter((_, index) => !replaced.includes(index + 1))
  while (kept.at(-1) === '') kept.pop()
  const hashed = entries.some((entry) => entry.hosts.startsWith('|1|'))
  kept.push(formatKnownHostsLine(server, key, hashed ? random : undefined))
  await mkdir(dirname(file), { recursive: true, mode: 0o700 })
  const draft = `${file}.qkd-gw-${process.pid}`
  const mode = await stat(file).then(
    (found) => found.mode & 0o777,
    () => 0o600,
  )
  await writeFile(draft, `${kept.join('\n')}\n`, { mode })
  await chmod(draft, mode)
  await rename(draft, file)
  return { replaced, alreadyThere: false }
}
