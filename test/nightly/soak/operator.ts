/** The operator's seat: starts and stops the link at the two SiteAgents, as SiteAgentCtl or a network manager would. */
import { codeOf, messageOf } from '../../../src/base/errors.js'
import { parseHostPort } from '../../../src/base/host-port.js'
import { openChannel } from '../../../src/rpc/channel.js'
import { ISiteAgent } from '../../../src/rpc/gen/cqp/remote/site_pb.js'
import { pathOf } from '../../../src/site/link-path.js'
import { openSiteConnection, type SiteConnection } from '../../../src/site/site-connection.js'
import type { SiteName } from '../../../src/demo/site.js'
import type { SoakSite } from './site.js'

/** A SiteAgent waits up to 10 s for a device that is not there, and stopping waits for devices as long as they please. */
const callTimeoutMs = 20_000
/** A Java SiteAgent never answers a StartNode that went well, nor an EndKeyExchange, and a C++ one waits for it. */
const javaTimeoutMs = 1_500
/** A Java site's link checker repeats a failed start; its own pause is 30 s. */
const javaAgainMs = 500

export class Operator {
  #start = 0
  readonly #connections: Readonly<Record<SiteName, SiteConnection>>

  constructor(
    private readonly sites: Readonly<Record<SiteName, SoakSite>>,
    private readonly signal: AbortSignal,
    private readonly onLog: (text: string) => void,
  ) {
    const connect = (site: SoakSite): SiteConnection => {
      const address = site.siteAgentAddress
      return openSiteConnection(parseHostPort(address, 'SiteAgent'), () =>
        openChannel({ address, what: `SiteAgent ${site.name}` }),
      )
    }
    this.#connections = { A: connect(sites.A), B: connect(sites.B) }
  }

  get #path(): ReturnType<typeof pathOf> {
    const { A, B } = this.sites
    return pathOf({ site: A.siteAgentAddress, deviceId: A.id }, { site: B.siteAgentAddress, deviceId: B.id })
  }

  get #someJava(): boolean {
    return this.sites.A.program === 'java' || this.sites.B.program === 'java'
  }

  /**
   * StartNode at the left site. Never rejects: what an operator sees of it proves nothing, keys do. At a Java site it is
   * repeated where it failed, as that site's own link checker would, until `rest`.
   */
  async start(): Promise<void> {
    this.#start += 1
    const mine = this.#start
    const java = this.sites.A.program === 'java'
    const timeoutMs = this.#someJava ? javaTimeoutMs : callTimeoutMs
    while (mine === this.#start) {
      try {
        await this.#connections.A.call(ISiteAgent.method.startNode, this.#path, timeoutMs, this.signal)
        return
      } catch (error) {
        if (this.#someJava && codeOf(error) === 'E_DEADLINE') return
        this.onLog(`StartNode: ${messageOf(error)}`)
        if (!java || this.signal.aborted) return
      }
      await new Promise((resolve) => setTimeout(resolve, javaAgainMs))
    }
  }

  /** Starts that failed are not repeated any more. */
  rest(): void {
    this.#start += 1
  }

  /** EndKeyExchange at one site; true where a link ran there. */
  async end(at: SiteName): Promise<boolean> {
    try {
      const timeoutMs = this.#someJava ? javaTimeoutMs : callTimeoutMs
      await this.#connections[at].call(ISiteAgent.method.endKeyExchange, this.#path, timeoutMs, this.signal)
      return true
    } catch (error) {
      if (this.#someJava && codeOf(error) === 'E_DEADLINE') return true
      if (codeOf(error) !== 'E_SITE_REFUSED') this.onLog(`EndKeyExchange at ${at}: ${messageOf(error)}`)
      return false
    }
  }

  /** The SiteAgent was restarted: what is left of the connection to it is of no use. */
  renew(at: SiteName): void {
    this.#connections[at].renew()
  }

  async close(): Promise<void> {
    await Promise.all([this.#connections.A.close(), this.#connections.B.close()])
  }
}
