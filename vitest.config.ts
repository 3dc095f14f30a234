import { defineConfig } from 'vitest/config'
import { LongestFirst } from './test/support/longest-first.js'

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    // Real sshd, PTYs and child processes share two cores with the tests: generous, and never what a test waits on.
    testTimeout: 120_000,
    hookTimeout: 60_000,
    // Unattended runs share two cores with whatever else runs there: one more try, which the report shows.
    retry: process.env['CI'] === undefined ? 0 : 1,
    pool: 'forks',
    // Tests with processes and sshd wait more than they work: two workers leave a third of two cores idle.
    maxWorkers: 3,
    sequence: { sequencer: LongestFirst },
  },
})
