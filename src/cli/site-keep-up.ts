/** `qkd-gw site … keep-up`: starts a link, and starts it again whenever keys stop. */
import { sleep } from '../base/clock.js'
import { codeOf, messageOf } from '../base/errors.js'
import { parseHostPort } from '../base/host-port.js'
import { createLogger } from '../observe/log.js'
import { LinkKeeper } from '../site/link-keeper.js'
import { findPair, type LinkPair } from '../site/link-path.js'
import type { SiteContext } from './site-context.js'

const lookMs = 500

export async function keepUp(context: SiteContext): Promise<void> {
  const { flags, env } = context.request
  const { seconds } = flags
  const signal =
    seconds === undefined ? context.signal : AbortSignal.any([context.signal, AbortSignal.timeout(seconds * 1000)])
  const pair = await untilPair(context, signal)
  if (pair === undefined) return
  const { hereIsLeft } = pair
  const other = context.otherAddress()
  const [leftAddress, rightAddress] = hereIsLeft ? [context.address, other] : [other, context.address]
  const keeper = new LinkKeeper({
    left: { address: leftAddress, deviceId: pair.left.device.id, openChannel: context.opener(leftAddress) },
    right: { address: rightAddress, deviceId: pair.right.device.id, openChannel: context.opener(rightAddress) },
    ...(flags.static === true ? { registerAnew: 'from outside' as const } : {}),
    openDevice: (address) => context.opener(parseHostPort(address, 'control address'))(),
    clock: env.clock,
    random: env.random,
    log: createLogger({ level: 'silent', format: 'json' }),
    onEvent: (event) => context.line({ atMs: env.clock.nowMs(), ...event }, event.message),
    lookMs,
    recipeTimeoutMs: context.timeoutMs,
    stalledAfterMs: flags.stalledAfter === 0 ? Infinity : flags.stalledAfter * 1000,
  })
  await keeper.run(signal)
}

/** Waits until both sites show devices that fit, telling what is missing; undefined when it was ended. */
async function untilPair(
  context: SiteContext,
  signal: AbortSignal,
): Promise<(LinkPair & { hereIsLeft: boolean }) | undefined> {
  const { flags, env } = context.request
  const { id, otherId } = flags
  const here = context.here()
  const other = context.connect(context.otherAddress())
  let said = ''
  while (!signal.aborted) {
    try {
      const [one, two] = await Promise.all([context.details(here), context.details(other)])
      const pair = findPair(one, two, {
        ...(id === undefined ? {} : { one: id }),
        ...(otherId === undefined ? {} : { other: otherId }),
      })
      return { ...pair, hereIsLeft: pair.left.site === one.url }
    } catch (error) {
      if (signal.aborted) break
      const message = `waiting: ${messageOf(error)}`
      if (message !== said)
        context.line({ atMs: env.clock.nowMs(), event: 'state', code: codeOf(error), message }, message)
      said = message
    }
    await sleep(env.clock, lookMs, signal).catch(() => {})
  }
  return undefined
}
