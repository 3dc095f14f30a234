// node scripts/run.mjs FILE.ts …: runs a TypeScript program of the project against the built command.
import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { checkNode, ensureBuilt, ensureInstalled, root } from './prepare.mjs'

checkNode()
ensureInstalled()
ensureBuilt()

const [file, ...args] = process.argv.slice(2)
const child = spawn(process.execPath, ['--import', 'tsx', join(root, file), ...args], { stdio: 'inherit', cwd: root })
process.on('SIGINT', () => {})
process.on('SIGTERM', () => child.kill('SIGTERM'))
child.on('exit', (code) => {
  process.exitCode = code ?? 1
})
