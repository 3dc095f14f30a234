/**
 * Stands in for the maker's host program together with its unit: reads the same file, prints the lines that are known,
 * answers the same datagrams. Two of them that were given the same initial key make the same keys at about the same
 * time; with different ones they do not, as two real units would not.
 */
import { createHash } from 'node:crypto'
import { createSocket, type RemoteInfo, type Socket } from 'node:dgram'
import { readFileSync } from 'node:fs'
import type { Clock, Timer } from '../../src/base/clock.js'
import { GatewayError } from '../../src/base/errors.js'
import type { Random } from '../../src/base/random.js'
import type { FaultDescription } from '../../src/device/emulator-contract.js'
import { faultNumber } from '../../src/device/faulty-line.js'
import { INITIAL_KEY_BYTES, keyDigits } from './installation-file.js'
import {
  type ByteOrder,
  decodeRequest,
  encodeResponse,
  type KeyRequest,
  type KeyResponse,
  LONGEST_KEY_BYTES,
  NEW_KEY,
  type ResponseError,
} from './protocol.js'

export const HOST_FAULTS: readonly FaultDescription[] = [
  { name: 'drop', usage: '[answers=1]', meaning: 'the next answers are not sent' },
  { name: 'delay', usage: '[ms=1000]', meaning: 'every answer from now on comes so late; 0: no more' },
  { name: 'corrupt', usage: '[answers=1]', meaning: 'one bit of each of the next answers is changed' },
  { name: 'cut', usage: '[answers=1]', meaning: 'the next answers are cut in half' },
  { name: 'repeat', usage: '[answers=1]', meaning: 'the next answers are sent twice' },
  { name: 'foreign', usage: '[answers=1]', meaning: 'before each of the next answers comes one to another request' },
  { name: 'stranger', usage: '[answers=1]', meaning: 'before each of the next answers comes one from another port' },
  { name: 'error', usage: '<1..4> [answers=1]', meaning: 'the next answers are that error' },
  { name: 'lose', usage: '<key id>', meaning: 'the unit does not have that key' },
  { name: 'hang', usage: '[ms=5000]', meaning: 'neither lines nor answers; 0: until resume' },
  { name: 'resume', usage: '', meaning: 'ends hang' },
  { name: 'garbage', usage: '[lines=10]', meaning: 'lines that mean nothing, one of them very long' },
  { name: 'exit', usage: '[code=1]', meaning: 'the program ends' },
]

export interface EmulatedHostOptions {
  side: 'alice' | 'bob'
  installationFile: string
  host: string
  port: number
  order: ByteOrder
  /** Length of a round, ms, and the keys that each gives. */
  roundMs: number
  keysPerRound: number
  /**
   * Rounds are counted from this Unix time, ms: so both ends, and a program that was started again, give the same ids to
   * the same keys.
   */
  epochMs: number
  clock: Clock
  random: Random
  /** Prints one line. */
  print: (line: string) => void
  /** Ends the program. */
  exit: (code: number) => void
}

type AnswerFault = 'drop' | 'corrupt' | 'cut' | 'repeat' | 'foreign' | 'stranger'
const ANSWER_FAULTS: readonly AnswerFault[] = ['drop', 'corrupt', 'cut', 'repeat', 'foreign', 'stranger']

export class EmulatedHost {
  readonly #left = new Map<AnswerFault | 'error', number>()
  readonly #lost = new Set<bigint>()
  #error: ResponseError = 'noMoreKeys'
  #delayMs = 0
  #hung = false
  #seed = ''
  #given = 0n
  #socket: Socket | undefined
  #timers = new Set<Timer>()
  readonly #counts = { rounds: 0, requests: 0, answers: 0, badRequests: 0 }

  constructor(private readonly options: EmulatedHostOptions) {}

  /** Where the keys are to be had. */
  get port(): number {
    return this.#socket?.address().port ?? 0
  }

  /** Keys there are: ids 1 to this. */
  get #made(): bigint {
    const { clock, epochMs, roundMs, keysPerRound } = this.options
    return BigInt(Math.floor((clock.nowMs() - epochMs) / roundMs)) * BigInt(keysPerRound)
  }

  facts(): Record<string, number | string> {
    return { ...this.#counts, keysMade: String(this.#made), keysGiven: String(this.#given) }
  }

  /** False where the installation file cannot be used; the program then ends. */
  async start(): Promise<boolean> {
    const { installationFile, host, port, print, roundMs } = this.options
    let digits: Uint8Array | undefined
    try {
      digits = keyDigits(readFileSync(installationFile))
    } catch {
      print(`ERROR Installation: cannot read ${installationFile}`)
      return false
    }
    if (digits === undefined) {
      print('ERROR Installation: no initial_secret_key')
      return false
    }
    // What the real program makes of a key with missing digits is not known.
    if (digits.length !== INITIAL_KEY_BYTES * 2)
      print(`WARN Installation: initial_secret_key has ${digits.length} digits`)
    this.#seed = createHash('sha256').update(digits).digest('hex')
    const socket = createSocket('udp4')
    this.#socket = socket
    socket.on('message', (message, from) => this.#onRequest(message, from))
    await new Promise<void>((resolve, reject) => {
      socket.once('error', reject)
      socket.bind(port, host, () => resolve())
    })
    print(`INFO Sequence: started as ${this.options.side}`)
    this.#given = this.#made
    this.#after(roundMs, () => this.#round())
    return true
  }

  stop(): void {
    for (const timer of this.#timers) timer.cancel()
    this.#timers.clear()
    this.#socket?.close()
    this.#socket = undefined
  }

  #after(delayMs: number, fn: () => void): void {
    const timer = this.options.clock.after(delayMs, () => {
      this.#timers.delete(timer)
      fn()
    })
    this.#timers.add(timer)
  }

  #round(): void {
    const { print, roundMs, keysPerRound, random } = this.options
    this.#after(roundMs, () => this.#round())
    if (this.#hung) return
    this.#counts.rounds += 1
    const bits = keysPerRound * LONGEST_KEY_BYTES * 8
    print('INFO LineMeasurement: Line length:    25012.3 m')
    print(`INFO VisibilityMeasurement: Visibility of the system: ${(97 + 2 * random.fraction()).toFixed(2)}%`)
    print(`INFO ErrorCorrectionCascade: QBER: ${(1 + random.fraction()).toFixed(4)}`)
    print(`INFO PrivacyAmplification: Final key size: ${bits}`)
    print(`INFO PrivacyAmplification: Secret Key Rate = ${((bits * 1000) / roundMs).toFixed(1)} bits/s`)
  }

  #key(id: bigint, length: number): Uint8Array {
    return createHash('sha256').update(`${this.#seed} ${id}`).digest().subarray(0, length)
  }

  #answerTo(request: KeyRequest): KeyResponse {
    const refuse = (error: ResponseError): KeyResponse => ({ ...request, error, key: new Uint8Array(0) })
    if (this.#use('error')) return refuse(this.#error)
    if (request.deviceId < 1 || request.deviceId > 12) return refuse('invalidKeyRequest')
    if (request.keyLength < 1 || request.keyLength > LONGEST_KEY_BYTES) return refuse('wrongKeyLength')
    let id = request.keyId
    if (id === NEW_KEY) {
      if (this.#given >= this.#made) return refuse('noMoreKeys')
      this.#given += 1n
      id = this.#given
    } else if (id > this.#made || this.#lost.has(id)) {
      return refuse('keyIdDoesntExist')
    }
    return { ...request, keyId: id, error: 'success', key: this.#key(id, request.keyLength) }
  }

  #use(fault: AnswerFault | 'error'): boolean {
    const left = this.#left.get(fault) ?? 0
    if (left > 0) this.#left.set(fault, left - 1)
    return left > 0
  }

  #onRequest(message: Uint8Array, from: RemoteInfo): void {
    if (this.#hung) return
    const { order, random } = this.options
    const decoded = decodeRequest(message, order)
    if (!decoded.ok) {
      this.#counts.badRequests += 1
      return
    }
    this.#counts.requests += 1
    const answer = this.#answerTo(decoded.value)
    let bytes = encodeResponse(answer, order)
    if (this.#use('drop')) return
    if (this.#use('stranger')) this.#sendAsStranger(bytes, from)
    if (this.#use('foreign')) {
      this.#send(encodeResponse({ ...answer, requestId: (answer.requestId ^ 1) >>> 0 }, order), from)
    }
    if (this.#use('corrupt')) {
      const bit = Math.floor(random.fraction() * bytes.length * 8)
      bytes[bit >> 3] = (bytes[bit >> 3] ?? 0) ^ (1 << (bit & 7))
    }
    if (this.#use('cut')) bytes = bytes.subarray(0, bytes.length >> 1)
    const times = this.#use('repeat') ? 2 : 1
    for (let i = 0; i < times; i += 1) {
      if (this.#delayMs === 0) this.#send(bytes, from)
      else this.#after(this.#delayMs, () => this.#send(bytes, from))
    }
  }

  #send(bytes: Uint8Array, to: RemoteInfo): void {
    this.#counts.answers += 1
    this.#socket?.send(bytes, to.port, to.address, () => {})
  }

  #sendAsStranger(bytes: Uint8Array, to: RemoteInfo): void {
    const stranger = createSocket('udp4')
    stranger.send(bytes, to.port, to.address, () => stranger.close())
  }

  /** Does what was commanded and says what. Throws E_USAGE. */
  fault(name: string, args: readonly string[]): string {
    const number = (index: number, fallback: number): number => faultNumber(name, args[index], fallback)
    const answerFault = ANSWER_FAULTS.find((known) => known === name)
    if (answerFault !== undefined) {
      this.#left.set(answerFault, number(0, 1))
      return `${answerFault}: the next ${number(0, 1)} answers`
    }
    switch (name) {
      case 'error': {
        const errors: readonly ResponseError[] = [
          'noMoreKeys',
          'keyIdDoesntExist',
          'wrongKeyLength',
          'invalidKeyRequest',
        ]
        const error = errors[number(0, 0) - 1]
        if (error === undefined) throw new GatewayError('E_USAGE', 'fault error: name the error, 1 to 4')
        this.#error = error
        this.#left.set('error', number(1, 1))
        return `the next ${number(1, 1)} answers are ${error}`
      }
      case 'lose':
        this.#lost.add(BigInt(number(0, 0)))
        return `key ${number(0, 0)} is lost at this unit`
      case 'delay':
        this.#delayMs = number(0, 1_000)
        return `answers come ${this.#delayMs} ms late`
      case 'hang': {
        const ms = number(0, 5_000)
        this.#hung = true
        if (ms > 0) this.#after(ms, () => (this.#hung = false))
        return ms === 0 ? 'silent until resume' : `silent for ${ms} ms`
      }
      case 'resume':
        this.#hung = false
        return 'speaks again'
      case 'garbage': {
        const lines = number(0, 10)
        for (let i = 0; i < lines; i += 1) {
          this.options.print(
            i === 0 ? '#'.repeat(100_000) : `?? ${Buffer.from(this.options.random.bytes(8)).toString('hex')}`,
          )
        }
        return `${lines} lines that mean nothing`
      }
      case 'exit':
        this.options.exit(number(0, 1))
        return 'the program ends'
      default:
        throw new GatewayError('E_USAGE', `there is no fault ${name}`, {
          remedy: `faults are: ${HOST_FAULTS.map((fault) => fault.name).join(', ')}`,
        })
    }
  }
}
