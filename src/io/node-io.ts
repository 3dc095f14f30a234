import { readFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import type { Clock } from '../base/clock.js'
import type { Logger } from '../observe/log.js'
import type { DeviceIo } from './contract.js'
import { createMemoryLines, MEMORY_PREFIX, type MemoryLines } from './memory-line.js'
import { createSerialOpener } from './serial.js'
import type { SerialBinding } from './serial-binding.js'
import { resolvePath, stableNameOf, watchPath } from './watch.js'

export interface NodeIoOptions {
  clock: Clock
  log: Logger
  /** Another serial binding than the system's, for tests. */
  binding?: SerialBinding
  /** In-memory lines of this process, reachable as `memory:<name>`. */
  memoryLines?: MemoryLines
  /** Default /sys/class/tty. */
  ttyFolder?: string
}

function latencyTimerOf(node: string, ttyFolder: string): number | undefined {
  try {
    const text = readFileSync(join(ttyFolder, basename(node), 'device/latency_timer'), 'utf8').trim()
    return /^\d+$/.test(text) ? Number(text) : undefined
  } catch {
    return undefined
  }
}

/** Everything a driver may open on this machine. */
export function createNodeIo(options: NodeIoOptions): DeviceIo {
  const { clock, log, binding, memoryLines = createMemoryLines(), ttyFolder = '/sys/class/tty' } = options
  const openSystem = createSerialOpener({ clock, log, ...(binding === undefined ? {} : { binding }) })
  const inMemory = (path: string): boolean => path.startsWith(MEMORY_PREFIX)
  return {
    openSerial: (path, settings, signal) =>
      inMemory(path) ? memoryLines.openSerial(path, settings, signal) : openSystem(path, settings, signal),
    watchPath: (path, listener) =>
      inMemory(path) ? memoryLines.watch(path, listener) : watchPath(path, listener, { clock }),
    resolvePath(path) {
      if (inMemory(path)) return memoryLines.isPresent(path) ? path : undefined
      return resolvePath(path)
    },
    latencyTimerMs: (node) => latencyTimerOf(node, ttyFolder),
    stableNameOf: (path, folder) => (inMemory(path) ? path : stableNameOf(path, folder)),
  }
}
