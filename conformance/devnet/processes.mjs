// The processes of the check: skyfill, the official AppView and the official indexer. Whatever
// ends the check ends them, each by its own number.
import { spawn } from 'node:child_process'
import fs from 'node:fs'

const running = new Set()

export function killAll() {
  for (const child of running) child.kill('SIGKILL')
}

// Starts a program whose output goes to a file.
export function start(program, args, { log, env }) {
  const file = fs.openSync(log, 'a')
  fs.writeSync(file, `$ ${[program, ...args].join(' ')}\n`)
  const child = spawn(program, args, {
    stdio: ['ignore', file, file],
    env: { ...process.env, ...env },
  })
  running.add(child)
  child.ended = new Promise((ended, failed) => {
    child.once('error', failed)
    child.once('exit', (code, signal) => {
      running.delete(child)
      fs.writeSync(file, `= ${signal ?? code}\n`)
      fs.closeSync(file)
      ended(signal ?? code)
    })
  })
  child.ended.catch(() => {})
  child.log = log
  return child
}

// Runs a program to its end, which must be one of these exit codes.
export async function run(program, args, { good = [0], ...options }) {
  const child = start(program, args, options)
  const code = await child.ended
  if (!good.includes(code)) {
    const last = fs.readFileSync(options.log, 'utf8').split('\n').slice(-40).join('\n')
    throw new Error(`${program} ${args[0]} ended with ${code}:\n${last}`)
  }
  return code
}

export const sleep = (milliseconds) => new Promise((go) => setTimeout(go, milliseconds))

// Waits until `question` answers something true; that, and the seconds that it took.
export async function until(what, question, { seconds = 120, every = 200 } = {}) {
  const began = Date.now()
  for (;;) {
    const answer = await question()
    const took = (Date.now() - began) / 1000
    if (answer) return { answer, took }
    if (took > seconds) throw new Error(`after ${seconds} s still not: ${what}`)
    await sleep(every)
  }
}
