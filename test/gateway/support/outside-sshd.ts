/**
 * An SSH server whose callers come from elsewhere: a connection to its listener that arrives from 127.0.0.9 is told to
 * the client as one from 203.0.113.9, as a server on the Internet would tell it. Every other one is told as it is.
 */
import net from 'node:net'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import ssh2 from 'ssh2'
import { generateSshKey } from '../../../src/standin/sshd.js'
import { onCleanup, tempFolder, type SshSide } from './lab.js'

/** Where outside callers dial from, and what they are told as. */
export const OUTSIDE = { from: '127.0.0.9', toldAs: '203.0.113.9' } as const

export async function startOutsideSshd(): Promise<SshSide> {
  const folder = tempFolder()
  const [host, client] = [generateSshKey('host'), generateSshKey('client')]
  const keyFile = join(folder, 'client')
  writeFileSync(keyFile, client.privateKey, { mode: 0o600 })
  const open = new Set<net.Socket | net.Server>()
  const server = new ssh2.Server({ hostKeys: [host.privateKey] }, (connection) => {
    connection.on('error', () => {})
    // Who logs in is not the question here.
    connection.on('authentication', (context) => context.accept())
    connection.on('request', (accept, reject, name, info) => {
      if (name !== 'tcpip-forward') {
        reject?.()
        return
      }
      const listener = net.createServer({ noDelay: true, pauseOnConnect: true }, (socket) => {
        open.add(socket)
        socket.on('error', () => {})
        const { remoteAddress = '', remotePort = 0 } = socket
        const told = remoteAddress === OUTSIDE.from ? OUTSIDE.toldAs : remoteAddress
        const bound = (listener.address() as net.AddressInfo).port
        connection.forwardOut(info.bindAddr, bound, told, remotePort, (error, channel) => {
          if (error !== undefined) {
            socket.destroy()
            return
          }
          channel.on('error', () => {})
          channel.on('close', () => socket.destroy())
          socket.on('close', () => channel.destroy())
          socket.pipe(channel).pipe(socket)
        })
      })
      open.add(listener)
      listener.listen(info.bindPort, '127.0.0.1', () => accept?.((listener.address() as net.AddressInfo).port))
      connection.on('close', () => listener.close())
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  onCleanup(() => {
    server.close()
    for (const one of open) {
      if (one instanceof net.Server) one.close()
      else one.destroy()
    }
  })
  const { port } = server.address() as net.AddressInfo
  const knownHosts = join(folder, 'known_hosts')
  writeFileSync(knownHosts, `[127.0.0.1]:${port} ${host.publicKey.split(' ').slice(0, 2).join(' ')}\n`)
  return { server: `lab@127.0.0.1:${port}`, keyFile, knownHosts }
}
