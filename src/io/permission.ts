import { readFile, stat } from 'node:fs/promises'
import { GatewayError } from '../base/errors.js'

/** Who we are, as far as opening a node goes. */
export interface Identity {
  uid: number
  /** Effective groups of this process, the primary one included. */
  gids: readonly number[]
}

export function ownIdentity(): Identity {
  const uid = process.geteuid?.() ?? -1
  const gid = process.getegid?.() ?? -1
  return { uid, gids: [...new Set([gid, ...(process.getgroups?.() ?? [])])] }
}

interface GroupEntry {
  name: string
  gid: number
  members: readonly string[]
}

async function users(file: string): Promise<Map<number, string>> {
  const text = await readFile(file, 'utf8').catch(() => '')
  return new Map(text.split('\n').map((line) => [Number(line.split(':')[2]), line.split(':')[0] ?? '']))
}

async function groups(file: string): Promise<GroupEntry[]> {
  const text = await readFile(file, 'utf8').catch(() => '')
  return text.split('\n').flatMap((line) => {
    const [name = '', , gid, members = ''] = line.split(':')
    return name === '' ? [] : [{ name, gid: Number(gid), members: members.split(',') }]
  })
}

/**
 * Why this process may not open `node`, as an E_DEVICE_PERMISSION error: owner, group and mode of the node, our uid and
 * groups, and the command that helps. A group that the user has but the process has not (a daemon that dropped it, a
 * login from before) is told from one that the user lacks.
 */
export async function permissionError(
  node: string,
  identity: Identity = ownIdentity(),
  etcFolder = '/etc',
): Promise<GatewayError> {
  const [{ uid, gid, mode }, userNames, groupEntries] = await Promise.all([
    stat(node),
    users(`${etcFolder}/passwd`),
    groups(`${etcFolder}/group`),
  ])
  const userName = (id: number): string => userNames.get(id) ?? String(id)
  const groupName = (id: number): string => groupEntries.find((entry) => entry.gid === id)?.name ?? String(id)
  const me = userName(identity.uid)
  const octal = (mode & 0o777).toString(8).padStart(4, '0')
  const entry = groupEntries.find((candidate) => candidate.gid === gid)
  const groupMayUse = (mode & 0o060) === 0o060
  const inDatabase = entry?.members.includes(me) === true
  const inProcess = identity.gids.includes(gid)
  const remedy = !groupMayUse
    ? `the node gives no rights to a group: install the udev rules that come with this package (folder udev), or run: sudo chgrp dialout ${node} && sudo chmod 0660 ${node}`
    : inProcess
      ? `rights look sufficient; look for access lists or a container that denies ${node}`
      : inDatabase
        ? `${me} is in group ${groupName(gid)}, but this process does not have it: log in anew, or put SupplementaryGroups=${groupName(gid)} into the service's unit`
        : `sudo usermod -aG ${groupName(gid)} ${me}, then log in anew`
  return new GatewayError(
    'E_DEVICE_PERMISSION',
    `${node} may not be opened: owner ${userName(uid)}, group ${groupName(gid)}, mode ${octal}; this process is ${me} ` +
      `(uid ${identity.uid}) with groups ${identity.gids.map(groupName).join(', ')}`,
    { remedy, details: { path: node, owner: userName(uid), group: groupName(gid), mode: octal, uid: identity.uid } },
  )
}
