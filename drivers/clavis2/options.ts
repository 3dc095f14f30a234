import { join } from 'node:path'
import { z } from 'zod'
import { decimalNumber, parseOptions, wholeNumber } from '../../src/device/driver-options.js'
import { INSTALLATION_FILE, type KeySpelling } from './installation-file.js'
import type { InitialKeyUse } from './install.js'
import { KEY_PORT, type ByteOrder } from './protocol.js'
import { PROGRAM_NAME } from './program-lines.js'

const optionsSchema = z.strictObject({
  program: z.string().min(1).optional(),
  'installation-file': z.string().min(1).default(INSTALLATION_FILE),
  'log-folder': z.string().min(1).default('/var/log/idq'),
  'bob-address': z.string().min(1).optional(),
  attenuation: decimalNumber(0, 60).optional(),
  'key-host': z.string().min(1).default('127.0.0.1'),
  'key-port': wholeNumber(1, 65_535).prefault(String(KEY_PORT)),
  'byte-order': z.enum(['little', 'big']).default('little'),
  'device-id': wholeNumber(1, 12).prefault('1'),
  'key-bytes': wholeNumber(1, 32).prefault('32'),
  'initial-key': z.enum(['site', 'installed', 'well-known']).default('site'),
  'key-spelling': z.enum(['full', 'upstream']).optional(),
  'reply-timeout-ms': wholeNumber(1, 60_000).prefault('5000'),
  'retry-pause-ms': wholeNumber(1, 600_000).prefault('10000'),
})

export interface Clavis2Options {
  /** The host program. */
  program: string
  installationFile: string
  logFolder: string
  /** Address of the machine with Bob's program, for Alice; undefined: the host of the peer's control address. */
  bobAddress: string | undefined
  /** Used where a session names none. */
  attenuationDb: number
  keyHost: string
  keyPort: number
  byteOrder: ByteOrder
  deviceId: number
  keyBytes: number
  initialKey: InitialKeyUse
  /** Undefined: full, but not with a peer whose wrapper would spell the session's key in another way. */
  keySpelling: KeySpelling | undefined
  replyTimeoutMs: number
  retryPauseMs: number
}

/** `device` is the program's folder; empty: `id3100` below the working folder. Throws E_CONFIG. */
export function clavis2Options(device: string, options: Readonly<Record<string, string>>): Clavis2Options {
  const parsed = parseOptions('driver clavis2', optionsSchema, options)
  return {
    program: parsed.program ?? join(device === '' ? 'id3100' : device, PROGRAM_NAME),
    installationFile: parsed['installation-file'],
    logFolder: parsed['log-folder'],
    bobAddress: parsed['bob-address'],
    attenuationDb: parsed.attenuation ?? 0,
    keyHost: parsed['key-host'],
    keyPort: parsed['key-port'],
    byteOrder: parsed['byte-order'],
    deviceId: parsed['device-id'],
    keyBytes: parsed['key-bytes'],
    initialKey: parsed['initial-key'],
    keySpelling: parsed['key-spelling'],
    replyTimeoutMs: parsed['reply-timeout-ms'],
    retryPauseMs: parsed['retry-pause-ms'],
  }
}
