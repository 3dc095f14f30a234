import { spawn } from 'node:child_process'
import { mkdtempSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { acquireLock } from '../../src/gateway/instance-lock.js'
import { defaultStateFolder, openStateFolder, safeFileName } from '../../src/gateway/state-folder.js'
import { askGateway, serveStatus, statusSocketPath, statusSockets } from '../../src/gateway/status-socket.js'

const folders: string[] = []
function folder(): string {
  const path = mkdtempSync(join(tmpdir(), 'qkd-gw-instance-'))
  folders.push(path)
  return path
}
afterEach(() => {
  for (const path of folders.splice(0)) rmSync(path, { recursive: true, force: true })
})

describe('the instance lock', () => {
  it('is refused to a second process, which is told who holds it', async () => {
    const name = `test-${process.pid}-${Math.random()}`
    const lock = await acquireLock('device', name, '/dev/ttyUSB0')
    const second = acquireLock('device', name, '/dev/ttyUSB0')
    await expect(second).rejects.toMatchObject({ code: 'E_SECOND_INSTANCE', exitCode: 8 })
    await expect(second).rejects.toThrow(`process ${process.pid}`)
    lock.release()
    const again = await acquireLock('device', name, '/dev/ttyUSB0')
    again.release()
  })

  it('leaves nothing behind when its process is killed', async () => {
    const name = `test-kill-${process.pid}-${Math.random()}`
    const module = join(import.meta.dirname, '../../src/gateway/instance-lock.ts')
    const child = spawn(
      process.execPath,
      [
        '--import',
        'tsx',
        '--input-type=module',
        '-e',
        `const m = await import(${JSON.stringify(module)}); await m.acquireLock('device', ${JSON.stringify(name)}, 'x'); console.log('held'); setInterval(() => {}, 1000)`,
      ],
      { stdio: ['ignore', 'pipe', 'inherit'] },
    )
    await new Promise((resolve) => child.stdout.once('data', resolve))
    await expect(acquireLock('device', name, 'x')).rejects.toMatchObject({ code: 'E_SECOND_INSTANCE' })
    const gone = new Promise((resolve) => child.once('exit', resolve))
    child.kill('SIGKILL')
    await gone
    const lock = await acquireLock('device', name, 'x')
    lock.release()
  })
})

describe('the state folder', () => {
  it("is the service manager's, the XDG one, or root's, in this order", () => {
    expect(defaultStateFolder({ STATE_DIRECTORY: '/var/lib/x' })).toBe('/var/lib/x')
    expect(defaultStateFolder({ XDG_STATE_HOME: '/s' })).toBe('/s/qkd-gw')
    expect(defaultStateFolder({}, 0)).toBe('/var/lib/qkd-gw')
  })

  it('is made for this user alone', () => {
    const path = openStateFolder(join(folder(), 'a', 'b'))
    expect(statSync(path).mode & 0o777).toBe(0o700)
  })

  it('that cannot be used is named with a remedy', () => {
    // A file stands where a folder would have to be.
    const path = join(import.meta.filename, 'state')
    expect(() => openStateFolder(path)).toThrow(`state folder ${path}: ENOTDIR`)
  })

  it('names files so that different ids never share one', () => {
    expect(safeFileName('A_B_A')).toBe('A_B_A')
    expect(safeFileName('../x')).not.toContain('/')
    expect(safeFileName('a.b')).not.toBe(safeFileName('a_b'))
  })
})

describe('the status socket', () => {
  it('answers only requests that it knows, and may be opened by this user alone', async () => {
    const path = statusSocketPath(folder(), 'A_B_A')
    const socket = await serveStatus(path, (request) => ({ asked: request.request }))
    expect(statSync(path).mode & 0o777).toBe(0o600)
    expect(statusSockets(join(path, '..'))).toEqual([path])
    await expect(askGateway(path, { request: 'status' })).resolves.toEqual({ asked: 'status' })
    socket.close()
  })

  it('of a dead gateway is reported as such, and does not keep the next one from starting', async () => {
    const path = statusSocketPath(folder(), 'A_B_A')
    const first = await serveStatus(path, () => ({}))
    const second = await serveStatus(path, () => ({ second: true }))
    await expect(askGateway(path, { request: 'status' })).resolves.toEqual({ second: true })
    first.close()
    second.close()
    await expect(askGateway(`${path}x`, { request: 'status' })).rejects.toMatchObject({ code: 'E_NOT_RUNNING' })
  })
})
