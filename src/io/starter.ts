/** Ends a process with the one that started it, also where that one is killed and can tell nobody. */

/** Set by whoever wants that, together with an IPC channel, which breaks when one of its ends is gone. */
const ENDS_WITH_STARTER = 'QKD_GW_ENDS_WITH_STARTER'

/** To be added to the environment of a child that has 'ipc' in its stdio. */
export const endsWithStarter: Readonly<Record<string, string>> = { [ENDS_WITH_STARTER]: '1' }

/** Calls `gone` once the process that started this one is no longer there, if it asked for that; keeps nothing alive. */
export function whenStarterIsGone(gone: () => void): void {
  if (process.env[ENDS_WITH_STARTER] !== '1' || process.channel === undefined) return
  process.once('disconnect', gone)
  // The listener alone would keep a process that is done from ending.
  process.channel.unref()
}
