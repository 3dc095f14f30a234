/**
 * A C++ Dummy device as a process of its own. Stdout: one JSON object a line, `listening` and the events of
 * `DummyEvent`. Stdin: one command a line,
 *
 *     fault NAME VALUE   sets a switch of `DummyFaults`: a number, on, off
 *     quit               ends, as end of input does
 *
 * Keys never leave the process.
 */
import { messageOf } from '../base/errors.js'
import { startDummyDevice } from './dummy-device.js'
import type { DummyDeviceOptions } from './dummy-options.js'
import { say, serveCommands, type StandinProcessIo } from './json-lines.js'
import { setFault } from './site-agent-process.js'

/** Runs one Dummy device until the signal aborts, stdin ends or `quit`. */
export async function runDummyProcess(options: DummyDeviceOptions, io: StandinProcessIo): Promise<void> {
  const device = await startDummyDevice(options)
  try {
    say(io, { event: 'listening', id: device.id, address: device.address })
    device.events.on((event) => say(io, 'frame' in event ? { ...event, frame: String(event.frame) } : event))
    await serveCommands(io, {
      fault: ([name = '', value = 'on']) => {
        try {
          setFault(device.faults, name, value)
          say(io, { event: 'fault', name, value })
        } catch (error) {
          say(io, { event: 'error', message: messageOf(error) })
        }
      },
    })
  } finally {
    await device.close()
  }
}
