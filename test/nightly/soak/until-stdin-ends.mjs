// Preloaded into a gateway: whoever started it holds its stdin, and the gateway ends with it, however that one ended.
process.stdin.once('end', () => {
  process.kill(process.pid, 'SIGTERM')
  setTimeout(() => process.exit(1), 3_000).unref()
})
process.stdin.resume()
process.stdin.unref?.()
