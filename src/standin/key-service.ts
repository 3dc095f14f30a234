/** Key stores of a C++ SiteAgent by destination, and `IKey` and `IKeyFactory` over them. */
import { status } from '@grpc/grpc-js'
import type * as grpc from '@grpc/grpc-js'
import type { Clock } from '../base/clock.js'
import { IKeyFactory } from '../rpc/gen/cqp/remote/key_factory_pb.js'
import { IKey } from '../rpc/gen/cqp/remote/keys_pb.js'
import { addUnary } from '../rpc/bridge.js'
import { RpcError } from '../rpc/rpc-error.js'
import { StandinKeyStore, type KeptKeys, type KeyStoreAnswer, type StoredKey } from './key-store.js'
import { KeyStoreFigures, type ReportServer } from './report-server.js'
import { callUnary } from './wire.js'

export interface KeyServiceOptions {
  readonly name: string
  readonly connectionAddress: string
  readonly clock: Clock
  readonly waitMs: number
  readonly reports: ReportServer
  /** False while the switch `reportsNothing` is on. */
  readonly mayReport: () => boolean
  readonly siteClient: (address: string) => grpc.Client
  /** What a backing store kept of a store over a restart. */
  readonly kept: (storeName: string) => KeptKeys | undefined
}

/** `host:port` with the host as the resolver would call it: two spellings of one address stay two stores. */
export function storeName(destination: string): string {
  return destination.replace(/^(dns:\/\/\/|dns:|ipv4:|ipv6:|\/\/)/, '').toLowerCase()
}

/** The form in which the original names a key, percent-encoded as it stands. */
function keyUrl(destination: string, id: bigint): string {
  const object = encodeURIComponent(encodeURIComponent(destination))
  const hex = id.toString(16)
  return `pkcs11:type%3Dsecret-key;object%3D${object};id%3D0x${hex.length % 2 === 0 ? hex : `0${hex}`}`
}

export class KeyService {
  readonly #stores = new Map<string, StandinKeyStore>()
  #nextFigureId = 0n

  constructor(private readonly options: KeyServiceOptions) {}

  get stores(): ReadonlyMap<string, StandinKeyStore> {
    return this.#stores
  }

  /** The store for `destination`, made when first asked for. */
  store(destination: string): StandinKeyStore {
    const name = storeName(destination)
    const present = this.#stores.get(name)
    if (present !== undefined) return present
    const { clock, waitMs, reports, connectionAddress } = this.options
    const parameters = { siteFrom: connectionAddress, siteName: this.options.name }
    const figures = new KeyStoreFigures(this.#nextFigureId, parameters, clock, (report) => {
      if (this.options.mayReport()) reports.publish(report)
    })
    this.#nextFigureId += 4n
    const kept = this.options.kept(name)
    const store: StandinKeyStore = new StandinKeyStore({
      destination,
      clock,
      waitMs,
      ...(kept === undefined ? {} : { kept }),
      markAtOtherSite: (id) => this.#markAt(destination, id),
      onChange: ({ generated, used }) => {
        if (generated !== undefined) figures.received(generated, store.unusedCount, store.reservedCount)
        if (used !== undefined) figures.used(used)
      },
    })
    this.#stores.set(name, store)
    return store
  }

  close(): void {
    for (const store of this.#stores.values()) store.close()
  }

  register(server: grpc.Server): void {
    addUnary(server, IKey.method.getKeyStores, () => ({ urls: [...this.#stores.keys()].sort() }))
    addUnary(server, IKey.method.getSharedKey, async (request) => {
      const store = this.#stores.get(storeName(request.siteTo))
      if (store === undefined) {
        throw new RpcError(status.INVALID_ARGUMENT, 'No key store available for specified sites')
      }
      const { id, key } = taken(
        request.opt.case === 'keyId' ? await store.takeExisting(request.opt.value) : await store.takeNew(),
      )
      return { keyId: id, keyValue: key, url: keyUrl(request.siteTo, id) }
    })
    addUnary(server, IKeyFactory.method.markKeyInUse, async (request) => {
      const wanted = request.opt.case === 'keyId' ? request.opt.value : 0n
      const answer = await this.store(request.siteTo).markInUse(wanted)
      if (!answer.ok) throw new RpcError(status.UNAVAILABLE, 'Key already reserved, no new keys available.')
      return { keyId: answer.value }
    })
    // Keys over several hops are made by XOR at the sites between; no link of two devices needs them.
    addUnary(server, IKeyFactory.method.buildXorKey, () => {
      throw new RpcError(status.INVALID_ARGUMENT, 'Invalid path')
    })
    addUnary(server, IKeyFactory.method.getCombinedKey, async (request) => {
      const left = this.store(request.leftSite)
      const right = this.store(request.rightSite)
      const leftKey = taken(
        request.leftKey.case === 'leftKeyId' ? await left.takeExisting(request.leftKey.value) : await left.takeNew(),
      )
      const rightKey = taken(await right.takeExisting(request.rightKeyId))
      const combinedKey = leftKey.key.map((byte, index) => byte ^ (rightKey.key[index] ?? 0))
      return { combinedKey, leftId: leftKey.id }
    })
  }

  async #markAt(destination: string, id: bigint): Promise<KeyStoreAnswer<bigint>> {
    try {
      const answer = await callUnary(this.options.siteClient(destination), IKeyFactory.method.markKeyInUse, {
        siteTo: this.options.connectionAddress,
        opt: { case: 'keyId', value: id },
      })
      return { ok: true, value: answer.keyId }
    } catch {
      return { ok: false, refusal: 'unavailable' }
    }
  }
}

function taken(answer: KeyStoreAnswer<StoredKey>): StoredKey {
  if (answer.ok) return answer.value
  if (answer.refusal === 'exhausted') throw new RpcError(status.RESOURCE_EXHAUSTED, 'No key available')
  throw new RpcError(status.NOT_FOUND, 'No key found within timeout.')
}
