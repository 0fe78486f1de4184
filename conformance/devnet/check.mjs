// Follows the official dev network with skyfill, and compares the tables with those of the official
// indexer. scripts/devnet.sh runs it.
// Usage: node check.mjs SKYFILL POSTGRESQL-URL FOLDER SEED DEEDS
import fs from 'node:fs'
import path from 'node:path'
import { parseArgs } from 'node:util'
import { Database, RepoSubscription } from '@atproto/bsky'
import { World } from './activity.mjs'
import { AppView } from './appview.mjs'
import { checkTimes, compareDatabases, connect, makeDatabase } from './database.mjs'
import { Network } from './network.mjs'
import { killAll, run, start, until } from './processes.mjs'
import { Relay } from './relay.mjs'
import { live, seed, wakeAll } from './scenario.mjs'

const { positionals } = parseArgs({ allowPositionals: true })
const [skyfill, server, folder] = positionals
const [seedNumber, deeds] = positionals.slice(3).map(Number)
const file = (name) => path.join(folder, name)
const began = Date.now()
function say(text) {
  const seconds = Math.round((Date.now() - began) / 1000)
  console.error(`${String(seconds).padStart(4)} s  ${text}`)
}
// Rows that are printed of a difference.
const SHOWN = 20
const faults = []
function fault(what, details = []) {
  faults.push(what)
  console.error(`DIFFERENT: ${what}`)
  for (const detail of details.slice(0, SHOWN)) console.error(`  ${detail.slice(0, 500)}`)
  if (details.length > SHOWN) console.error(`  and ${details.length - SHOWN} more`)
}

const linesOf = (log) => fs.readFileSync(log, 'utf8').split('\n')
const listed = (counts) => counts.map(([name, count]) => `${count} ${name}`).join(', ')

for (const signal of ['SIGINT', 'SIGTERM']) {
  process.once(signal, () => {
    killAll()
    process.exit(130)
  })
}
process.once('exit', killAll)

// ---- the network ----

const network = await Network.start(folder)
const relay = await Relay.start(network.pdses.map(({ url }) => url))
const world = new World(seedNumber)
say(`two PDSes, a PLC directory and a relay; seed ${seedNumber}`)
// Whether the relay has all that the PDSes have.
const isRelayed = async () => {
  for (const [at, { ctx }] of network.pdses.entries()) {
    if (relay.sources[at].cursor < ((await ctx.sequencer.curr()) ?? 0)) return false
  }
  return true
}
await seed(world, network, deeds)
await until('the relay has all events', isRelayed)
say(`seeded: ${world.accounts.length} accounts, ${relay.seq} events`)

// ---- skyfill ----

const followed = await makeDatabase(server, 'followed')
const client = await connect(followed)
// Its names are in no other DNS, and their well-known files come from one server.
const NETWORK = [
  '--relay', relay.url, '--plc-url', network.plc.url, '--well-known-server', network.names.url,
  '--dns-server', network.names.dnsServer, '--allow-private-hosts',
  '--host-rate', '1000', '--plc-rate', '1000',
]
const LOAD = ['run', '--discover', ...NETWORK, '--progress', 'plain', '-v']
const UNTIL_NOW = ['follow', '--until-now', ...NETWORK, '-v']
const options = (database, name) => ({
  log: file(`${name}.log`),
  env: { BSKY_DB_POSTGRES_URL: database },
})
const onFollowed = options(followed, 'follow')
await run(skyfill, ['migrate'], onFollowed)

const follower = {
  begin() {
    this.child = start(skyfill, [...LOAD, '--follow'], onFollowed)
  },
  async status() {
    const { rows: [status] } = await client.query(
      `SELECT (SELECT cursor::int FROM skyfill.stream WHERE relay = $1) AS cursor,
         (SELECT count(*)::int FROM skyfill.behind WHERE NOT is_settled) AS behind,
         (SELECT count(*)::int FROM skyfill.repo WHERE state IN ('open', 'coming')) AS pending,
         (SELECT count(*)::int FROM skyfill.identity WHERE due <= now()) AS due,
         (SELECT count(*)::int FROM skyfill.finalize_slice WHERE NOT done) AS slices`,
      [relay.url],
    )
    return status
  },
  // Waits until all that the PDSes have said is stored.
  async catchUp() {
    await until('the relay has all events', isRelayed)
    const head = relay.seq
    await until(`skyfill has stored event ${head}`, async () => {
      if (this.child.exitCode !== null) throw new Error(`skyfill ended; see ${this.child.log}`)
      return (await this.status()).cursor >= head
    }, { seconds: 300 })
  },
  // The same, and until no repo is behind and no account is due.
  async settle() {
    await this.catchUp()
    const settled = until('no repo is behind, and no account is due', async () => {
      const { behind, pending, due } = await this.status()
      return behind + pending + due === 0
    }, { seconds: 300 })
    await settled.catch(async (error) => {
      fault(`${error.message}: ${JSON.stringify(await this.status())}`)
    })
  },
  async kill() {
    this.child.kill('SIGKILL')
    await this.child.ended
  },
  async stop() {
    this.child.kill('SIGTERM')
    const code = await this.child.ended
    if (code !== 4) fault(`skyfill ended with ${code} on SIGTERM`)
  },
  // Stores what happened meanwhile, and stops while it computes what follows from that, if this
  // skyfill was built with failpoints (it was, if this project's tests use it).
  async endAmidDerivedRows() {
    const env = { ...onFollowed.env, SKYFILL_FAILPOINT: 'slice,stop' }
    const code = await run(skyfill, UNTIL_NOW, { ...onFollowed, env, good: [0, 2, 4] })
    if (code !== 4) say('skyfill was not stopped while it computed derived rows: no failpoints')
  },
  // What is left to do once the stream was followed to its end.
  async finish() {
    await run(skyfill, UNTIL_NOW, onFollowed)
    const status = await this.status()
    if (status.cursor !== relay.seq || status.behind > 0) {
      fault(`not all up to event ${relay.seq} is stored: ${JSON.stringify(status)}`)
    }
    if (status.slices > 0) {
      fault(`derived rows are left half computed: ${status.slices} slices are not done`)
      // So that the comparison shows what else differs.
      await run(skyfill, ['finalize'], onFollowed)
    }
  },
}
follower.begin()
await until('skyfill begins to load', async () => {
  const { rows } = await client.query("SELECT to_regclass('skyfill.repo') AS is_there")
  return rows[0].is_there !== null
})
// It does not stand still while it is loaded.
await world.act(60)
await until('skyfill follows', async () => (await follower.status()).cursor !== null)
await follower.catchUp()
say(`loaded, and live: event ${relay.seq}`)

// ---- the official AppView, and the life of the network ----

function judgeView() {
  for (const bad of view.bad.splice(0)) fault(`the official AppView: ${bad}`)
}
const view = await AppView.start(followed, network.plc.url, file('appview.log'))
say('the official AppView serves the same database')
await live({ world, network, relay, follower, view, say, deeds })
await follower.settle()
say(`lived: ${relay.seq} events`)
judgeView()
await follower.stop()
await world.act(40)
await until('the relay has all events', isRelayed)
await follower.endAmidDerivedRows()
await follower.finish()

// ---- the official indexer ----

// The tables that the official indexer makes of the present repos.
async function official(name) {
  const url = await makeDatabase(server, name)
  const place = file(name)
  fs.mkdirSync(path.join(place, 'cars'), { recursive: true })
  const [claims, leads] = [{}, {}]
  const present = world.accounts.filter(({ status }) => status !== 'deleted')
  for (const account of present) {
    const car = await network.repoOf(account)
    fs.writeFileSync(path.join(place, 'cars', `${account.did.replaceAll(':', '_')}.car`), car)
    const { claimed, leadsTo } = await network.handleOf(account)
    claims[account.did] = claimed
    if (leadsTo) leads[claimed.toLowerCase()] = leadsTo
  }
  fs.writeFileSync(path.join(place, 'handles.json'), JSON.stringify({ claims, leads }))
  const args = ['index.mjs', url, place, new Date().toISOString()]
  await run(process.execPath, args, { log: file(`${name}.log`) })
  // As the official code does when it hears of it.
  const db = new Database({ url, schema: 'bsky', poolSize: 1 })
  const { indexingSvc } = new RepoSubscription({ service: 'ws://127.0.0.1:1', db, idResolver: {} })
  for (const { did, status } of present) {
    if (status) await indexingSvc.updateActorStatus(did, false, status)
  }
  await db.close()
  return url
}

let rowsCompared = 0
async function compare(what, officialUrl, url) {
  const { differences, counts, rows } = await compareDatabases(officialUrl, url)
  rowsCompared += rows
  const tables = Object.keys(counts).length
  if (differences.length === 0) say(`${what}: ${rows} rows of ${tables} tables are the same`)
  else fault(`${what}: ${differences.length} rows differ (- official, + skyfill)`, differences)
  return counts
}

// The times of the events that made each version of a record.
function timesOfEvents() {
  const times = new Map()
  for (const { did, time, ops } of relay.events) {
    for (const { path: key, cid } of ops ?? []) {
      if (!cid) continue
      const name = `at://${did}/${key} ${cid}`
      if (!times.has(name)) times.set(name, new Set())
      times.get(name).add(time)
    }
  }
  return times
}

async function compareTimes() {
  const [from, to] = [new Date(began).toISOString(), new Date().toISOString()]
  const { wrong, counts } = await checkTimes(followed, timesOfEvents(), from, to)
  if (wrong.length > 0) fault(`indexedAt: ${wrong.length} times are wrong`, wrong)
  else say(`indexedAt: ${listed(Object.entries(counts))}`)
}

async function verify(database, name) {
  const { log, env } = options(database, 'verify')
  const code = await run(skyfill, ['verify', '--all'], { log, env, good: [0, 1] })
  if (code !== 0) fault(`skyfill verify --all of ${name}`, linesOf(log).slice(-30))
  else say(`skyfill verify --all finds nothing in ${name}`)
}

const inactive = world.accounts.filter(({ status }) => status && status !== 'deleted')
const asleep = await official('official_asleep')
await compare(`followed, while ${inactive.length} accounts are not active`, asleep, followed)
await compareTimes()
await verify(followed, 'followed')

// ---- everybody is active again, and a fresh load ----

follower.begin()
await wakeAll({ world, network, view })
await follower.settle()
say(`awake: ${relay.seq} events`)
await follower.stop()
await follower.finish()
if ((await view.stop()) !== 0) fault('the official AppView did not end well')
judgeView()
const last = await official('official_awake')
const counts = await compare('followed, with all accounts active', last, followed)
await compareTimes()
await verify(followed, 'followed')

const loaded = await makeDatabase(server, 'loaded')
const onLoaded = options(loaded, 'load')
await run(skyfill, ['migrate'], onLoaded)
if ((await run(skyfill, LOAD, { ...onLoaded, good: [0, 1] })) !== 0) {
  fault('a fresh load is not complete', linesOf(onLoaded.log).slice(-20))
}
await compare('loaded freshly', last, loaded)
await compare('followed and loaded freshly', loaded, followed)

// ---- what it came to ----

// How often each thing is in a list.
function tally(things) {
  const counts = new Map()
  for (const thing of things) counts.set(thing, (counts.get(thing) ?? 0) + 1)
  return listed([...counts].sort())
}
const { rows: [stored] } = await client.query(
  'SELECT events, commits, repeated, refused, fetched, differed FROM skyfill.followed',
)
await client.end()
const delays = view.delays.toSorted((a, b) => a - b)
const median = delays[delays.length >> 1]
const operations = relay.events.flatMap(({ ops }) => ops ?? [])
const states = tally(world.accounts.map(({ status }) => status ?? 'active'))
const methods = [...view.methods].map(([name, count]) => [name.split('.').pop(), count])
console.log(`seed            ${seedNumber}
events          ${relay.seq}: ${tally(relay.events.map(({ kind }) => `#${kind}`))}
operations      ${operations.length}: ${tally(operations.map(({ action }) => action))}
done            ${listed([...world.done].sort())}
refused by PDS  ${listed([...world.refused]) || 'nothing'}
accounts        ${world.accounts.length}: ${states}
records         ${counts.record} at the end
skyfill         ${listed(Object.entries(stored))}
AppView         ${view.calls} read calls: ${listed(methods.sort())}
appeared        ${delays.length} things, after ${median} s in the middle, ${delays.at(-1)} s at most
rows compared   ${rowsCompared}
differences     ${faults.length === 0 ? 'none' : faults.join('; ')}`)
if (faults.length > 0) console.log(`logs            ${folder}`)
relay.stop()
await network.stop().catch(() => {})
process.exit(faults.length === 0 ? 0 : 1)
