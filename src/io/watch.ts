import { existsSync, realpathSync, statSync, watch, type FSWatcher } from 'node:fs'
import { readdirSync } from 'node:fs'
import { dirname, join } from 'node:path'
import type { Unsubscribe } from '../base/cell.js'
import type { Clock, Timer } from '../base/clock.js'

/** The node that a path (a device node, or a link to one) stands for now; undefined while there is none. */
export function resolvePath(path: string): string | undefined {
  try {
    return realpathSync(path)
  } catch {
    return undefined
  }
}

/** The name in `folder` whose link leads to the same node as `path`; undefined where the folder or such a link is missing. */
export function stableNameOf(path: string, folder: string): string | undefined {
  const node = resolvePath(path)
  if (node === undefined) return undefined
  if (dirname(path) === folder) return path
  try {
    return readdirSync(folder)
      .sort()
      .map((name) => join(folder, name))
      .find((link) => resolvePath(link) === node)
  } catch {
    return undefined
  }
}

/**
 * Calls `onChange` when something in `folder` may have changed. Only a hint: network and overlay file systems, or an
 * exhausted inotify table, give none, so every user polls as well.
 */
export function watchFolder(folder: string, onChange: () => void): Unsubscribe {
  let watcher: FSWatcher | undefined
  try {
    watcher = watch(folder, { persistent: false }, () => onChange())
    watcher.on('error', () => watcher?.close())
  } catch {
    // Polling alone serves then.
  }
  return () => watcher?.close()
}

/** Changes whenever the path stands for another node, or for the same one with other rights. */
function fingerprint(path: string): string | undefined {
  const node = resolvePath(path)
  if (node === undefined) return undefined
  try {
    const { ino, rdev, ctimeMs } = statSync(node)
    return `${node} ${ino} ${rdev} ${ctimeMs}`
  } catch {
    return undefined
  }
}

function nearestFolder(path: string): string {
  let folder = dirname(path)
  while (!existsSync(folder) && dirname(folder) !== folder) folder = dirname(folder)
  return folder
}

/**
 * Watches a path: calls back with true when it appears, points elsewhere or changes its rights, with false when it
 * vanishes. Folder notifications make it quick, a poll every `pollMs` makes it certain.
 */
export function watchPath(
  path: string,
  listener: (present: boolean) => void,
  options: { clock: Clock; pollMs?: number },
): Unsubscribe {
  const { clock, pollMs = 250 } = options
  let seen = fingerprint(path)
  let folders = new Map<string, Unsubscribe>()
  let timer: Timer | undefined
  let stopped = false

  const watchNow = (): void => {
    const node = resolvePath(path)
    const wanted = new Set([nearestFolder(path), ...(node === undefined ? [] : [dirname(node)])])
    const next = new Map<string, Unsubscribe>()
    for (const folder of wanted) next.set(folder, folders.get(folder) ?? watchFolder(folder, check))
    for (const [folder, stop] of folders) if (!wanted.has(folder)) stop()
    folders = next
  }
  const check = (): void => {
    if (stopped) return
    const now = fingerprint(path)
    if (now === seen) return
    seen = now
    watchNow()
    listener(now !== undefined)
  }
  const poll = (): void => {
    check()
    if (!stopped) timer = clock.after(pollMs, poll)
  }
  watchNow()
  timer = clock.after(pollMs, poll)
  return () => {
    stopped = true
    timer?.cancel()
    for (const stop of folders.values()) stop()
  }
}
