/** Relays to one port, each line `NAME` of stdin for one of them: `delay MS`, `reset`, `reset oldest`, `stop`. Prints their ports. */
import { createInterface } from 'node:readline'
import { startRelay } from '../../src/standin/relay.js'

const [port = '0', count = '1'] = process.argv.slice(2)
const relays = await Promise.all(
  Array.from({ length: Number(count) }, () => startRelay({ host: '127.0.0.1', port: Number(port) })),
)
process.stdout.write(`${JSON.stringify(relays.map((relay) => relay.port))}\n`)
createInterface({ input: process.stdin }).on('line', (line) => {
  const [what = '', index = '0', value = '0'] = line.split(' ')
  const relay = relays[Number(index)]
  if (what === 'delay') relay?.delay(Number(value))
  else if (what === 'reset') relay?.reset(value === 'oldest' ? 'oldest' : 'all')
  else if (what === 'stop') relay?.stop('present')
})
