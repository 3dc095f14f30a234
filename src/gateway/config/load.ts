import { readFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { parse as parseToml, TomlError } from 'smol-toml'
import type { z } from 'zod'
import { codeOf, GatewayError, messageOf } from '../../base/errors.js'
import { fromCqpFile, isCqpFile } from './cqp-file.js'
import { lineOfKey } from './locate.js'
import { configSchema, type Config } from './schema.js'

/** A configuration and where it came from. */
export interface LoadedConfig {
  config: Config
  /** Undefined where no file was found. */
  file: string | undefined
  form: 'own' | 'cqp' | 'none'
}

/** Files looked for where none is named, in this order; the first that exists is taken. */
export function searchedFiles(cwd: string, env: Readonly<Record<string, string | undefined>>): string[] {
  const user = env['XDG_CONFIG_HOME'] ?? join(homedir(), '.config')
  const names = ['qkd-gw.toml', 'qkd-gw.json']
  return [
    ...names.map((name) => join(cwd, name)),
    ...names.map((name) => join(user, 'qkd-gw', name)),
    ...names.map((name) => join('/etc/qkd-gw', name)),
  ]
}

function describe(issue: z.core.$ZodIssue): string {
  const key = issue.path.map(String).join('.')
  if (issue.code === 'unrecognized_keys') {
    const where = key === '' ? 'at the top' : `in [${key}]`
    return `unknown key ${issue.keys.map((name) => `"${name}"`).join(', ')} ${where}`
  }
  return `${key === '' ? 'the document' : key}: ${issue.message}`
}

function refuse(file: string, text: string, error: z.ZodError): never {
  const lines = error.issues.map((issue) => {
    const path = issue.code === 'unrecognized_keys' ? [...issue.path, issue.keys[0] ?? ''] : issue.path
    const line = lineOfKey(text, path)
    return `${file}${line === undefined ? '' : `:${line}`}: ${describe(issue)}`
  })
  throw new GatewayError('E_CONFIG', lines.join('\n'), {
    remedy: 'qkd-gw config schema prints every key with what is allowed',
    details: { file },
  })
}

/** What JSON.parse has against a text, or undefined where the text merely ends too early. */
function jsonFault(text: string): string | undefined {
  try {
    JSON.parse(text)
    return undefined
  } catch (error) {
    const message = messageOf(error)
    const position = /position (\d+)/.exec(message)?.[1]
    const endsEarly = /Unexpected end|Unterminated string/.test(message) || Number(position) >= text.length
    return endsEarly ? undefined : message
  }
}

/** 1-based line of the first fault of a JSON text: V8 names a position only sometimes, so lines are tried one by one. */
function lineOfJsonFault(text: string): number {
  const lines = text.split('\n')
  const bad = lines.findIndex((_, index) => jsonFault(lines.slice(0, index + 1).join('\n')) !== undefined)
  return bad === -1 ? lines.length : bad + 1
}

/** JSON if it begins like JSON, TOML otherwise. Throws E_CONFIG with line and column. */
function parseDocument(file: string, text: string): unknown {
  if (/^\s*\{/.test(text)) {
    try {
      return JSON.parse(text)
    } catch (error) {
      const reason = messageOf(error).replace(/\s+/g, ' ')
      throw new GatewayError('E_CONFIG', `${file}:${lineOfJsonFault(text)}: no valid JSON: ${reason}`, { cause: error })
    }
  }
  try {
    return parseToml(text)
  } catch (error) {
    if (!(error instanceof TomlError)) throw error
    const reason = error.message.split('\n')[0] ?? ''
    throw new GatewayError('E_CONFIG', `${file}:${error.line}:${error.column}: no valid TOML: ${reason}`, {
      cause: error,
    })
  }
}

/** Checks one document, whichever of the two forms it has. `file` is for messages. Throws E_CONFIG. */
export function readConfig(file: string, text: string): { config: Config; form: 'own' | 'cqp' } {
  const document = parseDocument(file, text)
  if (isCqpFile(document)) {
    const result = fromCqpFile(document)
    if ('error' in result) refuse(file, text, result.error)
    return { config: result.config, form: 'cqp' }
  }
  const parsed = configSchema.safeParse(document)
  if (!parsed.success) refuse(file, text, parsed.error)
  return { config: parsed.data, form: 'own' }
}

/** Loads the named file, or the first of the searched ones. Throws E_CONFIG naming file, line and key. */
export function loadConfig(
  named: string | undefined,
  cwd: string,
  env: Readonly<Record<string, string | undefined>>,
): LoadedConfig {
  for (const file of named === undefined ? searchedFiles(cwd, env) : [named]) {
    let text: string
    try {
      text = readFileSync(file, 'utf8')
    } catch (error) {
      if (named === undefined && codeOf(error) === 'ENOENT') continue
      throw new GatewayError('E_CONFIG', `${file}: ${codeOf(error) ?? messageOf(error)}`, {
        remedy: 'name an existing file that this user may read',
        cause: error,
      })
    }
    return { ...readConfig(file, text), file }
  }
  return { config: {}, file: undefined, form: 'none' }
}

/** `over` wins, key by key; lists are replaced, not joined. */
export function mergeConfig(base: Config, over: Config): Config {
  return configSchema.parse(mergeObjects(base, over))
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function mergeObjects(base: Record<string, unknown>, over: Record<string, unknown>): Record<string, unknown> {
  const merged = { ...base }
  for (const [key, value] of Object.entries(over)) {
    if (value === undefined) continue
    const before = merged[key]
    merged[key] = isObject(before) && isObject(value) ? mergeObjects(before, value) : value
  }
  return merged
}
