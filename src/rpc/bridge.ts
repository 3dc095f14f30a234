/**
 * From protobuf-es to grpc-js: typed calls and handlers over descriptors, so that no generated service code is needed.
 * Handlers are registered method by method, because a loop over a service's methods loses the types.
 */
export { methodDefinition, type TypedMethod } from './bridge-method.js'
export {
  bidiStream,
  clientStream,
  serverStream,
  unary,
  type BidiCall,
  type CallOptions,
  type ClientStreamCall,
  type ServerStreamCall,
  type UnaryResult,
} from './bridge-client.js'
export {
  addBidi,
  addClientStream,
  addServerStream,
  addUnary,
  type HandlerContext,
  type HandlerOptions,
  type MessageWriter,
} from './bridge-server.js'
export { writeMessage, type CallStatus, type WriteOutcome } from './bridge-stream.js'
export { RpcError, rpcError, statusName } from './rpc-error.js'
