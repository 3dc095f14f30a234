/** Which SiteAgent answers: told by what it serves, never configured. */
import { status } from '@grpc/grpc-js'
import { IKey } from '../rpc/gen/cqp/remote/keys_pb.js'
import type { SiteDialect } from './contract.js'
import { statusBehind, type SiteConnection } from './site-connection.js'

/**
 * A C++ SiteAgent hands out keys itself and so serves IKey; the Java one serves ISiteAgent alone. `GetKeyStores` changes
 * nothing at either. 'unknown' while neither was heard.
 */
export async function detectDialect(
  connection: SiteConnection,
  timeoutMs: number,
  signal: AbortSignal,
): Promise<SiteDialect> {
  try {
    await connection.call(IKey.method.getKeyStores, {}, timeoutMs, signal)
    return 'cpp'
  } catch (error) {
    return statusBehind(error) === status.UNIMPLEMENTED ? 'java' : 'unknown'
  }
}
