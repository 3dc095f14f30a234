import { build, checkNode } from './prepare.mjs'
import { chmodSync } from 'node:fs'
import { join } from 'node:path'
import { root } from './prepare.mjs'

checkNode()
build()
chmodSync(join(root, 'dist/src/cli/main.js'), 0o755)
