// npm test: what the tests need, then format, lint, types and all tests.
import { spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { checkNode, ensureBuilt, ensureInstalled, fail, root, run, say, tool } from './prepare.mjs'

const runs = (command, args) => spawnSync(command, args, { stdio: 'ignore' }).status === 0

/** Programs that tests run for real, and Debian's package of each. */
const needs = [
  { what: 'OpenSSH server', package: 'openssh-server', there: () => existsSync('/usr/sbin/sshd') },
  { what: 'OpenSSH client', package: 'openssh-client', there: () => runs('ssh', ['-V']) },
  {
    what: 'gRPC for Python (a C-core peer)',
    package: 'python3-grpcio',
    there: () => runs('/usr/bin/python3', ['-c', 'import grpc']),
  },
  { what: 'udevadm', package: 'udev', there: () => runs('udevadm', ['--version']) },
  { what: 'openssl', package: 'openssl', there: () => runs('openssl', ['version']) },
  { what: 'perl', package: 'perl-base', there: () => runs('perl', ['-v']) },
  { what: 'git', package: 'git', there: () => runs('git', ['--version']) },
  { what: 'ip (network namespaces)', package: 'iproute2', there: () => runs('ip', ['-V']) },
  { what: 'nft (packet filter)', package: 'nftables', there: () => runs('nft', ['--version']) },
]

function ensureSystemPrograms() {
  const missing = needs.filter((need) => !need.there())
  if (missing.length === 0) return
  const packages = missing.map((need) => need.package)
  const command = `apt-get update && apt-get install -y --no-install-recommends ${packages.join(' ')}`
  const names = missing.map((need) => need.what).join(', ')
  if (process.getuid?.() !== 0 || !runs('apt-get', ['--version'])) {
    fail(`The tests need ${names}. Install it first, on Debian as root with:\n  ${command}`)
  }
  say(`Installing ${names} …`)
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' }
  run('apt-get', ['update', '-q'], { env })
  run('apt-get', ['install', '-y', '-q', '--no-install-recommends', ...packages], { env })
  const still = missing.filter((need) => !need.there())
  if (still.length > 0) fail(`Still missing after the installation: ${still.map((need) => need.what).join(', ')}`)
}

checkNode()
ensureSystemPrograms()
ensureInstalled()
ensureBuilt()
say('Format …')
tool('prettier', ['--check', '--log-level=warn', '.'])
say('Lint …')
tool('eslint', ['.'])
tool('depcruise', ['--config', '.dependency-cruiser.cjs', 'src', 'drivers'])
say('Types …')
tool('tsc', ['-p', 'tsconfig.json'])

const folder = mkdtempSync(join(tmpdir(), 'qkd-gw-test-'))
const report = join(folder, 'report.json')
const vitest = spawnSync(
  process.execPath,
  [
    join(root, 'node_modules/vitest/vitest.mjs'),
    'run',
    '--reporter=default',
    '--reporter=json',
    `--outputFile.json=${report}`,
    ...process.argv.slice(2),
  ],
  { cwd: root, stdio: ['ignore', 'inherit', 'inherit'] },
)
let passed = 0
let failed = 1
if (existsSync(report)) {
  const result = JSON.parse(readFileSync(report, 'utf8'))
  passed = result.numPassedTests
  failed = result.numFailedTests
}
rmSync(folder, { recursive: true, force: true })
process.stdout.write(`${passed} passed, ${failed} failed\n`)
process.exitCode = vitest.status === 0 && failed === 0 && passed > 0 ? 0 : 1
