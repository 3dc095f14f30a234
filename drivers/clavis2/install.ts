import { mkdir, open, readFile, rename, unlink } from 'node:fs/promises'
import { dirname } from 'node:path'
import { GatewayError, messageOf } from '../../src/base/errors.js'
import type { Random } from '../../src/base/random.js'
import { wipe } from '../../src/base/wipe.js'
import type { Logger } from '../../src/observe/log.js'
import {
  INITIAL_KEY_BYTES,
  type KeySpelling,
  renderInstallationFile,
  missingDigits,
  spellingIn,
  upstreamSpellsWrongly,
} from './installation-file.js'

export interface InstallOptions {
  file: string
  logFolder: string
  spelling: KeySpelling
  random: Random
  log: Logger
}

const WRAPPER_WROTE =
  "the file there was written by CQPToolkit's wrapper, or like it: digits of the key are missing, the leading zeros of its bytes"

async function readIfThere(file: string): Promise<Uint8Array | undefined> {
  try {
    return await readFile(file)
  } catch {
    return undefined
  }
}

/** What was done with the initial key. */
export interface Installed {
  written: boolean
  /** CQPToolkit's wrapper writes this key in another way than the program documents. */
  upstreamDiffers: boolean
}

/**
 * Writes the initial key where the host program reads it: readable by its owner only, whole or not at all. An empty key
 * leaves a file that is there as it is. `key` stays the caller's. Rejects with E_CONFIG for a key of another length,
 * E_DEVICE_PERMISSION where the file cannot be written, E_DEVICE_ABSENT where there is neither key nor file.
 */
export async function installInitialKey(key: Uint8Array, options: InstallOptions): Promise<Installed> {
  const { file, logFolder, spelling, random, log } = options
  await mkdir(logFolder, { recursive: true }).catch((error: unknown) => {
    log.warn({ folder: logFolder, reason: messageOf(error) }, "the host program's log folder cannot be made")
  })
  const found = await readIfThere(file)
  const missing = found === undefined ? 0 : missingDigits(found)
  try {
    if (key.length === 0) {
      if (found !== undefined) {
        log.info({ file }, 'the site gave no initial key: the installed one stays')
        if (missing > 0) log.warn({ file, missing }, WRAPPER_WROTE)
        return { written: false, upstreamDiffers: false }
      }
      throw new GatewayError('E_DEVICE_ABSENT', `the site gave no initial key and ${file} is not there`, {
        remedy: 'write the installation file once by hand, or give both SiteAgents the same fallback key',
      })
    }
    if (key.length !== INITIAL_KEY_BYTES) {
      throw new GatewayError(
        'E_CONFIG',
        `the initial key has ${key.length} bytes; Clavis2 needs ${INITIAL_KEY_BYTES}`,
        { remedy: `give both SiteAgents the same fallback key of ${INITIAL_KEY_BYTES} bytes` },
      )
    }
    const sameKey = found !== undefined && spellingIn(found, key) === 'upstream'
    if (missing > 0 || sameKey) log.warn({ file, missing, sameKey, writing: spelling }, WRAPPER_WROTE)
  } finally {
    wipe(found)
  }
  const content = renderInstallationFile(key, spelling)
  const fresh = `${file}.${Buffer.from(random.bytes(6)).toString('hex')}`
  try {
    await mkdir(dirname(file), { recursive: true, mode: 0o700 })
    const handle = await open(fresh, 'wx', 0o600)
    try {
      await handle.writeFile(content)
      await handle.sync()
    } finally {
      await handle.close()
    }
    await rename(fresh, file)
  } catch (error) {
    await unlink(fresh).catch(() => {})
    throw new GatewayError('E_DEVICE_PERMISSION', `${file} cannot be written: ${messageOf(error)}`, {
      remedy: "run as a user who may write there (the maker's program runs as root), or name another installation-file",
      cause: error,
    })
  } finally {
    wipe(content)
  }
  return { written: true, upstreamDiffers: upstreamSpellsWrongly(key) }
}
