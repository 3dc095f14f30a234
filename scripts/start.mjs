// npm start: install, build, and run the whole chain on built-in stand-ins.
import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { checkNode, ensureBuilt, ensureInstalled, root } from './prepare.mjs'

checkNode()
ensureInstalled()
ensureBuilt()

const child = spawn(process.execPath, [join(root, 'dist/src/cli/main.js'), 'demo', ...process.argv.slice(2)], {
  // The channel breaks where this process is killed, and the demonstration then ends in order.
  stdio: ['inherit', 'inherit', 'inherit', 'ipc'],
  env: { ...process.env, QKD_GW_ENDS_WITH_STARTER: '1' },
})
// The terminal sends Ctrl+C to the child as well; a signal sent to this process alone is passed on.
process.on('SIGINT', () => {})
process.on('SIGTERM', () => child.kill('SIGTERM'))
child.on('exit', (code, signal) => {
  process.exitCode = code ?? (signal === 'SIGINT' ? 130 : 1)
})
