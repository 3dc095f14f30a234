/** Known_hosts files on disk. */
import { chmod, chown, mkdir, readFile, readlink, realpath, rename, rm, stat, writeFile } from 'node:fs/promises'
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

/** What was asked for; undefined where there is no such file. */
async function unlessMissing<T>(found: Promise<T>): Promise<T | undefined> {
  try {
    return await found
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return undefined
    throw error
  }
}

/** The file itself behind all links; where the last of them leads to nothing, the file that it names. */
async function behindLinks(file: string): Promise<string> {
  let path = file
  for (;;) {
    const found = await unlessMissing(realpath(path))
    if (found !== undefined) return found
    const link = await unlessMissing(readlink(path))
    if (link === undefined) return path
    // Not normalized: `..` behind a linked folder is not the folder that the text names.
    path = link.startsWith('/') ? link : `${dirname(path)}/${link}`
  }
}

/** Replaces a file in one step, with the owner (where that is permitted) and the mode of the one that was there. */
async function replaceFile(target: string, text: string, random: Random): Promise<void> {
  const before = await unlessMissing(stat(target))
  const draft = `${target}.qkd-gw-${Buffer.from(random.bytes(6)).toString('hex')}`
  try {
    await writeFile(draft, text, { mode: 0o600, flag: 'wx' })
    if (before !== undefined) {
      await chown(draft, before.uid, before.gid).catch(() => {})
      await chmod(draft, before.mode & 0o777)
    }
    await rename(draft, target)
  } catch (error) {
    await rm(draft, { force: true })
    throw error
  }
}

function notWritable(file: string, error: unknown): GatewayError {
  return new GatewayError('E_CONFIG', `known_hosts file ${file} cannot be written: ${messageOf(error)}`, {
    remedy: `make its folder writable (and there, where ${file} is a link), or name another file with --known-hosts`,
    cause: error,
  })
}

/**
 * Adds a host's key. Lines for the same host with another key of the same type are taken out, which only a caller who
 * compared fingerprints may want. Names are hashed where the file's other names are. The file is replaced in one step;
 * a link stays, and what it leads to is replaced. Throws E_CONFIG where it cannot be read or written.
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
  try {
    await mkdir(dirname(file), { recursive: true, mode: 0o700 })
    await replaceFile(await behindLinks(file), `${kept.join('\n')}\n`, random)
  } catch (error) {
    throw notWritable(file, error)
  }
  return { replaced, alreadyThere: false }
}
