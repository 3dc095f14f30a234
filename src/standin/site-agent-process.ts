/**
 * A stand-in SiteAgent as a process of its own. Stdout: one JSON object a line, the events of `site-agent-events.ts` and
 * the answers below. Stdin: one command a line,
 *
 *     digest N [STORE]   {"event":"digest","keys":N,"digest":"…"}; without "digest" while fewer than N keys came
 *     range FROM N [STORE]  the same over the N keys behind the first FROM: {"event":"range","from":FROM,"keys":N,"digest":"…"}
 *     keys [STORE]       {"event":"received","count":n,"digest":"…"}
 *     devices            {"event":"devices","devices":[{"id","controlAddress"}]}
 *     restart [MS]       dies and comes back at its address after MS (default 0); {"event":"restarted", …} when it is back
 *     kill-streams       cuts every stream to devices
 *     fault NAME VALUE   sets a switch of `CppFaults`: a number, on, off
 *     quit               ends, as end of input does
 *
 * Keys never leave the process.
 */
import { createHash } from 'node:crypto'
import { GatewayError, messageOf } from '../base/errors.js'
import type { CppSiteAgentOptions } from './cpp-options.js'
import { startCppSiteAgent, type StandinSiteAgent } from './cpp-site-agent.js'
import { startJavaSiteAgent, type JavaSiteAgentOptions } from './java-site-agent.js'
import { say, serveCommands, type StandinProcessIo } from './json-lines.js'

/** Runs one C++ SiteAgent until the signal aborts, stdin ends or `quit`. */
export async function runSiteAgentProcess(options: CppSiteAgentOptions, io: StandinProcessIo): Promise<void> {
  const agent = await startCppSiteAgent(options)
  try {
    for (const event of agent.events.history) say(io, event)
    agent.on((event) => say(io, event))
    await serveCommands(io, commandsOf(agent, agent.faults, io))
  } finally {
    await agent.close()
  }
}

/** The same for a Java SiteAgent; it has no switches. */
export async function runJavaSiteAgentProcess(options: JavaSiteAgentOptions, io: StandinProcessIo): Promise<void> {
  const agent = await startJavaSiteAgent(options)
  try {
    for (const event of agent.events.history) say(io, event)
    agent.on((event) => say(io, event))
    await serveCommands(io, commandsOf(agent, {}, io))
  } finally {
    await agent.close()
  }
}

/** The commands of a running stand-in, whichever SiteAgent it is. */
export function commandsOf<F extends object>(
  agent: Pick<StandinSiteAgent, 'digest' | 'receivedKeys' | 'devices' | 'restart' | 'killStreams' | 'readAgain'>,
  faults: F,
  io: Pick<StandinProcessIo, 'stdout'>,
): Readonly<Record<string, (words: readonly string[]) => void>> {
  const guarded =
    (work: (words: readonly string[]) => void) =>
    (words: readonly string[]): void => {
      try {
        work(words)
      } catch (error) {
        say(io, { event: 'error', message: messageOf(error) })
      }
    }
  return {
    digest: guarded(([count, store]) => {
      const wanted = wholeNumber('digest', count)
      say(io, { event: 'digest', keys: wanted, digest: agent.digest(wanted, store) })
    }),
    range: guarded(([from, count, store]) => {
      const first = wholeNumber('range', from)
      const wanted = wholeNumber('range', count)
      const keys = agent.receivedKeys(store).slice(first, first + wanted)
      say(io, {
        event: 'range',
        from: first,
        keys: wanted,
        ...(keys.length < wanted ? {} : { digest: digestOf(keys) }),
      })
    }),
    keys: guarded(([store]) => {
      const count = agent.receivedKeys(store).length
      say(io, { event: 'received', count, digest: agent.digest(count, store) })
    }),
    devices: guarded(() => say(io, { event: 'devices', devices: agent.devices() })),
    restart: guarded(([downMs = '0']) => {
      agent
        .restart(Number(downMs))
        .catch((error: unknown) => say(io, { event: 'error', message: `restart: ${messageOf(error)}` }))
    }),
    'kill-streams': guarded(() => agent.killStreams()),
    fault: guarded(([name = '', value = 'on']) => {
      setFault(faults, name, value)
      agent.readAgain()
      say(io, { event: 'fault', name, value })
    }),
  }
}

function wholeNumber(command: string, text: string | undefined): number {
  const value = Number(text)
  if (!Number.isSafeInteger(value) || value < 0) {
    throw new GatewayError('E_USAGE', `${command}: "${text}" is no number of keys`)
  }
  return value
}

function digestOf(keys: readonly Uint8Array[]): string {
  const hash = createHash('sha256')
  for (const key of keys) hash.update(key)
  return hash.digest('hex')
}

/** Sets one switch by name; a number, `on` or `off`. Throws E_USAGE for what is no switch. */
export function setFault(faults: object, name: string, value: string): void {
  const switches = Object.keys(faults).join(', ')
  if (!Object.hasOwn(faults, name)) {
    throw new GatewayError('E_USAGE', `no switch "${name}"`, { remedy: `switches: ${switches}` })
  }
  const parsed = value === 'on' ? true : value === 'off' ? false : Number(value)
  if (Number.isNaN(parsed)) throw new GatewayError('E_USAGE', `switch ${name}: "${value}" is no number, on or off`)
  Object.assign(faults, { [name]: parsed })
}
