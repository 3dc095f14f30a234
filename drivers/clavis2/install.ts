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

/**
 * Where the initial key comes from: the site (refused where everybody knows it), the file that somebody carried to the
 * program, or the site even where everybody knows it.
 */
export type InitialKeyUse = 'site' | 'installed' | 'well-known'

export interface InstallOptions {
  file: string
  logFolder: string
  spelling: KeySpelling
  use: InitialKeyUse
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

/** Fewer different bytes than this are no random key. */
const FEWEST_DIFFERENT_BYTES = 8

/** True for a key that is readable text (SiteAgents have such constants, equal at every site) or hardly varies. */
export function isWellKnown(key: Uint8Array): boolean {
  if (key.length === 0) return false
  return key.every((byte) => byte >= 0x20 && byte <= 0x7e) || new Set(key).size < FEWEST_DIFFERENT_BYTES
}

/** What was done with the initial key. */
export interface Installed {
  written: boolean
  /** The key is one that everybody knows; it was asked for by name. */
  wellKnown: boolean
  /** CQPToolkit's wrapper writes this key in another way than the program documents. */
  upstreamDiffers: boolean
}

/**
 * Writes the initial key where the host program reads it: readable by its owner only, whole or not at all. An empty key
 * leaves a file that is there as it is. `given` stays the caller's. Rejects with E_CONFIG for a key of another length,
 * E_UNSAFE for a well-known one that was not asked for, E_DEVICE_PERMISSION where the file cannot be written, E_DEVICE_ABSENT where there is neither key nor file.
 */
export async function installInitialKey(given: Uint8Array, options: InstallOptions): Promise<Installed> {
  const { file, logFolder, spelling, use, random, log } = options
  const key = use === 'installed' ? given.subarray(0, 0) : given
  const wellKnown = isWellKnown(key)
  if (wellKnown && use !== 'well-known' && key.length === INITIAL_KEY_BYTES)
    throw new GatewayError(
      'E_UNSAFE',
      "the site's initial key is no secret (it is readable text or hardly varies): whoever knows it can stand between the two units",
      {
        remedy:
          "give both SiteAgents the same random fallback key of 32 bytes, or carry one to both program's files by hand and use --driver-option initial-key=installed; --driver-option initial-key=well-known takes this one",
      },
    )
  if (wellKnown)
    log.warn({ file }, 'the initial key is one that everybody knows, as was asked for: keys are NOT SECRET')
  await mkdir(logFolder, { recursive: true }).catch((error: unknown) => {
    log.warn({ folder: logFolder, reason: messageOf(error) }, "the host program's log folder cannot be made")
  })
  const found = await readIfThere(file)
  const missing = found === undefined ? 0 : missingDigits(found)
  try {
    if (key.length === 0) {
      if (found !== undefined) {
        log.info(
          { file },
          use === 'installed'
            ? 'the installed initial key is used, as was asked for'
            : 'the site gave no initial key: the installed one stays',
        )
        if (missing > 0) log.warn({ file, missing }, WRAPPER_WROTE)
        return { written: false, wellKnown: false, upstreamDiffers: false }
      }
      throw new GatewayError(
        'E_DEVICE_ABSENT',
        `${use === 'installed' ? 'the installed initial key is asked for' : 'the site gave no initial key'} and ${file} is not there`,
        {
          remedy: 'write the installation file once by hand, or give both SiteAgents the same fallback key',
        },
      )
    }
    if (key.length !== INITIAL_KEY_BYTES) {
      throw new GatewayError(
        'E_CONFIG',
        `the initial key has ${key.length} bytes; Clavis2 needs ${INITIAL_KEY_BYTES}`,
        {
          remedy: `give both SiteAgents the same fallback key of ${INITIAL_KEY_BYTES} bytes, or carry one to both program's files by hand and use --driver-option initial-key=installed`,
        },
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
  return { written: true, wellKnown, upstreamDiffers: upstreamSpellsWrongly(key) }
}
