import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { dirname, join, relative, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import ts from 'typescript'

const root = fileURLToPath(new URL('../..', import.meta.url))

/**
 * Writes a program and what it imports of ours into `folder` as JavaScript, so that starting it many times does not
 * compile it as often. For programs that import no package: those are not found from there. Resolves with the entry's path.
 */
export async function transpile(entry: string, folder: string): Promise<string> {
  await mkdir(folder, { recursive: true })
  await writeFile(join(folder, 'package.json'), '{ "type": "module" }')
  const written = new Set<string>()
  const write = async (source: string): Promise<string> => {
    const target = join(folder, relative(root, source).replace(/\.ts$/, '.js'))
    if (written.has(source)) return target
    written.add(source)
    const compiled = ts.transpileModule(await readFile(source, 'utf8'), {
      compilerOptions: { module: ts.ModuleKind.ESNext, target: ts.ScriptTarget.ES2022, verbatimModuleSyntax: true },
    }).outputText
    await mkdir(dirname(target), { recursive: true })
    await writeFile(target, compiled)
    for (const { fileName } of ts.preProcessFile(compiled).importedFiles) {
      if (fileName.startsWith('.')) await write(resolve(dirname(source), fileName).replace(/\.js$/, '.ts'))
    }
    return target
  }
  return write(resolve(root, entry))
}
