import { chmodSync, mkdirSync, statSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { codeOf, GatewayError, messageOf } from '../base/errors.js'

/** Where state lives unless the user names a folder: root's in /var/lib, everybody else's in the XDG state folder. */
export function defaultStateFolder(
  env: Readonly<Record<string, string | undefined>>,
  uid: number = process.getuid?.() ?? -1,
): string {
  // systemd's StateDirectory= comes first: it is the operator's word.
  const named = env['STATE_DIRECTORY']?.split(':')[0]
  if (named !== undefined && named !== '') return named
  const xdg = env['XDG_STATE_HOME']
  if (xdg !== undefined && xdg !== '') return join(xdg, 'qkd-gw')
  return uid === 0 ? '/var/lib/qkd-gw' : join(homedir(), '.local', 'state', 'qkd-gw')
}

/** A file name for `text` that no other text shares and that a person can still read. */
export function safeFileName(text: string): string {
  return text.replace(/[^A-Za-z0-9_-]/g, (char) => `%${char.charCodeAt(0).toString(16).padStart(4, '0')}`).slice(0, 200)
}

/** Makes the folder (0700) if it is not there. Throws E_STATE_FOLDER, naming it, where it cannot be used. */
export function openStateFolder(path: string): string {
  try {
    mkdirSync(path, { recursive: true, mode: 0o700 })
    const info = statSync(path)
    if (!info.isDirectory()) throw new Error('it is not a folder')
    if (process.getuid !== undefined && info.uid === process.getuid() && (info.mode & 0o077) !== 0)
      chmodSync(path, 0o700)
    return path
  } catch (error) {
    throw new GatewayError('E_STATE_FOLDER', `state folder ${path}: ${codeOf(error) ?? messageOf(error)}`, {
      remedy: 'name another with --state-folder, or let this user write there',
      details: { path },
      cause: error,
    })
  }
}
