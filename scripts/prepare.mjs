// What runs before anything is installed: plain Node, no dependencies.
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, readFileSync, readdirSync, statSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

export const root = dirname(dirname(fileURLToPath(import.meta.url)))
const oldestNode = 20

/** Progress goes to stderr: stdout belongs to what the command itself has to say. */
export function say(text) {
  process.stderr.write(`${text}\n`)
}

export function fail(text) {
  say(text)
  process.exit(1)
}

/** Runs a program with its stdout on our stderr; ends this process where it fails. */
export function run(command, args, options = {}) {
  const result = spawnSync(command, args, { cwd: root, stdio: ['ignore', 2, 2], ...options })
  if (result.error !== undefined) fail(`${command}: ${result.error.message}`)
  if (result.status !== 0) fail(`${command} ${args.join(' ')} ended with ${result.status ?? result.signal}`)
}

function digest(...parts) {
  const hash = createHash('sha256')
  for (const part of parts) hash.update(part)
  return hash.digest('hex')
}

function* filesBelow(folder) {
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name)
    if (entry.isDirectory()) {
      if (entry.name !== 'gen') yield* filesBelow(path)
    } else yield path
  }
}

function stampHolds(file, stamp) {
  return existsSync(file) && readFileSync(file, 'utf8') === stamp
}

export function checkNode() {
  const major = Number(process.versions.node.split('.')[0])
  if (major < oldestNode) fail(`qkd-gw needs Node ${oldestNode} or later; this is ${process.versions.node}.`)
}

/**
 * Installs the packages of package-lock.json unless that was done: npm writes a lock file of its own into node_modules at
 * the end of each installation, and one made with --omit=dev has no compiler.
 */
export function ensureInstalled() {
  const installed = statSync(join(root, 'node_modules', '.package-lock.json'), { throwIfNoEntry: false })
  const wanted = statSync(join(root, 'package-lock.json'))
  const complete = existsSync(join(root, 'node_modules', '.bin', 'tsc'))
  if (complete && installed !== undefined && installed.mtimeMs >= wanted.mtimeMs) return
  say('Installing packages (once) …')
  // The project's .npmrc silences npm for the sake of `npm start -- --json`; here its messages are wanted.
  run('npm', ['ci', '--loglevel=notice', '--no-audit', '--no-fund', '--include=dev'], {
    shell: process.platform === 'win32',
  })
}

const distStampFile = join(root, 'dist', '.stamp')

/** What dist is made from, as one digest. */
function sourcesDigest() {
  const inputs = ['src', 'drivers', 'proto'].flatMap((folder) => [...filesBelow(join(root, folder))])
  inputs.push(
    ...['tsconfig.json', 'tsconfig.build.json', 'buf.gen.yaml', 'package-lock.json'].map((f) => join(root, f)),
  )
  return digest(...inputs.sort().flatMap((file) => [file.slice(root.length), '\0', readFileSync(file)]))
}

/** True if dist is what the present sources make. */
export function isBuilt() {
  return existsSync(join(root, 'src/rpc/gen')) && stampHolds(distStampFile, sourcesDigest())
}

/** Generates and compiles unless dist is what the present sources make. */
export function ensureBuilt() {
  if (isBuilt()) return
  say('Building …')
  build()
}

/** Runs a tool of node_modules. */
export function tool(name, args, options) {
  run(join(root, 'node_modules', '.bin', name + (process.platform === 'win32' ? '.cmd' : '')), args, options)
}

export function build() {
  const stamp = sourcesDigest()
  tool('buf', ['generate'])
  tool('tsc', ['-p', 'tsconfig.build.json'])
  if (!statSync(join(root, 'dist/src/cli/main.js')).isFile()) fail('the build made no command')
  writeFileSync(distStampFile, stamp)
}
