/** The actions of `qkd-gw site` that ask once and end. */
import { status } from '@grpc/grpc-js'
import Table from 'cli-table3'
import { codeOf, GatewayError, messageOf } from '../base/errors.js'
import { formatHostPort } from '../base/host-port.js'
import { wipe } from '../base/wipe.js'
import { IKey } from '../rpc/gen/cqp/remote/keys_pb.js'
import { ISiteAgent } from '../rpc/gen/cqp/remote/site_pb.js'
import { detectDialect } from '../site/dialect.js'
import { findPair, pathOf, shownDevice, type ShownDevice } from '../site/link-path.js'
import { statusBehind } from '../site/site-connection.js'
import { SiteContext, type SiteRequest } from './site-context.js'
import { keepUp } from './site-keep-up.js'
import { parseKeyUrl } from './site-key-url.js'
import { showStatistics } from './site-stats.js'

export async function runSiteAction(request: SiteRequest): Promise<void> {
  const context = new SiteContext(request)
  try {
    await run(context)
  } finally {
    await context.close()
  }
}

function run(context: SiteContext): Promise<void> {
  switch (context.request.action) {
    case 'details':
      return showDetails(context)
    case 'devices':
      return showDevices(context)
    case 'join':
      return join(context)
    case 'unjoin':
      return unjoin(context)
    case 'keep-up':
      return keepUp(context)
    case 'key':
      return showKey(context)
    case 'stats':
      return showStatistics(context)
    case 'unregister':
      return unregister(context)
  }
}

const kinds = {
  cpp: 'CQPToolkit (C++)',
  java: 'OpenQKDNetwork (Java)',
  unknown: 'unknown',
} as const

async function showDetails(context: SiteContext): Promise<void> {
  const site = context.here()
  const details = await context.details(site)
  const dialect = await detectDialect(site, context.timeoutMs, context.signal)
  const keyStores =
    dialect === 'cpp'
      ? (await site.call(IKey.method.getKeyStores, {}, context.timeoutMs, context.signal)).urls
      : undefined
  const devices = details.devices.map(shownDevice)
  const lines = [
    `SiteAgent   ${formatHostPort(context.address)}, which calls itself ${details.url}`,
    `program     ${kinds[dialect]}`,
    ...(keyStores === undefined ? [] : [`key stores  ${keyStores.length === 0 ? 'none' : keyStores.join(', ')}`]),
    devices.length === 0 ? 'devices     none' : deviceTable(devices),
  ]
  context.print({ url: details.url, dialect, keyStores, devices }, lines.join('\n'))
}

async function showDevices(context: SiteContext): Promise<void> {
  const devices = (await context.details(context.here())).devices.map(shownDevice)
  context.print(devices, devices.length === 0 ? 'none' : deviceTable(devices))
}

function deviceTable(devices: readonly ShownDevice[]): string {
  const table = new Table({
    head: ['id', 'side', 'kind', 'bytes a key', 'control address', 'registered as'],
    style: { head: [], border: [] },
  })
  for (const device of devices) {
    const { id, side, kind, bytesPerKey, controlAddress, numbering } = device
    const form = { both: 'both numberings', upstream: 'CQPToolkit', openqkd: 'OpenQKDNetwork' }[numbering]
    table.push([id, side, kind, String(bytesPerKey), controlAddress, form])
  }
  return table.toString()
}

async function pairOf(context: SiteContext) {
  const { id, otherId } = context.request.flags
  const here = context.here()
  const other = context.connect(context.otherAddress())
  const [detailsHere, detailsOther] = await Promise.all([context.details(here), context.details(other)])
  const pair = findPair(detailsHere, detailsOther, {
    ...(id === undefined ? {} : { one: id }),
    ...(otherId === undefined ? {} : { other: otherId }),
  })
  const left = pair.left.site === detailsHere.url ? here : other
  const path = pathOf(
    { site: pair.left.site, deviceId: pair.left.device.id },
    { site: pair.right.site, deviceId: pair.right.device.id },
  )
  const text = `${pair.left.device.id} at ${pair.left.site} and ${pair.right.device.id} at ${pair.right.site}`
  return { left, path, pair, text }
}

async function join(context: SiteContext): Promise<void> {
  const { left, path, pair, text } = await pairOf(context)
  const document = { left: pair.left, right: pair.right }
  try {
    await left.call(ISiteAgent.method.startNode, path, context.timeoutMs, context.signal)
    context.print(
      { ...document, answered: true },
      `asked to start: ${text}\nThe SiteAgent says OK, which it also says when the other site or a device was not reached: see that keys come.`,
    )
  } catch (error) {
    if (codeOf(error) !== 'E_DEADLINE') throw error
    if ((await detectDialect(left, context.timeoutMs, context.signal)) !== 'java') throw error
    context.print(
      { ...document, answered: false },
      `asked to start: ${text}\nNo answer, which is how an OpenQKDNetwork SiteAgent says that it went well.`,
    )
  }
}

async function unjoin(context: SiteContext): Promise<void> {
  const { left, path, pair, text } = await pairOf(context)
  if ((await detectDialect(left, context.timeoutMs, context.signal)) === 'java') {
    throw new GatewayError('E_SITE_REFUSED', 'an OpenQKDNetwork SiteAgent cannot stop a link', {
      remedy: 'stop a gateway, or restart the SiteAgent',
    })
  }
  await left.call(ISiteAgent.method.endKeyExchange, path, context.timeoutMs, context.signal)
  context.print({ left: pair.left, right: pair.right, stopped: true }, `stopped: ${text}`)
}

async function showKey(context: SiteContext): Promise<void> {
  const what = context.what('the other SiteAgent')
  const named = what.startsWith('pkcs11:') ? parseKeyUrl(what) : undefined
  const siteTo = named?.site ?? (await context.details(context.connect(context.otherAddress()))).url
  const keyId = named?.id ?? context.request.flags.keyId
  const key = await context.here().call(
    IKey.method.getSharedKey,
    { siteTo, ...(keyId === undefined ? {} : { opt: { case: 'keyId' as const, value: keyId } }) },
    // An id that has not come yet is waited for by the SiteAgent, 30 s.
    Math.max(context.timeoutMs, keyId === undefined ? 0 : 35_000),
    context.signal,
  )
  const keyHex = Buffer.from(key.keyValue).toString('hex')
  wipe(key.keyValue)
  const empty = keyHex === '' ? '\nEmpty: the id was handed out at the other site before the key came here.' : ''
  context.print(
    { keyId: key.keyId.toString(), keyHex, url: key.url },
    `id   ${key.keyId}\nkey  ${keyHex}\nurl  ${key.url}${empty}`,
  )
}

async function unregister(context: SiteContext): Promise<void> {
  const id = context.what('a device id')
  const site = context.here()
  let removed = 0
  for (;;) {
    try {
      await site.call(ISiteAgent.method.unregisterDevice, { id }, context.timeoutMs, context.signal)
      removed += 1
    } catch (error) {
      if (statusBehind(error) === status.NOT_FOUND) break
      if (codeOf(error) !== 'E_DEADLINE') throw error
      throw new GatewayError('E_SITE_REFUSED', messageOf(error), {
        cause: error,
        remedy: 'an OpenQKDNetwork SiteAgent never forgets a device: restart it',
      })
    }
  }
  context.print(
    { id, removed },
    removed === 0 ? `${id} was not registered` : `${id}: ${removed} registration(s) removed`,
  )
}
