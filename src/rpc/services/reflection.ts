import { toBinary, type DescFile } from '@bufbuild/protobuf'
import { FileDescriptorProtoSchema } from '@bufbuild/protobuf/wkt'
import type { Server } from '@grpc/grpc-js'
import { ReflectionService } from '@grpc/reflection'

/** Server reflection (v1 and v1alpha) over these files and what they import; lists the services named. */
export function addReflectionService(server: Server, files: readonly DescFile[], services: readonly string[]): void {
  const all = new Map<string, DescFile>()
  const gather = (file: DescFile): void => {
    if (all.has(file.name)) return
    all.set(file.name, file)
    file.dependencies.forEach(gather)
  }
  files.forEach(gather)
  const fileDescriptorProtos = [...all.values()].map((file) =>
    Buffer.from(toBinary(FileDescriptorProtoSchema, file.proto)),
  )
  // The package reads nothing but the descriptors; the rest of the entry is what its type asks for.
  const entry = { format: 'Protocol Buffer 3 EnumDescriptorProto' as const, type: {}, fileDescriptorProtos }
  new ReflectionService({ files: entry }, { services: [...services] }).addToServer(server)
}
