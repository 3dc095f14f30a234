/** The network manager of a site with static hops: starts a link when all its devices are there, stops it when one is gone. */
import { status } from '@grpc/grpc-js'
import type * as grpc from '@grpc/grpc-js'
import { addUnary } from '../rpc/bridge.js'
import { INetworkManager } from '../rpc/gen/cqp/remote/network_pb.js'
import { RpcError } from '../rpc/rpc-error.js'
import type { PhysicalPath, Site } from '../rpc/gen/cqp/remote/site_pb.js'

interface StaticLink {
  readonly path: PhysicalPath
  active: boolean
}

export interface StaticLinksOptions {
  readonly paths: readonly PhysicalPath[]
  /** StartNode and EndKeyExchange at the first site of the path; true where it answered OK. */
  readonly startNode: (path: PhysicalPath) => Promise<boolean>
  readonly endKeyExchange: (path: PhysicalPath) => Promise<boolean>
}

export class StaticLinks {
  readonly #links: StaticLink[]
  readonly #sites = new Map<string, Site>()
  /** One registration at a time, as behind the original's lock. */
  #turn: Promise<void> = Promise.resolve()

  constructor(private readonly options: StaticLinksOptions) {
    this.#links = options.paths.filter((path) => path.hops.length > 0).map((path) => ({ path, active: false }))
  }

  get sites(): readonly Site[] {
    return [...this.#sites.values()]
  }

  /** A site tells its devices anew. Resolves when every link that this starts or stops has been. */
  registerSite(site: Site): Promise<void> {
    const turn = this.#turn.then(async () => {
      this.#sites.set(site.url, site)
      for (const link of this.#links) if (this.#involves(link, site.url)) await this.#check(link)
    })
    this.#turn = turn.catch(() => {})
    return turn
  }

  /** False where the site was not registered. */
  async unregisterSite(url: string): Promise<boolean> {
    if (!this.#sites.delete(url)) return false
    for (const link of this.#links) if (this.#involves(link, url)) await this.#check(link)
    return true
  }

  #involves(link: StaticLink, url: string): boolean {
    return link.path.hops.some((hop) => hop.first?.site === url || hop.second?.site === url)
  }

  #ready(link: StaticLink): boolean {
    return link.path.hops.every((hop) =>
      [hop.first, hop.second].every((side) => {
        const devices = this.#sites.get(side?.site ?? '')?.devices ?? []
        return devices.some((device) => device.config?.id === side?.deviceId)
      }),
    )
  }

  async #check(link: StaticLink): Promise<void> {
    const ready = this.#ready(link)
    if (ready && !link.active) link.active = await this.options.startNode(link.path)
    else if (!ready && link.active) link.active = !(await this.options.endKeyExchange(link.path))
  }
}

/** Serves `INetworkManager` for the sites that name this one in their file. */
export function registerNetworkManager(server: grpc.Server, links: StaticLinks): void {
  addUnary(server, INetworkManager.method.registerSite, async (site) => {
    await links.registerSite(site)
    return {}
  })
  addUnary(server, INetworkManager.method.unregisterSite, async ({ url }) => {
    if (!(await links.unregisterSite(url))) throw new RpcError(status.NOT_FOUND, 'Site not registered')
    return {}
  })
  addUnary(server, INetworkManager.method.getRegisteredSites, () => ({ sites: [...links.sites] }))
}
