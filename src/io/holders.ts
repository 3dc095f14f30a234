import { readdir, readFile, readlink, stat } from 'node:fs/promises'
import { join } from 'node:path'

/** A process that has a device node open. */
export interface PortHolder {
  pid: number
  /** The program's name as the system shows it (at most 15 characters on Linux). */
  name: string
  /** It holds the exclusive lock; the others merely read and write, and take bytes away all the same. */
  locked: boolean
}

async function nameOf(procFolder: string, pid: number): Promise<string> {
  try {
    return (await readFile(join(procFolder, String(pid), 'comm'), 'utf8')).trim()
  } catch {
    return 'a program whose name is hidden'
  }
}

/** Linux writes a file's lock as major:minor:inode of the file system that holds the node. */
async function lockOwners(node: string, procFolder: string): Promise<number[]> {
  const { dev, ino } = await stat(node)
  const major = Math.floor(dev / 256) % 4096
  const minor = (dev % 256) + Math.floor(dev / 2 ** 20) * 256
  const hex = (value: number): string => value.toString(16).padStart(2, '0')
  const file = `${hex(major)}:${hex(minor)}:${ino}`
  const lines = (await readFile(join(procFolder, 'locks'), 'utf8')).split('\n')
  return lines.flatMap((line) => {
    const fields = line.split(/\s+/)
    const at = fields.indexOf(file)
    return at > 0 && fields.includes('WRITE') ? [Number(fields[at - 1])] : []
  })
}

async function opens(procFolder: string, pid: string, node: string): Promise<boolean> {
  try {
    const folder = join(procFolder, pid, 'fd')
    const targets = await Promise.all(
      (await readdir(folder)).map((fd) => readlink(join(folder, fd)).catch(() => undefined)),
    )
    return targets.includes(node)
  } catch {
    return false // Another user's process, or one that has just ended.
  }
}

/**
 * Which processes hold `node` (the real path of a device node), lock holders first. Other users' processes are seen
 * only by the superuser, except where they hold the lock. Empty where the system has no such folder as /proc.
 */
export async function portHolders(node: string, procFolder = '/proc'): Promise<PortHolder[]> {
  const locked = new Set(await lockOwners(node, procFolder).catch(() => []))
  const pids = (await readdir(procFolder).catch(() => [])).filter((name) => /^\d+$/.test(name))
  const open = (
    await Promise.all(pids.map(async (pid) => ((await opens(procFolder, pid, node)) ? Number(pid) : 0)))
  ).filter((pid) => pid > 0)
  const all = [...new Set([...locked, ...open])]
  const holders = await Promise.all(
    all.map(async (pid) => ({ pid, name: await nameOf(procFolder, pid), locked: locked.has(pid) })),
  )
  return holders.sort((a, b) => Number(b.locked) - Number(a.locked) || a.pid - b.pid)
}

/** "screen (pid 411), brltty (pid 97)", or undefined for nobody that can be seen. */
export function describeHolders(holders: readonly PortHolder[]): string | undefined {
  if (holders.length === 0) return undefined
  return holders.map(({ name, pid }) => `${name} (pid ${pid})`).join(', ')
}
